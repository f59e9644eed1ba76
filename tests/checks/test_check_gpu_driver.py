"""Is the driver whole: real NVML calls, answered by a played host; /proc and /sys from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest
from harness.nvml.player import NvmlPlayer, host_text, with_answer

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (dvs-builder@host)\n"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Thu Sep 11 08:00:00 UTC 2025\n"
H100, TWO = "made-nvml-h100-590", "made-nvml-2xrtx4090-535"
DRIVER = {H100: "590.48.01", TWO: "535.113.01"}
ADDRESSES = {H100: ("0000:00:09.0",), TWO: ("0000:41:00.0", "0000:61:00.0")}


@pytest.fixture
def root(tmp_path: Path) -> Callable[..., Path]:
    """Makes /proc and /sys of a host: module version, its line, GPUs by address with their drivers."""

    def make(version: str | None, line: str = OPEN, gpus: dict[str, str | None] | None = None) -> Path:
        folder = tmp_path / "root"
        if version is not None:
            write(folder / "proc/driver/nvidia/version", line.format(version=version))
            write(folder / "sys/module/nvidia/version", f"{version}\n")
        for address, driver in (gpus or {}).items():
            device = folder / "sys/bus/pci/devices" / address
            write(device / "vendor", "0x10de\n")
            write(device / "class", "0x030200\n")
            if driver is not None:
                (folder / "sys/bus/pci/drivers" / driver).mkdir(parents=True, exist_ok=True)
                (device / "driver").symlink_to(folder / "sys/bus/pci/drivers" / driver)
        # a sound card of NVIDIA's, and somebody else's graphics card
        write(folder / "sys/bus/pci/devices/0000:99:00.1/vendor", "0x10de\n")
        write(folder / "sys/bus/pci/devices/0000:99:00.1/class", "0x040300\n")
        write(folder / "sys/bus/pci/devices/0000:98:00.0/vendor", "0x1002\n")
        write(folder / "sys/bus/pci/devices/0000:98:00.0/class", "0x030000\n")
        return folder

    return make


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def ask(check, nvml: Callable[..., NvmlPlayer], root) -> Callable[..., dict[str, Any]]:
    """The answer on a played host, whose bus has the GPUs that NVML lists unless ``gpus`` says otherwise."""

    def run(host: str, text: str | None = None, version: str | None = "", **of_root: Any) -> dict[str, Any]:
        of_root.setdefault("gpus", dict.fromkeys(ADDRESSES[host], "nvidia"))
        folder = root(DRIVER[host] if version == "" else version, **of_root)
        played = nvml(text if text is not None else host)
        answer = check("gpu_driver.py", "--root", folder, "--library", played.library, env=played.env)
        found: dict[str, Any] = answer.data
        return found

    return run


def test_a_whole_driver(ask) -> None:
    answer = ask(H100)
    assert answer["status"] == "pass"
    assert answer["what"] == "driver 590.48.01 (open module) sees 1 GPU: NVIDIA H100 80GB HBM3"
    assert answer["why"] == ""
    assert answer["data"]["module"] == "590.48.01"
    assert answer["data"]["bus"] == {"0000:00:09.0": "nvidia"}


def test_the_proprietary_module_is_told_apart(ask) -> None:
    answer = ask(TWO, line=CLOSED)
    assert "(proprietary module) sees 2 GPUs" in answer["what"]
    assert [gpu["address"] for gpu in answer["data"]["gpus"]] == ["0000:41:00.0", "0000:61:00.0"]


def test_a_module_older_than_its_library(ask) -> None:
    """After an unattended upgrade: NVML refuses, and its own file name says what it is."""
    answer = ask(H100, text=with_answer(host_text(H100), "nvmlInit_v2", 18), version="580.95.05")
    assert answer["status"] == "fail"
    assert answer["what"] == "the driver's module and library are of two versions"
    assert answer["why"] == "the loaded module is 580.95.05, the library is not known"
    assert answer["hint"].startswith("reboot: packages were upgraded under the running module")


def test_versions_that_differ_though_nvml_answers(ask) -> None:
    answer = ask(H100, version="580.95.05")
    assert answer["why"] == "the loaded module is 580.95.05, the library is 590.48.01"


def test_a_gpu_that_the_driver_does_not_list(ask) -> None:
    gpus = {"0000:00:09.0": "nvidia", "0000:0a:00.0": None, "0000:0b:00.0": "nouveau"}
    answer = ask(H100, gpus=gpus)
    assert answer["status"] == "fail"
    assert answer["what"] == "the driver sees 1 of 3 NVIDIA GPUs"
    assert answer["why"] == "not seen: 0000:0a:00.0 (no driver bound), 0000:0b:00.0 (bound to nouveau)"
    assert "dmesg" in answer["hint"]


def test_a_card_for_virtual_machines_is_not_missed(ask) -> None:
    answer = ask(H100, gpus={"0000:00:09.0": "nvidia", "0000:0a:00.0": "vfio-pci"})
    assert answer["status"] == "pass"
    assert answer["why"] == "kept for virtual machines: 0000:0a:00.0"


def test_a_container_may_have_been_given_fewer(ask, root, tmp_path: Path) -> None:
    write(tmp_path / "root/.dockerenv", "")
    answer = ask(H100, gpus={"0000:00:09.0": "nvidia", "0000:0a:00.0": "nvidia"})
    assert answer["status"] == "pass"
    assert answer["why"] == "this container was given 1 of 2"


def test_a_lost_gpu(ask) -> None:
    answer = ask(TWO, text=host_text("made-nvml-2xrtx4090-lost-535"))
    assert answer["status"] == "fail"
    assert answer["what"] == "1 of 2 GPUs do not answer"
    assert answer["why"] == "GPU 1: GPU is lost"
    assert "Xid" in answer["hint"]


def test_persistence_that_is_off_is_a_remark(ask) -> None:
    answer = ask(TWO, text=host_text(TWO).replace("persistence 1", "persistence 0", 1))
    assert answer["status"] == "pass"
    assert answer["why"].startswith("persistence is off for GPU 0: each first program waits for it")


@pytest.mark.parametrize(
    ("version", "driver", "why"),
    [(None, "nouveau", "bound to the GPU: nouveau"), (None, None, "no module nvidia is loaded")],
)
def test_a_module_that_is_not_loaded(ask, version: str | None, driver: str | None, why: str) -> None:
    text = with_answer(host_text(H100), "nvmlInit_v2", 9)
    answer = ask(H100, text=text, version=version, gpus={"0000:00:09.0": driver})
    assert answer["status"] == "fail"
    assert (answer["what"], answer["why"]) == ("NVIDIA's kernel module is not loaded", why)
    assert "a reboot is needed" in answer["hint"]


def test_a_driver_that_refuses(ask) -> None:
    answer = ask(H100, text=with_answer(host_text(H100), "nvmlInit_v2", 999))
    assert (answer["what"], answer["why"]) == ("the driver does not answer", "NVML: unknown error")


def test_no_library(check, root) -> None:
    folder = root("580.95.05", gpus={"0000:00:09.0": "nvidia"})
    answer = check("gpu_driver.py", "--root", folder, "--library", folder / "libnvidia-ml.so.1").data
    assert answer["status"] == "fail"
    assert answer["what"] == "the driver's library is missing"
    assert "No such file" in answer["why"]
    assert "libnvidia-ml1" in answer["hint"]


def test_a_box_without_an_nvidia_gpu(check, root) -> None:
    answer = check("gpu_driver.py", "--root", root(None), "--library", "/nowhere/libnvidia-ml.so.1").data
    assert answer["status"] == "skip"
    assert answer["what"] == "there is no NVIDIA GPU here"


def test_wsl_has_neither_a_module_nor_nvidia_on_its_bus(ask) -> None:
    answer = ask(H100, version=None, gpus={})
    assert answer["status"] == "pass"
    assert "(module's flavour not known)" in answer["what"]


def test_the_version_in_the_librarys_file_name(load, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 9 /usr/lib/x86_64-linux-gnu/libc.so.6\n"
        "7f02-7f03 r-xp 00000000 08:01 8 /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.95.05\n"
    )
    assert load("gpu_nvml").loaded_version(maps) == "580.95.05"
    maps.write_text("7f02-7f03 r-xp 00000000 08:01 8 /wsl/lib/libnvidia-ml.so.1\n")
    assert load("gpu_nvml").loaded_version(maps) is None


def test_each_error_of_nvml_has_its_own_words(load) -> None:
    """nvmlReturn_t's numbers are those of NVIDIA's own binding; "unknown" and two short names are written out."""
    written_out = {"freq": "frequency", "lib_rm": "driver_library", "unknown": "unknown_error"}
    expected = {}
    for name in (name for name in dir(pynvml) if name.startswith("NVML_ERROR_")):
        words = name.removeprefix("NVML_ERROR_").lower()
        for short, long in written_out.items():
            words = words.replace(short, long)
        expected[getattr(pynvml, name)] = words.replace("_", "")
    said = {number: "".join(filter(str.isalpha, text.lower())) for number, text in load("gpu_nvml").ERRORS.items()}
    assert said == expected
