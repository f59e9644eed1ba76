"""Facts as text."""

from __future__ import annotations

from dataclasses import replace

from worlds.hosts import AVX, card, host

from provision.model.facts import Finding, Mig, Toolkit
from provision.model.nvidia import DriverRecord, GpuHealth, HostNvidia, KernelModule
from provision.render.facts import WIDTH, facts_text


def test_a_whole_host() -> None:
    facts = host("GeForce GTX 960", flags=AVX, driver="580.178.04", module="proprietary", secure_boot=True)
    facts = replace(facts, toolkit=Toolkit(cuda="12.6", cudnn=None))
    assert facts_text(facts) == (
        "box\n"
        "  CPU       A CPU (x86-64-v2, x86_64)\n"
        "            4 cores, 8 threads\n"
        "  memory    16384 MiB\n"
        "  system    debian 12, kernel 6.1.0-18-amd64, glibc 2.36, Secure Boot on\n"
        "  Python    3.11.2\n"
        "  GPU       NVIDIA GeForce GTX 960: Maxwell GM206, compute capability 5.2, 0000:01:00.0\n"
        "  driver    580.178.04 works, proprietary kernel module\n"
        "  toolkit   CUDA 12.6, cuDNN none\n"
    )


def test_what_is_missing_is_said() -> None:
    facts = host(flags=(), arch=None, glibc=None, pythons=(), secure_boot=None)
    text = facts_text(replace(facts, memory=replace(facts.memory, total_mib=None)))
    assert "memory    not known" in text
    assert "Python    none found" in text
    assert "GPU       no NVIDIA GPU" in text
    assert "driver" not in text
    assert "Secure Boot" not in text


def test_a_driver_in_trouble_and_its_finding() -> None:
    facts = host(gpus=(card("H100", mig=Mig(enabled=True, devices=4)),), state="mismatch", driver="515.65.01", wsl=True)
    finding = Finding(
        id="driver.mismatch", severity="error", what="the driver does not match", why="515 and 535", hint="reboot"
    )
    facts = replace(facts, findings=(finding,), driver=replace(facts.driver, detail="Driver/library version mismatch"))
    text = facts_text(facts)
    assert "515.65.01 does not match its libraries (Driver/library version mismatch)" in text
    assert "MIG on, 4 devices" in text
    assert "WSL2" in text
    assert text.endswith("error: the driver does not match\n  515 and 535\n  hint: reboot\n")


def test_it_fits_the_terminal() -> None:
    facts = host("GeForce GTX 960")
    long = replace(facts, cpu=replace(facts.cpu, model_name="A very long name " * 12))
    assert max(map(len, facts_text(long).splitlines())) <= WIDTH


def test_what_waits_and_what_is_held_is_said_briefly() -> None:
    facts = host("GeForce GTX 960", state="not_loaded")
    module = KernelModule(version="580.95.05", flavour="open", signer=None, kernel="6.1.0")
    record = DriverRecord(
        state="installed", branch="580", version="580.95.05", module="open", packages=(), rebooted=False
    )
    card = GpuHealth(pci_address="0000:02:00.0", kernel_driver="vfio-pci")
    found = HostNvidia(module=module, holds=("a", "b", "c", "d"), gpus=(card,), record=record)
    line = "            580.95.05 on disk, open; held: a, b and 2 more; a reboot is due; 0000:02:00.0 kept for"
    assert line in facts_text(replace(facts, nvidia=found)).splitlines()
    assert facts_text(replace(facts, nvidia=HostNvidia())) == facts_text(facts)
