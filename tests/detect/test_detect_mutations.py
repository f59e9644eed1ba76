"""No damage to real readings makes detection raise, hang, or print what is no JSON.

PROVISION_MUTATIONS sets how many (a nightly run takes 1000000); a failure names the seed that repeats it.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import pytest
from mutations import mutated

from provision.detect import host_facts
from provision.detect.mask import masked
from provision.model.chips import Chips
from provision.model.data import from_data, to_data
from provision.model.facts import Facts
from provision.model.readings import Readings
from provision.run.dump import read_dump

COUNT = int(os.environ.get("PROVISION_MUTATIONS", "10000"))
PARTS = 8
SLOWEST_S = 5.0
"""Of one host, on a busy machine; 2 ms is usual. A regular expression that backtracks takes minutes."""


@lru_cache(maxsize=1)
def originals() -> tuple[Mapping[str, str], ...]:
    here = Path(__file__).resolve()
    folders = [here.parents[1] / "hosts", here.parents[3] / "shared" / "hosts"]
    dumps = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if path.is_dir()]
    return tuple(read_dump(path).files for path in dumps)


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_readings_give_facts(part: int, chip_table: Chips) -> None:
    for seed in range(part, COUNT, PARTS):
        rng = random.Random(seed)  # noqa: S311
        readings = Readings(mutated(rng, rng.choice(originals())))
        began = time.process_time()
        try:
            facts = host_facts(readings, chip_table, host="damaged")
            document = to_data(facts)
            json.dumps(document, allow_nan=False).encode("utf-8")
            if seed % 20 == 0:
                assert from_data(Facts, document) == facts
                masked(readings)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        assert time.process_time() - began < SLOWEST_S, f"seed {seed} is slow"
