"""The program's entry: ``python -m provision`` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    try:
        from provision.cli.app import run
    except KeyboardInterrupt:  # in the first tenth of a second
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
