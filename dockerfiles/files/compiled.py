"""compiled.py EPOCH FOLDER...: byte code for every module, the same bytes in every build.

The files' times go to EPOCH at the latest first: byte code of the usual kind (by time) names its source's time and
size. That kind is taken because it is as quick to import as one that is never checked, and unlike that one it notices a
module that somebody edits or copies over in the image; one that is checked by hash reads every source again at each
import. What a code object's bytes are depends on the order of sets, so on the hash seed, and on what the process
compiled before: the seed is 0, and each worker gets the same modules in the same order whatever the others do.
"""

import os
import py_compile
import sys
import warnings
from pathlib import Path

WORKERS = 4


def clamped(folder, epoch):
    """No file below ``folder`` is newer than ``epoch``."""
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(where, name)
            if os.lstat(path).st_mtime > epoch:
                os.utime(path, (epoch, epoch), follow_symlinks=False)


def modules(folder):
    return sorted(path for path in Path(folder).rglob("*.py") if path.is_file() and not path.is_symlink())


def compiled(paths):
    """A module in another syntax (templates, tests of parsers) is left without byte code: nobody imports it."""
    warnings.simplefilter("ignore")
    for path in paths:
        try:
            py_compile.compile(str(path), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
        except (py_compile.PyCompileError, SyntaxError, ValueError, RecursionError) as error:
            print("  without byte code: %s (%s)" % (path, type(error).__name__))


def main():
    epoch, folders = int(sys.argv[1]), [each for each in sys.argv[2:] if os.path.isdir(each)]
    found = []
    for folder in folders:
        clamped(folder, epoch)
        found += modules(folder)
    children = []
    for number in range(WORKERS):
        child = os.fork()
        if child == 0:
            compiled(found[number::WORKERS])
            sys.stdout.flush()
            os._exit(0)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    print("  %d modules" % len(found))
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.flags.hash_randomization:
        # -I ignores PYTHONHASHSEED: the second time without it, where nothing can be imported by mistake
        os.chdir("/")
        os.execve(sys.executable, [sys.executable, "-s", *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
