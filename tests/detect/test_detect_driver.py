"""Driver states, each from the words that tell it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from provision.model.facts import Facts

FactsOf = Callable[[Mapping[str, str]], Facts]

CARD = "01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GM206 [GeForce GTX 960] [10de:1401] (rev a1)\n"
NVRM = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 09:55:41 UTC 2025\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.09  Release Build  (dvs-builder@U22)\n"
NOT_FOUND = {"nvidia_smi_q.xml": "nvidia-smi: not found\n", "nvidia_smi_q.xml.status": "127"}
LOADED = "nvidia 39141376 111 nvidia_uvm, Live 0xffffffffc15b1000 (POE)\n"

CASES: dict[str, tuple[dict[str, str], str]] = {
    "no card, no driver": ({"sys_bus_pci_devices": "", **NOT_FOUND, "proc_modules": ""}, "absent"),
    "card, no driver": ({"lspci_nn": CARD, **NOT_FOUND, "proc_modules": "ext4 1 0 - Live 0x0\n"}, "absent"),
    "card, nobody looked": ({"lspci_nn": CARD}, "unknown"),
    "nouveau is loaded": ({"lspci_nn": CARD, "proc_modules": "nouveau 3100672 14 - Live 0x0\n"}, "nouveau"),
    "nouveau is bound": ({"sys_bus_pci_devices": "0000:01:00.0 10de:1401 030000 nouveau\n", **NOT_FOUND}, "nouveau"),
    "the I2C driver of a card is no driver": (
        {"lspci_nn": CARD, **NOT_FOUND, "proc_modules": "i2c_nvidia_gpu 16384 0 - Live 0x0\n"},
        "absent",
    ),
    "module not loaded": (
        {"lspci_nn": CARD, "proc_modules": "", "modinfo_nvidia_vermagic": "vermagic:       6.1.0 SMP\n"},
        "not_loaded",
    ),
    "smi cannot communicate": (
        {"nvidia_smi.txt": "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure\n"},
        "not_loaded",
    ),
    "mismatch": (
        {
            "nvidia_smi_q.txt": "Failed to initialize NVML: Driver/library version mismatch\n"
            "NVML library version: 570.195\n",
            "proc_driver_nvidia_version": NVRM,
        },
        "mismatch",
    ),
    "no devices": ({"nvidia_smi_q.xml": "No devices were found\n", "nvidia_smi_q.xml.status": "6"}, "no_devices"),
    "a log without a GPU": (
        {"nvidia_smi_q.xml": "<nvidia_smi_log><driver_version>580.95.05</driver_version></nvidia_smi_log>"},
        "no_devices",
    ),
    "library missing, smi there": (
        {
            "nvidia_smi_q.xml": "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that"
            " the NVIDIA Display Driver is properly installed and present in your system.\n",
            "proc_driver_nvidia_version": NVRM,
        },
        "no_library",
    ),
    "module loaded, nothing in user space": ({**NOT_FOUND, "proc_driver_nvidia_version": NVRM}, "no_library"),
    "module loaded, smi not run": ({"proc_modules": LOADED}, "unknown"),
    "unknown error in a container": ({"nvidia_smi_q.xml": "Failed to initialize NVML: Unknown Error\n"}, "failed"),
    "lost": (
        {"nvidia_smi.txt": "Unable to determine the device handle for GPU0000:65:00.0: GPU is lost.  Reboot\n"},
        "failed",
    ),
    "smi hangs": ({"nvidia_smi_q.xml": "terminated\n", "nvidia_smi_q.xml.status": "124"}, "failed"),
    "NVML works": (
        {
            "nvml.json": json.dumps(
                {"driver_version": "580.95.05", "cuda_api_version": 13000, "gpus": [{"name": "NVIDIA T4"}]}
            )
        },
        "working",
    ),
    "NVML: no GPU": ({"nvml.json": json.dumps({"driver_version": "580.95.05", "gpus": []})}, "no_devices"),
    "NVML: mismatch": ({"nvml.json": json.dumps({"error": 18, "message": "mismatch"})}, "mismatch"),
    "NVML: not loaded": ({"nvml.json": json.dumps({"error": 9, "message": "Driver Not Loaded"})}, "not_loaded"),
    "NVML: unknown": ({"nvml.json": json.dumps({"error": 999, "message": "Unknown Error"})}, "failed"),
}


@pytest.mark.parametrize("case", CASES)
def test_state(case: str, facts_of: FactsOf) -> None:
    files, state = CASES[case]
    driver = facts_of(files).driver
    assert driver.state == state, driver.detail
    assert driver.detail
    assert "\n" not in driver.detail


def test_the_detail_is_the_evidence(facts_of: FactsOf) -> None:
    details = {case: facts_of(files).driver.detail for case, (files, _) in CASES.items()}
    assert details["mismatch"] == (
        'nvidia-smi says: "Failed to initialize NVML: Driver/library version mismatch"; the loaded module is 580.95.05'
    )
    assert details["nouveau is bound"] == "the nouveau kernel module drives the GPU, NVIDIA's is not loaded"
    assert details["card, no driver"] == "no NVIDIA kernel module is loaded and nvidia-smi is not installed"
    assert details["module loaded, nothing in user space"] == (
        "NVIDIA's kernel module 580.95.05 is loaded, and neither nvidia-smi nor NVML is there"
    )
    assert details["NVML works"] == "NVML lists 1 GPU with driver 580.95.05"
    assert details["smi hangs"] == "nvidia-smi gave no answer in time"
    assert details["NVML: unknown"] == 'NVML says: "Unknown Error" (999)'


@pytest.mark.parametrize(
    ("files", "module"),
    [
        ({"proc_driver_nvidia_version": OPEN}, "open"),
        ({"proc_driver_nvidia_version": NVRM}, "proprietary"),
        ({"proc_modules": LOADED}, "proprietary"),
        ({"proc_modules": LOADED.replace("POE", "OE")}, "open"),
        ({"proc_modules": "nouveau 1 0 - Live 0x0\n"}, None),
    ],
)
def test_module_flavour(files: dict[str, str], module: str | None, facts_of: FactsOf) -> None:
    assert facts_of(files).driver.module == module


def test_the_open_modules_version_is_read(facts_of: FactsOf) -> None:
    assert facts_of({"proc_driver_nvidia_version": OPEN}).driver.version == "580.126.09"


@pytest.mark.parametrize(
    ("number", "text"), [(13000, "13.0"), (12040, "12.4"), (11080, "11.8"), (None, None), (True, None)]
)
def test_nvml_counts_cuda_in_thousands(number: Any, text: str | None, facts_of: FactsOf) -> None:
    files = {"nvml.json": json.dumps({"driver_version": "580.95.05", "cuda_api_version": number, "gpus": []})}
    assert facts_of(files).driver.cuda_api_version == text
