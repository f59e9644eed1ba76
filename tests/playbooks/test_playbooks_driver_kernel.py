"""The kernel module: built or not and why, loaded or not and why, and whether it works after the reboot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_driver_confirm import confirm
from ansible.module_utils.provision_driver_kernel import KernelModule, build_failure, built, libraries
from ansible.module_utils.provision_driver_load import obstacles, refused
from ansible.module_utils.provision_driver_record import read, write
from ansible.module_utils.provision_failure import Failure
from playbook_driver_fakes import KERNEL, FakeBox

SECURE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
MODULE = KernelModule(
    "nvidia", "580.95.05", "proprietary", "DKMS module signing key", KERNEL, "/updates/dkms/nvidia.ko"
)


@pytest.fixture
def box(tmp_path: Path) -> FakeBox:
    made = FakeBox(tmp_path)
    made.card(driver="nvidia")
    return made


# --- built -----------------------------------------------------------------------------------------------------------


def test_a_module_is_the_right_one_by_kernel_flavour_and_release(box: FakeBox) -> None:
    box.module = ("580.95.05", "Dual MIT/GPL")
    box.libraries("580.95.05")
    assert built(box, "580", "open").version == "580.95.05"
    with pytest.raises(Failure) as raised:
        built(box, "580", "proprietary")
    assert f"modinfo -k {KERNEL} finds 580.95.05 open for {KERNEL}" in raised.value.why


def test_libraries_of_another_release_are_a_mix(box: FakeBox) -> None:
    box.module = ("580.95.05", "NVIDIA")
    box.libraries("580.105.08")
    with pytest.raises(Failure) as raised:
        built(box, "580", "proprietary")
    assert raised.value.kind == "mixed_versions"
    assert raised.value.why == "the module is 580.95.05, the libraries are 580.105.08"


def test_a_disk_that_was_full_when_the_module_was_copied(box: FakeBox, monkeypatch: pytest.MonkeyPatch) -> None:
    box.libraries("580.95.05")
    monkeypatch.setattr(box, "free_mib", lambda path: 0 if path == "/var/lib/dkms" else 90000)
    with pytest.raises(Failure) as raised:
        built(box, "580", "proprietary")
    assert (raised.value.kind, raised.value.why) == ("disk_full", "No space left on device: /var/lib/dkms")
    assert raised.value.hint == "free some space there, and run the same command again"


def test_libraries_are_found_where_each_distribution_puts_them(box: FakeBox) -> None:
    box.put("/usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.261.03", "")
    box.put("/usr/lib64/libnvidia-ml.so.580.95.05", "")
    box.put("/usr/lib64/libcuda.so.1", "")
    assert libraries(box) == ["580.95.05", "535.261.03"]


@pytest.mark.parametrize(
    ("line", "kind", "hint"),
    [
        (
            "nv-mmap.c:3:9: error: implicit declaration of function 'vm_flags_set'",
            "module_build",
            "boot an older kernel",
        ),
        (
            "cc1: error: unrecognized command-line option '-ftrivial-auto-var-init=zero'",
            "module_build",
            "version of gcc",
        ),
        ("gcc: fatal error: Killed signal terminated program cc1", "module_build", "add swap space"),
        ("as: BFD: nv.o: No space left on device", "disk_full", "free some space in /var"),
        (
            "*** Unable to find the kernel source tree for the currently running kernel.",
            "no_headers",
            "install the headers",
        ),
        ("nv.c:1: error: something new", "module_build", "read /x/make.log"),
    ],
)
def test_causes_of_a_failed_build(line: str, kind: str, hint: str) -> None:
    failure = build_failure(
        "it was not built", f"CC [M] nv.o\n{line}\nmake: *** [Makefile:1: nv.o] Error 1\n", "/x/make.log"
    )
    assert failure.kind == kind
    assert line in failure.why
    assert hint in failure.hint


# --- loaded ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kind", "why"),
    [
        ("could not insert 'nvidia': Key was rejected by service", "secure_boot", "does not know the key"),
        ("could not insert 'nvidia': Required key not available", "secure_boot", "does not know the key"),
        ("could not insert 'nvidia': No such device", "module_load", "drives none of the GPUs"),
        ("could not insert 'nvidia': Exec format error", "module_load", "built for another kernel"),
        ("FATAL: Module nvidia not found in directory /lib/modules/6.1", "module_load", "no module for the running"),
        ("could not insert 'nvidia': Operation not permitted", "module_load", "refuses to load modules"),
        ("could not insert 'nvidia': Bad address", "module_load", "Bad address"),
    ],
)
def test_modprobes_own_words_are_explained(words: str, kind: str, why: str) -> None:
    failure = refused(f"modprobe: ERROR: {words}")
    assert (failure.kind, failure.what) == (
        kind,
        "the kernel module of the NVIDIA driver is installed and cannot be loaded",
    )
    assert words in failure.why
    assert why in failure.why
    assert failure.hint


def test_nothing_is_in_the_way_of_a_free_card(box: FakeBox) -> None:
    assert not obstacles(box, MODULE, "dkms", True).needed


def test_a_distribution_that_asks_for_a_reboot_too_is_named_beside_a_reason(box: FakeBox) -> None:
    box.put("/run/reboot-required", "")
    assert not obstacles(box, MODULE, "dkms", True).needed, "not a reason by itself: the module can be loaded"
    box.put("/proc/modules", "nouveau 1 1 - Live 0x0\n")
    assert len(obstacles(box, MODULE, "dkms", True).why) == 2


@pytest.mark.parametrize(
    ("words", "why", "lines"),
    [
        ("/k is not enrolled", "the firmware does not know /var/lib/dkms/mok.pub", 3),
        ("/k is already in the enrollment request", "/var/lib/dkms/mok.pub waits to be enrolled at the console", 2),
        ("EFI variables are not supported", "mokutil does not say whether /var/lib/dkms/mok.pub is enrolled", 3),
    ],
)
def test_secure_boot_and_a_key_that_is_not_enrolled(box: FakeBox, words: str, why: str, lines: int) -> None:
    box.put(SECURE, b"\6\0\0\0\1")
    box.put("/var/lib/dkms/mok.pub", "key")
    box.answers["mokutil --test-key"] = (1, words)
    found = obstacles(box, MODULE, "dkms", True)
    assert why in found.why[0]
    assert len(found.console) == lines
    assert not obstacles(box, MODULE, "prebuilt", True).needed, "signed by the distribution"


def test_secure_boot_and_a_module_without_a_signature(box: FakeBox) -> None:
    """The key is known: neither enrolling it again nor a reboot would help."""
    box.put(SECURE, b"\6\0\0\0\1")
    box.put("/var/lib/dkms/mok.pub", "key")
    box.answers["mokutil --test-key"] = (1, "/k is already enrolled")
    assert not obstacles(box, MODULE, "dkms", True).needed
    with pytest.raises(Failure) as raised:
        obstacles(box, MODULE._replace(signer=""), "dkms", True)
    assert raised.value.what == "Secure Boot is on, and the kernel module was built without a signature"
    assert f"dkms build --force -m nvidia -v {MODULE.version} -k {MODULE.kernel}" in raised.value.hint


def test_secure_boot_without_any_key(box: FakeBox) -> None:
    box.put(SECURE, b"\6\0\0\0\1")
    found = obstacles(box, MODULE, "dkms", True)
    assert "signed by no key that this host has" in found.why[0]
    assert found.console


# --- confirmed -------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(box: FakeBox) -> FakeBox:
    """Installed before the last boot, and working."""
    box.module = ("580.95.05", "NVIDIA")
    box.libraries("580.95.05")
    write(
        box,
        {
            "state": "installed", "branch": "580", "version": "580.95.05", "module": "proprietary", "manager": "apt",
            "packages": [{"name": "nvidia-driver-cuda", "version": "580.95.05-1"}], "held": ["nvidia-driver-cuda"],
            "previous": [{"name": "nvidia-driver-cuda", "version": "535.274.02-1"}],
        },
    )  # fmt: skip
    box.put("/proc/sys/kernel/random/boot_id", "boot-2\n")
    box.put("/sys/module/nvidia/version", "580.95.05\n")
    text = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025\n"
    box.put("/proc/driver/nvidia/version", text)
    box.answers["nvidia-smi -L"] = (0, "GPU 0: NVIDIA GeForce GTX 960 (UUID: GPU-1)\n")
    box.answers["nvidia-smi --query-gpu=persistence_mode"] = (0, "Enabled\n")
    return box


def confirmed(box: FakeBox, check_mode: bool = False, **changes: Any) -> dict[str, Any]:
    params = {"branch": "580", "module": "proprietary", "gpus": 0, "initramfs": ["update-initramfs", "-u"], **changes}
    return confirm(box, params, check_mode)


def not_confirmed(box: FakeBox, **changes: Any) -> Failure:
    with pytest.raises(Failure) as raised:
        confirmed(box, **changes)
    assert read(box)["state"] == "installed"
    return raised.value


def test_a_driver_that_works_is_confirmed_once(running: FakeBox) -> None:
    assert confirmed(running, check_mode=True)["changed"] is True
    assert read(running)["state"] == "installed"
    done = confirmed(running)
    assert (done["changed"], done["state"], done["persistence"]) == (True, "confirmed", True)
    assert done["held"] == ["nvidia-driver-cuda"]
    assert done["undo"][1] == "sudo apt-get install -y --allow-downgrades nvidia-driver-cuda=535.274.02-1"
    assert read(running)["state"] == "confirmed"
    assert confirmed(running)["changed"] is False


def test_before_the_reboot_it_is_asked_for_again(running: FakeBox) -> None:
    running.put("/sys/module/nvidia/version", "535.274.02\n")
    done = confirmed(running)
    assert (done["state"], done["reboot"]["needed"], done["changed"]) == ("installed", True, False)


def test_after_the_reboot_a_module_that_does_not_load_is_explained(running: FakeBox) -> None:
    (running.root / "sys/module/nvidia/version").unlink()
    (running.root / "proc/driver/nvidia/version").unlink()
    running.answers["modprobe nvidia"] = (1, "modprobe: ERROR: could not insert 'nvidia': No such device")
    failure = not_confirmed(running)
    assert failure.why.endswith("the host was rebooted since")
    assert "could not insert 'nvidia': No such device" in failure.why
    assert "apt-get install -y --allow-downgrades nvidia-driver-cuda=535.274.02-1" in failure.hint


def test_the_other_kind_of_module(running: FakeBox) -> None:
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
    running.put("/proc/driver/nvidia/version", text)
    (why,) = confirmed(running)["reboot"]["why"]
    assert why == "the open module of 580.95.05 is loaded and in use; proprietary is installed"


def test_libraries_that_an_upgrade_has_moved(running: FakeBox) -> None:
    running.put("/usr/lib64/libcuda.so.580.105.08", "")
    failure = not_confirmed(running)
    assert failure.kind == "mixed_versions"
    assert "580.105.08, 580.95.05" in failure.why


def test_a_driver_that_does_not_answer(running: FakeBox) -> None:
    running.answers["nvidia-smi -L"] = (9, "NVIDIA-SMI has failed because it couldn't communicate with the driver")
    failure = not_confirmed(running)
    assert failure.kind == "no_answer"
    assert "nvidia-smi ended with status 9: NVIDIA-SMI has failed" in failure.why
    assert "to go back instead, type as root at a text console:\napt-mark unhold nvidia-driver-cuda\n" in failure.hint


def test_a_card_that_is_missing(running: FakeBox) -> None:
    running.card("0000:02:00.0", "vfio-pci")
    running.answers["dmesg"] = (0, "[1.0] x\n[2.0] NVRM: GPU 0000:02:00.0: RmInitAdapter failed! (0x24:0x72:1436)\n")
    failure = not_confirmed(running)
    assert (failure.kind, failure.what) == ("gpu_missing", "the NVIDIA driver does not see every GPU")
    assert failure.why.splitlines() == [
        "1 of 2 answer",
        "0000:02:00.0 is with vfio-pci",
        "[2.0] NVRM: GPU 0000:02:00.0: RmInitAdapter failed! (0x24:0x72:1436)",
        "the host was rebooted since",
    ]
    assert confirmed(running, gpus=1)["state"] == "confirmed", "a card that is set aside was not asked for"
