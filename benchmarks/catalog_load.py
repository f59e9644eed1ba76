"""How long the catalog takes to read, what pydantic would add, and a plan: python benchmarks/catalog_load.py"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

RUNS = 15
HOST = Path(__file__).parents[1] / "tests" / "hosts" / "made-ubuntu2404-zen5-rtx5090-nodriver"
CASES = {
    "import provision.catalog": "import provision.catalog",
    "chips()": "from provision.catalog import chips; start = clock(); chips()",
    "catalog()": "from provision.catalog import catalog; start = clock(); catalog()",
    "pydantic: import and schemas": (
        "from provision.catalog import tables, releases; start = clock(); import pydantic; "
        "[pydantic.TypeAdapter(kind) for _, _, kind in tables.ROWS.values()]; "
        "pydantic.TypeAdapter(releases._ReleaseRow)"
    ),
    "plan of three frameworks, 8 GPUs": (
        "from dataclasses import replace; from pathlib import Path; from provision.catalog import catalog, chips; "
        "from provision.detect import host_facts; from provision.resolve import plan_for; "
        "from provision.resolve.request import parse_request; from provision.run.dump import read_dump; "
        f"facts = host_facts(read_dump(Path({str(HOST)!r})), chips(), host='made'); "
        "facts = replace(facts, gpus=facts.gpus[:1] * 8); "
        "request = parse_request(frameworks=('pytorch', 'tensorflow', 'keras'), catalog=catalog()); "
        "tables = catalog(); start = clock(); plan_for(facts, request, tables)"
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
