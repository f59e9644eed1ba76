"""Which of the driver's GPUs CUDA shows: its variables, MIG, and its own answer."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.nvml.player import host_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ALIKE = ("4090", "4090", "4090")
MIXED = ("1030", "4090", "3090")
BUS = "PCI_BUS_ID"


@pytest.fixture
def visible(load) -> Callable[..., Any]:
    """Three GPUs, GPU-a0…, GPU-a1… and GPU-b2… in the order of the bus, as CUDA shows them."""
    module = load("gpu_visible")

    def shown(
        asked: str | None, order: str | None = None, names: tuple[str, ...] = ALIKE, slices: Any = (None, None, None)
    ) -> tuple[int, ...] | None:
        uuids = ("GPU-a0-11", "GPU-a1-22", "GPU-b2-33")
        rows = zip(names, uuids, ("0000:01:00.0", "0000:41:00.0", "0000:81:00.0"), slices, strict=True)
        found: tuple[int, ...] | None = module.visible([module.Gpu(*row) for row in rows], asked, order)
        return found

    return shown


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (None, (0, 1, 2)),
        ("", ()),
        ("-1", ()),
        ("none", ()),
        ("1", (1,)),
        ("2,1", (1, 2)),
        (" 0 , 2 ", (0, 2)),
        ("0,2,-1,1", (0, 2)),  # the CUDA programming guide's own example
        ("0,3,1", (0,)),
        ("1,,0", (1,)),
        ("1gpu,2ampere", (1, 2)),  # as PyTorch found it
        ("+1", (1,)),
        ("0,0", ()),
        ("GPU-b", (2,)),
        ("GPU-b2-33", (2,)),
        ("GPU-a1,GPU-b", (1, 2)),
        ("GPU-a", ()),  # two begin so
        ("GPU-b,GPU-a,GPU-a1", (2,)),
        ("GPU-x", ()),
        ("GPU-b,0", (2,)),
        ("0,GPU-b", (0,)),
        ("GPU-b,GPU-b2", ()),
        ("b2-33", ()),
        ("MIG-c", ()),
    ],
)
def test_what_cuda_visible_devices_shows(visible, asked: str | None, shown: tuple[int, ...]) -> None:
    assert visible(asked, BUS) == visible(asked) == shown


@pytest.mark.parametrize(
    ("asked", "order", "shown"),
    [
        ("0", BUS, (0,)),
        ("0", None, None),
        ("0", "FASTEST_FIRST", None),
        ("0,1,2", None, (0, 1, 2)),
        ("GPU-a1", None, (1,)),
        (None, None, (0, 1, 2)),
        ("-1", None, ()),
    ],
)
def test_numbers_of_unlike_gpus_need_the_order_of_the_bus(visible, asked, order, shown) -> None:
    assert visible(asked, order, MIXED) == shown


@pytest.mark.parametrize(
    ("asked", "slices", "shown"),
    [
        (None, (None, ("MIG-c1", "MIG-c2"), ("MIG-d1",)), (1,)),
        ("0,1", (None, ("MIG-c1",), None), (1,)),
        ("0,2", (None, ("MIG-c1",), None), (0, 2)),
        ("MIG-d1", (None, ("MIG-c1",), ("MIG-d1",)), (2,)),
        ("MIG-c1,MIG-d1", (None, ("MIG-c1",), ("MIG-d1",)), (1,)),
        ("MIG-c", (None, ("MIG-c1", "MIG-c2"), None), ()),
        ("MIG-GPU-b2-33/1/0", (None, None, ("MIG-d1",)), (2,)),
        ("GPU-a1", (None, ("MIG-c1",), None), (1,)),
        ("1", (None, (), None), ()),  # MIG is on, and nothing is cut yet
        (None, ((), None, None), (1, 2)),
    ],
)
def test_mig_shows_one_device_and_no_whole_gpu_beside_it(visible, asked, slices, shown) -> None:
    assert visible(asked, BUS, slices=slices) == shown


def test_numbers_follow_the_bus_and_not_the_drivers_order(load) -> None:
    module = load("gpu_visible")
    found = [module.Gpu("A", "GPU-1", "0000:81:00.0"), module.Gpu("A", "GPU-2", "0000:01:00.0")]
    assert module.visible(found, "0", BUS) == (1,)


NAME = st.one_of(
    st.integers(-2, 5).map(str),
    st.sampled_from(["GPU-a0", "GPU-a1", "GPU-b", "GPU-a", "MIG-c1", "MIG-d1", "MIG-GPU-b2-33/1/0", "gpu0", ""]),
    st.text("0123GPUMIG-ab/, ", max_size=8),
)
SLICES = st.tuples(*[st.sampled_from([None, (), ("MIG-c1",), ("MIG-d1", "MIG-d2")])] * 3)
PROPERTIES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@PROPERTIES
@given(names=st.lists(NAME, max_size=5), slices=SLICES, order=st.sampled_from([None, BUS]))
def test_whatever_is_asked_is_answered_with_gpus_that_are_there(visible, names, slices, order) -> None:
    for models in (ALIKE, MIXED):
        shown = visible(",".join(names), order, models, slices)
        if shown is None:
            assert (models, order) == (MIXED, None)
            continue
        assert list(shown) == sorted({*shown} & {0, 1, 2})
        assert all(slices[place] != () for place in shown)
        assert len(shown) == 1 or all(slices[place] is None for place in shown)


@PROPERTIES
@given(names=st.lists(NAME, max_size=4), more=NAME, end=st.sampled_from(["-1", "", "x", "GPU-a", "9"]))
def test_what_stands_behind_a_wrong_name_does_not_count(visible, names, more, end) -> None:
    begun = ",".join([*names, end])
    assert visible(f"{begun},{more}", BUS) == visible(begun, BUS)


@PROPERTIES
@given(places=st.permutations([0, 1, 2]), count=st.integers(0, 3))
def test_numbers_uuids_and_their_beginnings_mean_the_same(visible, places, count) -> None:
    chosen = places[:count]
    numbers = visible(",".join(map(str, chosen)), BUS)
    assert numbers == visible(",".join(("GPU-a0-11", "GPU-a1-22", "GPU-b2-33")[place] for place in chosen), BUS)
    assert numbers == visible(",".join(("GPU-a0", "GPU-a1", "GPU-b")[place] for place in chosen), MIXED)
    assert numbers == tuple(sorted(chosen))


# --- what is asked of NVML and of CUDA -------------------------------------------------------------------------------


def test_nvml_tells_what_is_needed(load, nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    played = nvml("made-nvml-a100-mig-510")
    monkeypatch.setenv("NVML_HOST", str(played.host))
    with load("gpu_nvml").Nvml(str(played.library)) as library:
        (state,) = load("gpu_state").gpus(library)
        assert library.gpu(0).utilization() is None, "no driver tells it of a GPU with MIG on"
    assert state["gpu"] == load("gpu_visible").Gpu(
        "NVIDIA A100-SXM4-40GB", "GPU-00000000-0000-0000-0000-000000000001", "0000:00:04.0",
        ("MIG-00000000-0000-0000-0000-000000000001", "MIG-00000000-0000-0000-0000-000000000002"),
    )  # fmt: skip


@pytest.mark.parametrize("text", [host_text("made-nvml-h100-590"), host_text("made-nvml-gtx960-390")])
def test_a_gpu_without_mig_has_no_slices(load, nvml, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    played = nvml(text)
    monkeypatch.setenv("NVML_HOST", str(played.host))
    with load("gpu_nvml").Nvml(str(played.library)) as library:
        assert library.gpu(0).slices() is None


CUDA = r"""
#include <stdio.h>
static const char *const addresses[] = {"0000:62:00.0", "0000:0A:00.0"};
int cuInit(unsigned flags) { return flags || FAILS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 7; return ordinal < 2 ? 0 : 101; }
int cuDeviceGetPCIBusId(char *text, int size, int device) {
  return snprintf(text, (unsigned)size, "%s", addresses[device - 7]) < size ? 0 : 1;
}
"""


@pytest.fixture
def cuda(tmp_path: Path) -> Callable[[int], str]:
    """A libcuda.so.1 of two devices, with the entry points that are asked; ``fails``: what cuInit says."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler to build a libcuda with")

    def build(fails: int = 0) -> str:
        source, library = tmp_path / "cuda.c", tmp_path / f"libcuda-{fails}.so.1"
        source.write_text(CUDA)
        subprocess.run([compiler, "-shared", "-fPIC", f"-DFAILS={fails}", "-o", library, source], check=True)
        return str(library)

    return build


def test_cuda_tells_the_addresses_of_its_devices(load, cuda) -> None:
    addresses = load("gpu_visible").addresses
    assert addresses([1, 0], cuda()) == ["0000:0a:00.0", "0000:62:00.0"]
    assert addresses([0, 2], cuda()) == ["0000:62:00.0", None]
    assert addresses([0], cuda(100)) == [None]
    assert addresses([0, 1], "/nowhere/libcuda.so.1") == [None, None]
