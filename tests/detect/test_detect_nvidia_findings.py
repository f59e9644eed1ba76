"""What `detect` says of NVIDIA's software, from the made hosts, each changed in one thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provision.detect import host_facts
from provision.detect.mask import masked
from provision.model.chips import Chips
from provision.model.facts import Finding
from provision.model.readings import Readings
from provision.run.dump import read_dump

HOSTS = Path(__file__).resolve().parents[1] / "hosts"
MISMATCH = "made-ubuntu2404-zen5-rtx3090-held-mismatch-580"
VFIO = "made-debian12-broadwell-rtx2080-vfio-nodriver"
INSTALLED = "made-debian12-broadwell-gtx960-installed-rebooted-580"
KEY = "made-ubuntu2404-alderlake-rtx4070-secureboot-notenrolled-580"
HEADERS = "made-rocky9-sapphirerapids-h100-noheaders-580"

Findings = Callable[..., dict[str, Finding]]


@pytest.fixture
def findings(chip_table: Chips) -> Findings:
    """By id, of a made host with some of its readings replaced; None takes one away."""

    def found(host: str, **changes: str | None) -> dict[str, Finding]:
        files = {**read_dump(HOSTS / host).files, **{name.replace("__", "."): text for name, text in changes.items()}}
        readings = Readings({name: text for name, text in files.items() if text is not None})
        return {finding.id: finding for finding in host_facts(readings, chip_table, host=host).findings}

    return found


def test_a_card_kept_for_guests_lacks_no_driver(findings: Findings) -> None:
    found = findings(VFIO)
    assert {each.severity for each in found.values()} == {"info"}
    assert found["gpu_passed_through"].what == "the GPU at 0000:03:00.0 is kept for virtual machines"
    assert found["gpu_passed_through"].why == "the kernel driver vfio-pci holds it"


def test_a_second_card_beside_it_does(findings: Findings) -> None:
    bus = "0000:03:00.0 10de:1e82 030000 vfio-pci\n0000:04:00.0 10de:1e82 030000 -\n"
    found = findings(VFIO, sys_bus_pci_devices=bus)
    assert {"gpu_passed_through", "driver_absent"} <= found.keys()


def test_a_driver_that_works_needs_nothing_said(findings: Findings) -> None:
    assert findings(INSTALLED) == {}


BOOT = "00000001-0000-0000-0000-000000000001\n"


def test_a_driver_that_waits_for_its_reboot(findings: Findings) -> None:
    found = findings(
        INSTALLED, boot_id=BOOT, proc_modules="nouveau 1 0 - Live 0x0\n", proc_driver_nvidia_version=None,
        nvidia_smi_q__xml="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
    )  # fmt: skip
    assert found["reboot_pending"].severity == "warning"
    assert found["reboot_pending"].what == "driver 580.95.05 is installed and waits for a reboot"
    assert found["reboot_pending"].hint == "reboot, then run provision up again: it checks the driver and goes on"


def test_a_run_that_was_cut_off(findings: Findings) -> None:
    record = read_dump(HOSTS / INSTALLED).files["provision_nvidia_record"].replace('"installed"', '"changing"')
    smi = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    found = findings(INSTALLED, provision_nvidia_record=record, nvidia_smi_q__xml=smi)
    assert found["driver_change_unfinished"].what == "provision was stopped while it installed driver 580.95.05"
    assert "driver_change_unfinished" not in findings(INSTALLED, provision_nvidia_record=record)


def test_a_key_that_waits_at_the_console(findings: Findings) -> None:
    found = findings(KEY)
    assert found["secure_boot_key_not_enrolled"].why == "the key waits to be confirmed at the console"
    assert "Enroll MOK" in found["secure_boot_key_not_enrolled"].hint
    assert "secure_boot_unsigned_module" not in found


def test_a_key_that_nobody_asked_to_enrol(findings: Findings) -> None:
    state = "pending 0\nkey /var/lib/dkms/mok.pub: /var/lib/dkms/mok.pub is not enrolled\n"
    found = findings(KEY, mok_state=state)["secure_boot_key_not_enrolled"]
    assert found.why == "mokutil does not know the key that DKMS signs with"
    assert found.hint.startswith("mokutil --import that key")
    assert "secure_boot_key_not_enrolled" not in findings(KEY, mok_state=state.replace("not", "already"))


def test_without_secure_boot_no_key_is_missed(findings: Findings) -> None:
    found = findings(KEY, mokutil_sb_state="SecureBoot disabled\n", efi_secure_boot="6 0 0 0 0\n", dmesg_nvidia=None)
    assert not [name for name in found if name.startswith("secure_boot")]


def test_headers_that_a_kernel_upgrade_forgot(findings: Findings) -> None:
    found = findings(HEADERS)["kernel_headers_missing"]
    assert found.severity == "error"
    assert found.why == (
        "/lib/modules/5.14.0-570.12.1.el9_6.x86_64/build is not there; "
        "DKMS has the module for 5.14.0-503.40.1.el9_5.x86_64"
    )
    assert "kernel_headers_missing" not in findings(HEADERS, kernel_headers="yes\n")


def test_without_dkms_no_headers_are_missed(findings: Findings) -> None:
    assert "kernel_headers_missing" not in findings(HEADERS, dkms_status=None)
    built = "nvidia-open/580.95.05, 5.14.0-570.12.1.el9_6.x86_64, x86_64: installed\n"
    assert "kernel_headers_missing" not in findings(HEADERS, dkms_status=built)


# --- masking --------------------------------------------------------------------------------------------------------

PERSONAL = {
    "apt_policy": (
        "nvidia-open:\n  Installed: (none)\n  Candidate: 580.95.05-1\n  Version table:\n     580.95.05-1 500\n"
        "        500 https://alice:hunter2@mirror.lab.example:8443/compute/cuda/repos/debian12/x86_64  Packages\n"
        "nvidia-driver:\n  Installed: (none)\n  Candidate: 535\n  Version table:\n     535 500\n"
        "        500 http://deb.debian.org/debian bookworm/non-free amd64 Packages\n"
    ),
    "boot_id": "11111111-2222-3333-4444-555555555555\n",
    "provision_nvidia_record": (
        '{"schema": 1, "state": "installed", "branch": "580", "module": "open", '
        '"boot_id": "11111111-2222-3333-4444-555555555555"}\n'
    ),
    "modinfo_nvidia": "signer:         workstation-07 Secure Boot Module Signature key\nvermagic:       6.8.0 SMP\n",
    "user_environment": "LD_LIBRARY_PATH=/home/alice/cuda/lib64\n",
}


def test_nothing_personal_is_left() -> None:
    text = "\n".join(masked(Readings(PERSONAL)).files.values())
    for secret in ("alice", "hunter2", "lab.example", "8443", "11111111-2222", "workstation-07"):
        assert secret not in text
    assert "https://mirror/compute/cuda/repos/debian12/x86_64" in text
    assert "http://deb.debian.org/debian bookworm/non-free" in text


@pytest.mark.parametrize("boot", ["11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"])
def test_whether_the_host_was_rebooted_stays(boot: str, chip_table: Chips) -> None:
    shown = masked(Readings({**PERSONAL, "boot_id": f"{boot}\n"}))
    assert masked(shown) == shown
    nvidia = host_facts(shown, chip_table, host="a").nvidia
    assert nvidia is not None
    assert nvidia.record is not None
    assert nvidia.record.rebooted is boot.startswith("9")
