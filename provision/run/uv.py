"""uv: the program that makes environments, for this machine and for targets of another kind."""

from __future__ import annotations

import atexit
import errno
import hashlib
import os
import platform
import re
import shutil
import sysconfig
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from provision.errors import StepFailed, UsageError
from provision.run.command import Completed, run

PLATFORMS = {
    # the oldest C library that uv publishes a wheel for: its binary then runs on every newer one
    "x86_64": "x86_64-manylinux_2_17",
    "aarch64": "aarch64-manylinux_2_28",
    "riscv64": "riscv64-unknown-linux",
}
RESPECTED = (
    "UV_CACHE_DIR",
    "UV_CONCURRENT_DOWNLOADS",
    "UV_CONFIG_FILE",
    "UV_DEFAULT_INDEX",
    "UV_EXTRA_INDEX_URL",
    "UV_HTTP_RETRIES",
    "UV_HTTP_TIMEOUT",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_KEYRING_PROVIDER",
    "UV_NATIVE_TLS",
    "UV_NO_CACHE",
    "UV_OFFLINE",
    "UV_SYSTEM_CERTS",
)
"""A user's settings about how packages are reached. Those about what is chosen (UV_PYTHON, UV_RESOLUTION, UV_CONSTRAINT
…) are not: the plan decides that, and UV_PYTHON even beats VIRTUAL_ENV."""
UNWRITABLE = r"\(os error (?:13|28|30|122)\)"
"""How uv ends EACCES, ENOSPC, EROFS and EDQUOT."""
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Uv:
    """One uv binary that lies on this machine, whatever machine it is for."""

    path: Path
    version: str
    sha256: str


def uv_for(arch: str | None, *, cancel: threading.Event | None = None) -> Uv:
    """The uv for a target's machine: the installed one, or the same version's wheel for another machine.

    ``arch`` is as uname prints it; None stands for this machine's. Raises StepFailed where there is none.
    """
    own = arch is None or arch == platform.machine()
    path = installed() if own else _fetched(str(arch), cancel)
    return Uv(path=path, version=version(), sha256=sha256(path))


def ready() -> None:
    """To be called before threads are: of CPython's sysconfig only the first call fills its table, and another thread
    that asks meanwhile finds it half empty ("can only concatenate str (not "NoneType") to str")."""
    sysconfig.get_config_vars()


def installed() -> Path:
    """The binary of the installed ``uv`` package."""
    import uv

    try:
        return Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise StepFailed(
            what="uv is not installed beside provision",
            why=str(error),
            hint="start provision with ./run, which installs it",
        ) from error


@lru_cache
def version() -> str:
    from importlib.metadata import version as installed_version

    return installed_version("uv")


def run_uv(arguments: Sequence[str], *, cancel: threading.Event | None = None) -> Completed:
    """Run the installed uv with the user's settings about reaching packages, and no others.

    Where its usual cache cannot be written, it works with one that is gone afterwards.
    """
    other = [name for name in os.environ if name.startswith("UV_") and not respected(name)]
    argv, plain = [str(installed()), *arguments], {"UV_NO_PROGRESS": "1"}
    done = run(argv, env=plain, unset=other, cancel=cancel)
    named = any(os.environ.get(name) for name in ("UV_CACHE_DIR", "UV_NO_CACHE"))
    if done.ok or named or not re.search(UNWRITABLE, done.stderr):
        return done
    return run(argv, env={**plain, "UV_NO_CACHE": "1"}, unset=other, cancel=cancel)


def respected(name: str) -> bool:
    # UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD are how uv takes an index's credentials
    return name in RESPECTED or (name.startswith("UV_INDEX_") and name.endswith(("_USERNAME", "_PASSWORD")))


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The user's uv settings that are respected."""
    return {name: value for name, value in sorted(environ.items()) if respected(name)}


def sha256(path: Path) -> str:
    """The hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def cache_folder(name: str) -> Path:
    """Where this user's caches of provision lie. Raises UsageError for a user without a home folder."""
    import platformdirs

    try:
        return platformdirs.user_cache_path("provision") / name
    except RuntimeError as error:
        raise UsageError(
            what="this user has no home folder",
            why=f"HOME is not set, and user {os.getuid()} is not in the password file",
            hint="set HOME to a folder that you may write to: HOME=FOLDER",
        ) from error


def _fetched(arch: str, cancel: threading.Event | None) -> Path:
    kept = cache_folder("uv") / f"{version()}-{arch}" / "uv"
    if arch not in PLATFORMS:
        raise StepFailed(
            what=f"there is no uv for {arch}",
            why=f"uv {version()} is published for {', '.join(PLATFORMS)}",
            hint="no environment can be made on this machine",
        )
    try:
        return kept if kept.is_file() else _kept(arch, kept, cancel)
    except PermissionError:
        return _for_this_run(arch, cancel)
    except OSError as error:
        if error.errno == errno.EROFS:
            return _for_this_run(arch, cancel)
        raise _unwritable(arch, error) from error


def _for_this_run(arch: str, cancel: threading.Event | None) -> Path:
    """In a folder that is removed when provision ends: hosts are sent the binary later."""
    try:
        folder = tempfile.mkdtemp(prefix="provision-uv-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return _kept(arch, Path(folder) / "uv", cancel)
    except OSError as error:
        raise _unwritable(arch, error) from error


def _unwritable(arch: str, error: OSError) -> StepFailed:
    return StepFailed(
        what=f"uv for {arch} cannot be kept on this machine",
        why=str(error),
        hint="make room, or use another folder: XDG_CACHE_HOME=FOLDER",
    )


def _kept(arch: str, kept: Path, cancel: threading.Event | None) -> Path:
    """The binary, at ``kept``. Raises OSError, StepFailed."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        _download(arch, Path(folder), cancel)
        made = Path(folder) / "made"
        shutil.copyfile(Path(folder) / "package" / "bin" / "uv", made)
        made.chmod(0o755)
        made.replace(kept)
    return kept


def _download(arch: str, folder: Path, cancel: threading.Event | None) -> None:
    """Unpack uv's wheel for ``arch`` under ``folder``/package, its hash checked against the index's."""
    what = f"uv for {arch} cannot be fetched"
    hint = f"the host is {arch}: provision has to bring it a uv {version()} from the package index"
    wanted = folder / "wanted.txt"
    wanted.write_text(f"uv=={version()}\n", encoding="utf-8")
    for_arch = ["--python-platform", PLATFORMS[arch], "--only-binary", ":all:", "--directory", str(folder), "--quiet"]
    lock = folder / "lock.txt"
    compiled = ["pip", "compile", *for_arch, "--generate-hashes", "--output-file", str(lock), str(wanted)]
    run_uv(compiled, cancel=cancel).check(what, hint)
    into = ["--no-deps", "--require-hashes", "--target", str(folder / "package"), "-r", str(lock)]
    run_uv(["pip", "install", *for_arch, *into], cancel=cancel).check(what, hint)
