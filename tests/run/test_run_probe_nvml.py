"""NVML through pynvml and a library compiled here: each host of tests/hosts, each error, drivers that hang or die."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest
from harness.nvml.player import HOSTS, NvmlPlayer, host_text, with_answer

from provision.catalog.load import chips
from provision.detect import host_facts
from provision.model.facts import Facts
from provision.model.readings import Readings
from provision.run import nvml as asking
from provision.run import nvml_answers, probe
from provision.run.nvml import is_silent, is_whole, nvml_reading

Play = Callable[[str | Path], NvmlPlayer]
Ask = Callable[..., dict[str, Any]]

NAMES = sorted(path.parent.name for path in HOSTS.glob("*/nvml_host"))
ERRORS = sorted(getattr(pynvml, name) for name in dir(pynvml) if name.startswith("NVML_ERROR_"))
MATES = "made-nvml-2xrtx4090-535"
GONE = {1, 8, 9, 10, 11, 15, 16, 17, 18, 28}
"""nvmlReturn_t that are of the GPU and not of the question."""
UNKNOWN = {2, 3, 4, 6, 13}
"""Those that mean: no answer to this question here."""


def facts(document: dict[str, Any]) -> Facts:
    return host_facts(Readings({"nvml.json": json.dumps(document)}), chips(), host="here")


@pytest.fixture
def ask(nvml: Play, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """ask(host): what NVML says of the host, as nvml.json; {} where it is not there."""

    def reading(host: str | Path, **options: Any) -> dict[str, Any]:
        for name, value in nvml(host).env.items():
            monkeypatch.setenv(name, value)
        document: dict[str, Any] = json.loads(nvml_reading(**options) or "{}")
        return document

    return reading


@pytest.mark.parametrize("name", NAMES)
def test_the_reading_of_each_host(name: str, ask: Ask, golden: Callable[[Path, str], None]) -> None:
    document = ask(name)
    golden(HOSTS / name / "nvml.json", json.dumps(document, indent=1) + "\n")
    assert is_whole(json.dumps(document)) == ("lost" not in name)


def test_a_gpu_that_is_lost_does_not_lose_the_other(ask: Ask) -> None:
    found = facts(ask("made-nvml-2xrtx4090-lost-535"))
    assert [(gpu.name, gpu.pci_address) for gpu in found.gpus] == [("NVIDIA GeForce RTX 4090", "0000:41:00.0")]
    assert found.driver.state == "working"
    assert found.driver.detail == 'NVML lists 1 GPU with driver 535.113.01; of 1 more it says "GPU is lost"'


def test_a_gpu_lost_between_two_questions_keeps_its_address(ask: Ask) -> None:
    lost = ask(with_answer(host_text(MATES), "nvmlDeviceGetMemoryInfo", 15, gpu=1))["gpus"][1]
    assert (lost["bus_id"], lost["name"], lost["error"]) == (
        "00000000:61:00.0",
        "NVIDIA GeForce RTX 4090",
        "GPU is lost",
    )
    assert "memory_bytes" not in lost


def test_all_gpus_lost(ask: Ask) -> None:
    text = with_answer(with_answer(host_text(MATES), "*", 15, gpu=1), "*", 15, gpu=0)
    driver = facts(ask(text)).driver
    assert (driver.state, driver.detail) == ("failed", 'NVML says of every GPU: "GPU is lost"')
    assert driver.version == "535.113.01"


def test_a_lost_gpu_is_the_one_that_only_the_bus_shows(ask: Ask) -> None:
    """NVML says neither its name nor its address."""
    bus = "".join(f"0000:{at}:00.0 10de:2684 030000 nvidia\n" for at in ("41", "61"))
    document = ask("made-nvml-2xrtx4090-lost-535")
    readings = Readings({"nvml.json": json.dumps(document), "sys_bus_pci_devices": bus})
    found = host_facts(readings, chips(), host="here")
    assert [(gpu.pci_address, gpu.source) for gpu in found.gpus] == [("0000:41:00.0", "nvml"), ("0000:61:00.0", "pci")]
    assert found.nvidia is not None
    assert [gpu.error for gpu in found.nvidia.gpus] == [None, "GPU is lost"]
    lost = [(each.id, each.what) for each in found.findings if each.severity == "error"]
    assert lost == [("gpu_lost", "the GPU at 0000:61:00.0 does not answer")]
    assert not any(each.id == "gpu_not_driven" for each in found.findings)  # it is, and the driver says what ails it


@pytest.mark.parametrize("value", ERRORS)
@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount_v2"])
def test_each_error_before_any_gpu(function: str, value: int, ask: Ask) -> None:
    document = ask(with_answer(host_text(MATES), function, value))
    assert document.keys() == {"error", "message"}
    assert document["error"] == value
    found = facts(document)
    expected = {9: "not_loaded", 18: "mismatch", 12: "unknown"}.get(value, "failed")  # 12: the other readings tell
    assert found.driver.state == expected
    assert (f'"{document["message"]}" ({value})' in found.driver.detail) == (value != 12)
    assert found.gpus == ()


@pytest.mark.parametrize("value", ERRORS)
def test_each_error_at_a_handle(value: int, ask: Ask) -> None:
    first, second = ask(with_answer(host_text(MATES), "nvmlDeviceGetHandleByIndex_v2", value, gpu=0))["gpus"]
    assert first.keys() == {"index", "denied" if value == 4 else "error"}
    assert second["name"] == "NVIDIA GeForce RTX 4090"


@pytest.mark.parametrize("value", ERRORS)
@pytest.mark.parametrize("function", ["nvmlDeviceGetName", "nvmlDeviceGetMemoryInfo"])
def test_each_error_at_a_question(function: str, value: int, ask: Ask) -> None:
    """The GPU beside it is whole; this one keeps its address, and has lost no more than it must."""
    first, second = ask(with_answer(host_text(MATES), function, value, gpu=0))["gpus"]
    assert first["bus_id"] == "00000000:41:00.0"
    assert (second["name"], second["memory_bytes"]) == ("NVIDIA GeForce RTX 4090", 24564 << 20)
    names_it = function == "nvmlDeviceGetName"
    assert ("error" in first) == (value in GONE or (names_it and value not in UNKNOWN))
    if "error" not in first:
        assert first["name" if names_it else "memory_bytes"] is None
        assert first["temperature_c"] == 35


def test_the_words_are_nvmls_own(ask: Ask) -> None:
    """pynvml has others for a mismatch, and for numbers newer than its table what looks like a Python value."""
    words = {value: ask(with_answer(host_text(MATES), "nvmlInit", value))["message"] for value in (9, 18, 29, 30, 999)}
    assert words == {
        9: "Driver Not Loaded",
        18: "Driver/library version mismatch",
        29: "Invalid state",
        30: "Unknown Error",
        999: "Unknown Error",
    }


def test_health_of_an_ill_gpu(ask: Ask) -> None:
    text = host_text("made-nvml-h100-590")
    text = text.replace("throttle 0x1", "throttle 0x1C8").replace("pcie 16 16 5 5 5", "pcie 4 16 1 4 5")
    text = text.replace("69850 700000 700000", "69850 350000 700000").replace("persistence 1", "persistence 0")
    gpu = ask(text)["gpus"][0]
    assert gpu["throttle"] == [
        "hw_slowdown",
        "hw_thermal_slowdown",
        "hw_power_brake_slowdown",
        "display_clocks_setting",
    ]
    assert gpu["pcie"] == [4, 16, 1, 5]
    assert (gpu["power_limit_w"], gpu["power_default_w"], gpu["persistence"]) == (350.0, 700.0, False)
    assert (gpu["temperature_c"], gpu["clock_sm_mhz"], gpu["clock_sm_max_mhz"]) == (41, 345, 1980)
    nvidia = facts({"gpus": [gpu]}).nvidia
    assert nvidia is not None
    assert (nvidia.gpus[0].pcie_width, nvidia.gpus[0].pcie_generation_max, nvidia.gpus[0].power_limit_w) == (4, 5, 350)
    assert nvidia.gpus[0].throttle == tuple(gpu["throttle"])


def test_mig_devices_are_counted(ask: Ask) -> None:
    (gpu,) = facts(ask("made-nvml-a100-mig-510")).gpus
    assert gpu.mig is not None
    assert (gpu.mig.enabled, gpu.mig.devices, gpu.memory_mib) == (True, 2, 40960)
    text = host_text("made-nvml-a100-mig-510")
    (bare,) = facts(ask(text[: text.index("  mig\n")])).gpus
    assert bare.mig is not None
    assert (bare.mig.enabled, bare.mig.devices) == (True, 0)


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount_v2", "nvmlDeviceGetName"])
def test_a_driver_that_never_answers(function: str, ask: Ask) -> None:
    document = ask(with_answer(host_text(MATES), function, "hang"), timeout_s=0.7)
    assert document == {"error": -2, "message": "NVML gave no answer within 0.7 s"}
    assert is_silent(json.dumps(document))
    driver = facts(document).driver
    assert (driver.state, driver.detail) == ("failed", "NVML gave no answer within 0.7 s")


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetTemperatureV"])
def test_a_driver_that_ends_the_process_that_asks(function: str, ask: Ask) -> None:
    host = "made-nvml-h100-590"
    document = ask(with_answer(host_text(host), function, "crash"))
    assert document == {"error": -1, "message": "NVML ended the process that asked it: SIGSEGV"}
    assert not is_silent(json.dumps(document))  # nvidia-smi is asked: it may say more
    assert facts(document).driver.state == "failed"


@pytest.mark.parametrize(
    ("answer", "asked"),
    [(0, False), (18, True), ("crash", True), ("hang", False)],
    ids=["works", "18", "dies", "hangs"],
)
def test_nvidia_smi_is_asked_where_it_can_help(
    answer: int | str, asked: bool, nvml: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a hang it would hang too: it asks the same library."""
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexit 255\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in nvml(with_answer(host_text(MATES), "nvmlInit", answer)).env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(probe, "nvml_reading", lambda: nvml_reading(timeout_s=3.0))
    readings = probe.local_readings()
    assert "nvml.json" in readings.files
    assert (tmp_path / "asked").exists() == asked


