"""minimal.py EPOCH ROOTFS: below ROOTFS what the environment needs of the distribution, and nothing else of it.

The loader, the shared libraries that anything in the environment asks for, Python with its standard library, a shell,
the init, certificates, the users, the C.UTF-8 locale.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PROGRAMS = ("/bin/sh", "/usr/bin/tini", "/usr/bin/env")
LIBRARIES = ("libgcc_s.so.1", "libstdc++.so.6", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
"""Besides those that files ask for: loaded by name at run time (when threads end, for host names), or by libraries of
the driver."""
FILES = (
    "/etc/group", "/etc/host.conf", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
    "/etc/mime.types", "/etc/nsswitch.conf", "/etc/os-release", "/etc/passwd", "/etc/protocols", "/etc/services",
    "/etc/ssl/certs/ca-certificates.crt", "/usr/lib/locale/C.utf8", "/usr/lib/os-release",
    "/usr/share/zoneinfo/UTC", "/usr/share/zoneinfo/Etc/UTC",
)  # fmt: skip
FOLDERS = ("dev", "etc", "home", "proc", "run", "sys", "tmp", "usr/bin", "usr/lib", "usr/local/bin", "var/tmp")
STUBS = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
"""The engine mounts over these. Where they are missing it makes them, with the time of the build."""
LEFT_OUT = (
    "test", "tests", "idlelib", "ensurepip", "lib2to3", "pydoc_data", "tkinter", "turtledemo", "turtle.py",
    "distutils/tests", "unittest/test", "ctypes/test", "sqlite3/test", "site-packages", "dist-packages",
    "EXTERNALLY-MANAGED",
)  # fmt: skip
"""Of the standard library: tests, the editor, the installer, the 2-to-3 converter, the manual."""
BUILDERS = frozenset(
    "PATH HOME HOSTNAME PWD OLDPWD SHLVL _ TERM DEBIAN_FRONTEND EPOCH PYTHON PYTHON_PREFERENCE MINIMAL "
    "LC_ALL PYTHONHASHSEED SOURCE_DATE_EPOCH".split()
)
"""Variables of this stage alone. All else comes from the base image's own ENV."""


class Root:
    """The tree that is made."""

    def __init__(self, path):
        self.path = Path(path)

    def at(self, path):
        return self.path / str(path).lstrip("/")

    def parent(self, path):
        """Folders above ``path``, those that are links ("/lib" to "usr/lib") as links. The real path of the parent."""
        parent = path.parent
        if parent == path:
            return path
        above = self.parent(parent)
        here = above / parent.name if parent.name else above
        if here.is_symlink():
            link = self.at(here)
            if not os.path.lexists(str(link)):
                os.symlink(os.readlink(str(here)), str(link))
            here = Path(os.path.realpath(str(here)))
            self.parent(here / "x")
        self.at(here).mkdir(exist_ok=True)
        shutil.copystat(str(here), str(self.at(here)))
        return here

    def add(self, path, skip=()):
        """A file, a link with what it points to, or a folder; nothing where there is none."""
        path = Path(path)
        if not os.path.lexists(str(path)):
            return
        real = self.parent(path) / path.name
        target = self.at(real)
        if os.path.lexists(str(target)) and not real.is_dir():
            return
        if real.is_symlink():
            os.symlink(os.readlink(str(real)), str(target))
            self.add(Path(os.path.normpath(os.path.join(str(real.parent), os.readlink(str(real))))))
        elif real.is_dir():
            target.mkdir(exist_ok=True)
            for each in sorted(real.iterdir()):
                if each not in skip:
                    self.add(each, skip)
            shutil.copystat(str(real), str(target))
        else:
            shutil.copy2(str(real), str(target))


def is_elf(path):
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def elves(folder):
    return [
        path for path in sorted(Path(folder).rglob("*")) if not path.is_symlink() and path.is_file() and is_elf(path)
    ]


def libraries(paths):
    """Absolute paths of the shared libraries and loaders that the files ask for, all levels deep."""
    #         libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f…)
    #         /lib64/ld-linux-x86-64.so.2 (0x00007f…)
    found = set()
    for start in range(0, len(paths), 50):
        done = subprocess.run(
            ["ldd", *map(str, paths[start : start + 50])], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        found.update(re.findall(r"(?:=>|^)\s*(/\S+) \(0x", done.stdout.decode(), re.MULTILINE))
    return sorted(path for path in found if not path.startswith("/opt/provision/"))


def by_name(name):
    done = subprocess.run(["ldconfig", "-p"], stdout=subprocess.PIPE, check=True)
    return re.findall(r"^\s*%s \(.*x86-64.*\) => (\S+)$" % re.escape(name), done.stdout.decode(), re.MULTILINE)[:1]


def python_files():
    """Of the interpreter below the environment, where it is the distribution's: itself and its standard library."""
    if sys.base_prefix.startswith("/opt/provision"):
        return [], []
    program = Path(sys.executable).resolve()
    names = ["/usr/bin/python3", str(program)]
    library = Path(sysconfig.get_path("stdlib"))
    return names, [library]


def base_environment():
    """What the base's own ENV says, line by line."""
    return [
        "%s=%s\n" % (name, value)
        for name, value in sorted(os.environ.items())
        if re.match(r"[A-Za-z_][A-Za-z0-9_]*$", name)
        and name not in BUILDERS
        and not re.match(r"UV_|.*_proxy$", name, re.IGNORECASE)
        and "\n" not in value
    ]


def main():
    root = Root(sys.argv[2])
    root.path.mkdir(parents=True)
    programs, stdlib = python_files()
    for name in (*PROGRAMS, *programs, *FILES):
        root.add(name)
    for library in stdlib:
        root.add(library, skip={library / name for name in LEFT_OUT} | set(library.glob("config-3*")))
    lines = base_environment()
    for line in lines:
        value = line.rstrip("\n").partition("=")[2]
        if value.startswith(("/etc/", "/usr/share/")) and os.path.isfile(value):
            root.add(value)  # SSL_CERT_FILE and relatives
    asking = [Path(name).resolve() for name in (*PROGRAMS, *programs) if os.path.exists(name)]
    asking += elves("/opt/provision") + [path for library in stdlib for path in elves(library)]
    for library in libraries(asking):
        root.add(library)
    for name in LIBRARIES:
        for path in by_name(name):
            root.add(path)
    for name in FOLDERS:
        root.at(name).mkdir(parents=True, exist_ok=True)
    for name in STUBS:
        root.at(name).touch()
    for name in ("tmp", "var/tmp"):
        root.at(name).chmod(0o1777)
    for name in ("/home/provision", "/work"):
        root.at(name).mkdir(parents=True, exist_ok=True)
        os.chown(str(root.at(name)), 1000, 1000)
    Path("/opt/provision/base-environment").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
