"""NVML through pynvml: against a library compiled here, and answers that one GPU gives and another does not."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.catalog.load import chips
from provision.detect import host_facts
from provision.model.readings import Readings
from provision.run import probe
from provision.run.command import run


def facts(readings: Readings) -> Any:
    return host_facts(readings, chips(), host="here")


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


def library(**answers: Any) -> SimpleNamespace:
    """As pynvml is: functions, error numbers, one exception."""

    def unsupported(*_: Any) -> Any:
        raise NVMLError(3)

    names = [
        *("nvmlDeviceGetPciInfo", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMigMode", "nvmlDeviceGetName"),
        *("nvmlDeviceGetCudaComputeCapability", "nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2"),
    ]
    return SimpleNamespace(
        NVMLError=NVMLError, NVML_ERROR_NOT_SUPPORTED=3, NVML_ERROR_FUNCTION_NOT_FOUND=13, NVML_ERROR_NOT_FOUND=6,
        NVML_ERROR_NO_PERMISSION=4, NVML_ERROR_INVALID_ARGUMENT=2,
        **{**dict.fromkeys(names, unsupported), **answers},
    )  # fmt: skip


def test_nvml_answers_become_facts() -> None:
    devices = ["MIG 0", "MIG 1"]

    def mig_device(_: str, index: int) -> str:
        if index >= len(devices):
            raise NVMLError(6)
        return devices[index]

    nvml = library(
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: f"gpu {index}",
        nvmlSystemGetDriverVersion=lambda: b"580.95.05",
        nvmlSystemGetCudaDriverVersion_v2=lambda: 13000,
        nvmlDeviceGetName=lambda handle: "NVIDIA H100 80GB HBM3" if handle == "gpu 0" else "NVIDIA GB10",
        nvmlDeviceGetPciInfo=lambda handle: SimpleNamespace(
            busId=b"00000000:01:00.0" if handle == "gpu 0" else b"0000000F:01:00.0",
            pciDeviceId=0x233010DE if handle == "gpu 0" else 0x2E1210DE,
        ),
        nvmlDeviceGetCudaComputeCapability=lambda handle: (9, 0) if handle == "gpu 0" else (12, 1),
        nvmlDeviceGetMigMode=lambda handle: [1, 1] if handle == "gpu 0" else (_ for _ in ()).throw(NVMLError(3)),
        nvmlDeviceGetMaxMigDeviceCount=lambda _: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=mig_device,
    )
    nvml.nvmlDeviceGetMemoryInfo = lambda handle: (
        SimpleNamespace(total=85520809984) if handle == "gpu 0" else (_ for _ in ()).throw(NVMLError(3))
    )
    found = facts(Readings({"nvml.json": json.dumps(probe._nvml_document(nvml))}))
    assert (found.driver.state, found.driver.version, found.driver.cuda_api_version) == ("working", "580.95.05", "13.0")
    h100, gb10 = found.gpus
    assert (h100.pci_id, h100.compute_capability, h100.memory_mib) == ("10de:2330", "9.0", 81559)
    assert (h100.mig.enabled, h100.mig.devices) == (True, 2)
    assert (gb10.pci_address, gb10.compute_capability, gb10.memory_mib, gb10.mig) == (
        "000f:01:00.0",
        "12.1",
        None,
        None,
    )


def test_an_error_that_no_gpu_should_give_is_not_swallowed() -> None:
    def lost(_: Any) -> Any:
        raise NVMLError(15)

    nvml = library(nvmlDeviceGetCount=lambda: 1, nvmlDeviceGetHandleByIndex=lambda _: "gpu", nvmlDeviceGetName=lost)
    with pytest.raises(NVMLError):
        probe._nvml_document(nvml)


LIBRARY = r"""
#include <string.h>
typedef struct { char old[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci_t;
typedef struct { unsigned long long total, free, used; } memory_t;
static int handles[2];
#ifndef INIT
#define INIT 0
#endif
int nvmlInit_v2(void) { return INIT; }
int nvmlInitWithFlags(unsigned flags) { return INIT; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int value) { return value == 18 ? "Driver/library version mismatch" : "some error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "580.95.05", size); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &handles[index]; return 0; }
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
  strncpy(text, handle == &handles[0] ? "NVIDIA GeForce RTX 5090" : "NVIDIA GB10", size);
  return 0;
}
int nvmlDeviceGetPciInfo_v3(void *handle, pci_t *pci) {
  memset(pci, 0, sizeof *pci);
  pci->id = handle == &handles[0] ? 0x2b8510de : 0x2e1210de;
  strcpy(pci->bus_id, handle == &handles[0] ? "00000000:01:00.0" : "0000000F:01:00.0");
  return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
  *major = 12;
  *minor = handle == &handles[0] ? 0 : 1;
  return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
  memory->total = 34190917632ULL;
  return handle == &handles[0] ? 0 : 3;
}
"""  # nvmlDeviceGetMigMode is missing on purpose: an old driver does not have it


@pytest.fixture
def real_nvml(tmp_path: Path) -> Callable[..., Readings]:
    """local_readings() of a machine with a libnvidia-ml.so.1, compiled here."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def ask_it(*options: str) -> Readings:
        (tmp_path / "nvml.c").write_text(LIBRARY)
        output = tmp_path / probe.NVML_LIBRARY
        soname = f"-Wl,-soname,{probe.NVML_LIBRARY}"
        command = [compiler, "-shared", "-fPIC", soname, *options, "-o", str(output), str(tmp_path / "nvml.c")]
        run(command).check("the library does not compile")
        program = "import json; from provision.run.probe import local_readings as read; "
        program += "print(json.dumps(dict(read().files)))"
        done = run([sys.executable, "-c", program], env={"LD_LIBRARY_PATH": str(tmp_path)})
        return Readings(json.loads(done.check("local_readings failed").stdout))

    return ask_it


def test_nvml_through_pynvml(real_nvml: Callable[..., Readings]) -> None:
    readings = real_nvml()
    assert "nvidia_smi_q.xml" not in readings.files  # not started: NVML has answered
    found = facts(readings)
    assert (found.driver.state, found.driver.version, found.driver.cuda_api_version) == ("working", "580.95.05", "13.0")
    assert [
        (gpu.name, gpu.pci_address, gpu.pci_id, gpu.compute_capability, gpu.memory_mib, gpu.mig, gpu.source)
        for gpu in found.gpus
    ] == [
        ("NVIDIA GeForce RTX 5090", "0000:01:00.0", "10de:2b85", "12.0", 32607, None, "nvml"),
        ("NVIDIA GB10", "000f:01:00.0", "10de:2e12", "12.1", None, None, "nvml"),
    ]


@pytest.mark.parametrize(("value", "state"), [(18, "mismatch"), (9, "not_loaded"), (999, "failed")])
def test_nvml_that_does_not_start(value: int, state: str, real_nvml: Callable[..., Readings]) -> None:
    readings = real_nvml(f"-DINIT={value}")
    assert json.loads(readings.files["nvml.json"])["error"] == value
    assert facts(readings).driver.state == state


def test_the_names_used_of_pynvml_are_there() -> None:
    """The real module, without a driver: what `library` stands for must exist."""
    import pynvml

    text = Path(probe.__file__).read_text()
    for name in set(re.findall(r"\bnvml\.((?:nvml|NVML)\w+)", text)):
        assert hasattr(pynvml, name), name
