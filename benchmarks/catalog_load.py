"""How long the catalog takes to read, and what pydantic would add: python benchmarks/catalog_load.py"""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 15
CASES = {
    "import provision.catalog": "import provision.catalog",
    "chips()": "from provision.catalog import chips; start = clock(); chips()",
    "catalog()": "from provision.catalog import catalog; start = clock(); catalog()",
    "pydantic: import and schemas": (
        "from provision.catalog import tables, releases; start = clock(); import pydantic; "
        "[pydantic.TypeAdapter(kind) for _, _, kind in tables.ROWS.values()]; "
        "pydantic.TypeAdapter(releases._ReleaseRow)"
    ),
}


def measure(code: str) -> list[float]:
    """Milliseconds in fresh processes."""
    program = f"from time import perf_counter as clock; start = clock(); {code}; print((clock() - start) * 1000)"
    argv = [sys.executable, "-c", program]
    return [float(subprocess.run(argv, capture_output=True, text=True, check=True).stdout) for _ in range(RUNS)]


def main() -> None:
    print(f"{'':32} {'median ms':>10} {'best ms':>8}   ({RUNS} fresh processes each)")
    for name, code in CASES.items():
        found = measure(code)
        print(f"{name:32} {statistics.median(found):10.1f} {min(found):8.1f}")


if __name__ == "__main__":
    main()
