"""The program's entry: ``python -m provision`` and the console script."""

from __future__ import annotations


def main() -> None:
    from provision.cli.app import run

    run()


if __name__ == "__main__":
    main()
