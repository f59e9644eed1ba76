"""Is the framework that this image is for still there? Asks the environment's metadata; needs no site module."""

import json
import sys
from pathlib import Path

HERE = Path("/opt/provision")
NAMES = {"pytorch": ("torch",), "tensorflow": ("tensorflow", "tensorflow_cpu", "tf_nightly")}


def main() -> int:
    plan = json.loads((HERE / "plan.json").read_text(encoding="utf-8"))
    minor = "python%d.%d" % sys.version_info[:2]
    installed = HERE / "venv" / "lib" / minor / "site-packages"
    for stack in plan["stack"]:
        names = NAMES.get(stack["framework"], (stack["framework"],))
        if not any(next(installed.glob(name + "-*.dist-info"), None) for name in names):
            print("%s is not in %s" % (stack["framework"], installed), file=sys.stderr)
            return 1
    return 0


sys.exit(main())