def test_a_library_older_than_pynvml_knows(ask: Ask) -> None:
    """nvidia-smi is asked then: it came with the library."""
    document = ask("without nvmlInitWithFlags nvmlErrorString\n" + host_text("made-nvml-4xk80-470"))
    assert document == {"error": 13, "message": "Function Not Found"}
    assert not is_whole(json.dumps(document))


def test_what_the_library_does_at_its_end_is_not_waited_for(ask: Ask) -> None:
    began = time.monotonic()
    assert ask(with_answer(host_text(MATES), "nvmlShutdown", "hang"))["driver_version"] == "535.113.01"
    assert time.monotonic() - began < asking.TIMEOUT_S


def test_a_library_that_cannot_be_loaded_is_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (tmp_path / asking.LIBRARY).write_bytes(b"")
    assert asking.is_installed()
    assert nvml_reading() is None


def test_a_library_cut_by_a_full_disk_ends_only_the_process_that_loads_it(
    nvml: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nvml(MATES).library.read_bytes()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    for size in (64, 1024, 4096, 8192, len(whole) // 2, len(whole) - 4096):
        (tmp_path / asking.LIBRARY).write_bytes(whole[:size])
        document = json.loads(nvml_reading() or "null")
        assert document is None or document["error"] == -1, size


def test_where_no_library_is_no_process_is_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(asking, "FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(asking, "CACHE", tmp_path / "ld.so.cache")
    monkeypatch.setattr(asking, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert nvml_reading() is None


def test_the_loaders_cache_names_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(asking, "FOLDERS", ())
    monkeypatch.setattr(asking, "CACHE", tmp_path / "ld.so.cache")
    asking.CACHE.write_bytes(b"glibc-ld.so.cache1.1\0libnvidia-ml.so.1\0/usr/lib/libnvidia-ml.so.1\0")
    assert asking.is_installed()
    asking.CACHE.write_bytes(b"glibc-ld.so.cache1.1\0libnvidia-ml.so.10\0")
    assert not asking.is_installed()


def test_the_names_used_of_pynvml_are_there() -> None:
    """The real module, without a driver."""
    names = set(re.findall(r"\bnvml\.((?:nvml|NVML)\w+)", Path(nvml_answers.__file__).read_text()))
    assert len(names) > 30
    for name in names:
        assert hasattr(pynvml, name), name
