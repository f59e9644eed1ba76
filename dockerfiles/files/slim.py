"""slim.py RULES VENV: remove and strip what the rules name, below the environment's site-packages. Says what it saved.

RULES is a JSON list of {"remove": [glob ...], "strip": [glob ...], "why": text}. A rule that matches nothing is no
error: releases differ. A file that strip refuses is left as it was.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MIB = 1 << 20
OWN = ("*.dist-info/uv_cache.json", "*.dist-info/uv_build.json", "*.dist-info/REQUESTED")
"""What an installer keeps for itself: times of local wheels are among it, which differ from build to build."""


def size(path):
    """Bytes of a file, or of all files below a folder."""
    if path.is_dir() and not path.is_symlink():
        return sum(size(each) for each in path.iterdir())
    return path.lstat().st_size


def removed(root, patterns):
    freed = 0
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if not os.path.lexists(str(path)):
                continue  # it went with its folder
            freed += size(path)
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(str(path))
            else:
                path.unlink()
    return freed


def listed_anew(root):
    """Each RECORD without what is gone: it names an installer's own file by a hash that no other build has."""
    for record in sorted(root.glob("*.dist-info/RECORD")):
        with record.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row and os.path.lexists(os.path.join(str(root), row[0]))]
        with record.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def is_elf(path):
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def stripped(root, patterns):
    paths = sorted({path for pattern in patterns for path in root.glob(pattern) if is_elf(path)})
    freed = 0
    for path in paths:
        before = path.stat()
        done = subprocess.run(
            ["strip", "--strip-unneeded", "-p", str(path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode:
            words = done.stdout.decode(errors="replace").strip()
            print("  left as it was: %s (%s)" % (path.relative_to(root), words))
        freed += before.st_size - path.stat().st_size
    return freed


def site_packages(venv):
    return next(path for path in sorted((venv / "lib").iterdir()) if re.match(r"python3", path.name)) / "site-packages"


def main():
    rules, venv = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    root = site_packages(venv)
    removed(root, OWN)
    for name in (".lock", ".gitignore", "CACHEDIR.TAG"):
        if (venv / name).exists():
            (venv / name).unlink()
    # all that goes before anything is stripped: what is removed need not be read
    freed = [removed(root, rule["remove"]) for rule in rules]
    listed_anew(root)
    for number, rule in enumerate(rules):
        freed[number] += stripped(root, rule["strip"])
        if freed[number]:
            print("  %6.1f MiB: %s" % (freed[number] / MIB, rule["why"]))
    print("  %6.1f MiB in all" % (sum(freed) / MIB))


if __name__ == "__main__":
    main()
