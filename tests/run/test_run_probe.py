"""The probe script in real shells, on this machine and on machines made of files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provision.catalog.load import chips
from provision.detect import host_facts
from provision.detect.environments import data_home, environment_states, packages_sha256
from provision.detect.framed import is_complete, split
from provision.errors import HostError
from provision.model.readings import Readings
from provision.run import probe
from provision.run.command import run

SHELLS = [shell for shell in (["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(shell[0])]

Probe = Callable[..., Readings]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Probe:
    """Run the script in a shell, on a machine whose root is a folder, with programs of our own before all others."""

    def asked(root: str = "", programs: dict[str, str] | None = None, **env: str) -> Readings:
        folder = tmp_path / "programs"
        folder.mkdir(exist_ok=True)
        for name, text in (programs or {}).items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        boundary = probe.new_boundary()
        done = run(
            [*request.param, "-s", "--", boundary, "-", root],
            stdin=probe.probe_script(),
            env={"PATH": f"{folder}:{os.environ['PATH']}", **env},
            timeout_s=60,
        )
        assert done.status == 0
        assert done.stderr == ""
        assert is_complete(done.stdout, boundary)
        return split(done.stdout, boundary)

    return asked


def machine(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


def facts(readings: Readings) -> Any:
    return host_facts(readings, chips(), host="here")


def test_this_machine_is_read(ask: Probe) -> None:
    readings = ask()
    found = facts(readings)
    assert found.cpu.arch == os.uname().machine
    assert found.system.kernel == os.uname().release
    assert found.cpu.logical_cpus == os.cpu_count()
    assert found.memory.total_mib == pytest.approx(
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20, abs=2
    )
    if found.cpu.arch == "x86_64":
        with Path("/proc/cpuinfo").open() as file:
            flags = next(line for line in file if line.startswith("flags")).split(":")[1].split()
        assert set(found.cpu.flags) == set(flags)


def test_the_hosts_name_stays_at_home(ask: Probe) -> None:
    readings = ask()
    assert readings.files["uname_a"].split()[:3] == ["Linux", "host", os.uname().release]


CARDS = {
    "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu\n",
    "proc/modules": "nouveau 3100672 14 - Live 0x0\next4 1 0 - Live 0x0\nnvidiafb 1 0 - Live 0x0\n",
    "sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086\n",
    "sys/bus/pci/devices/0000:00:02.0/device": "0x3e92\n",
    "sys/bus/pci/devices/0000:00:02.0/class": "0x030000\n",
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/device": "0x1401\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
    "sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.1/device": "0x0fba\n",
    "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
    "usr/share/misc/pci.ids": (
        "8086  Intel Corporation\n\t1401  not this one\n10de  NVIDIA Corporation\n\t0fba  GM206 High Definition Audio\n"
        "\t1400  GM206\n\t1401  GM206 [GeForce GTX 960]\n\t\t1043 8520  STRIX\n10df  Emulex\n\t1401  nor this\n"
    ),
    "usr/include/cudnn_version.h": (
        "/* x */\n#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 3\n#define CUDNN_PATCHLEVEL 0\n#define CUDNN_VERSION 1\n"
    ),
}


def test_a_card_without_driver(ask: Probe, tmp_path: Path) -> None:
    root = machine(tmp_path / "root", CARDS)
    drivers = tmp_path / "root/sys/bus/pci/drivers/nouveau"
    drivers.mkdir(parents=True)
    (tmp_path / "root/sys/bus/pci/devices/0000:01:00.0/driver").symlink_to(drivers)
    readings = ask(root, {"dmesg": "#!/bin/sh\nexit 1\n"})
    assert readings.files["sys_bus_pci_devices"] == (
        "0000:01:00.0 10de:1401 030000 nouveau\n0000:01:00.1 10de:0fba 040300 -\n"
    )
    assert readings.files["pci_ids"] == (
        "10de  NVIDIA Corporation\n\t0fba  GM206 High Definition Audio\n\t1401  GM206 [GeForce GTX 960]\n"
    )
    assert readings.files["proc_modules"] == "nouveau 3100672 14 - Live 0x0\nnvidiafb 1 0 - Live 0x0\n"
    found = facts(readings)
    assert found.driver.state == "nouveau"
    assert [(gpu.name, gpu.chip, gpu.compute_capability) for gpu in found.gpus] == [
        ("NVIDIA GeForce GTX 960", "GM206", "5.2")
    ]
    assert found.toolkit.cudnn == "9.3.0"


def test_a_working_driver(ask: Probe, tmp_path: Path, shared: Path) -> None:
    xml = shared / "hosts/gpu-rtx3080-595/nvidia_smi_q.xml"
    files = {
        **CARDS,
        "proc/modules": "nvidia 1 0 - Live 0x0 (OE)\n",
        "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  595.58.03  Release\n",
        "proc/driver/nvidia/gpus/0000:0c:00.0/information": "Model: \t NVIDIA GeForce RTX 3080\n",
    }
    root = machine(tmp_path / "root", files)
    asked_for = f'#!/bin/sh\n[ "$*" = "-q -x" ] && exec cat "{xml}"\nexit 9\n'
    readings = ask(root, {"nvidia-smi": asked_for})
    assert readings.files["nvidia_smi_q.xml"].strip() == xml.read_text().strip()
    assert "nvidia_smi_q.xml.status" not in readings.files
    assert "proc_driver_nvidia_gpus_0000-0c-00.0_information" in readings.files
    found = facts(readings)
    assert (found.driver.state, found.driver.version, found.driver.module) == ("working", "595.58.03", "open")


@pytest.mark.parametrize(
    ("message", "status", "state"),
    [
        ("No devices were found", 6, "no_devices"),
        ("Failed to initialize NVML: Driver/library version mismatch", 18, "mismatch"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9, "not_loaded"),
        ("Failed to initialize NVML: Unknown Error", 255, "failed"),
    ],
)
def test_a_failing_driver(message: str, status: int, state: str, ask: Probe, tmp_path: Path) -> None:
    script = f'#!/bin/sh\necho "{message}" >&2\nexit {status}\n'
    readings = ask(machine(tmp_path / "root", {"proc/modules": ""}), {"nvidia-smi": script})
    assert readings.files["nvidia_smi_q.xml"] == message + "\n"
    assert readings.files["nvidia_smi_q.xml.status"] == str(status)
    assert facts(readings).driver.state == state


def test_an_nvidia_smi_that_hangs_is_left(ask: Probe, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "busybox" in request.node.name:
        pytest.skip("busybox has its own timeout, which would take its 30 s")
    programs = {"timeout": '#!/bin/sh\n[ "$1" = 30 ] && exit 124\n', "nvidia-smi": "#!/bin/sh\nsleep 600\n"}
    found = facts(ask(machine(tmp_path / "root", {"proc/modules": ""}), programs))
    assert found.driver.state == "failed"
    assert found.driver.detail == "nvidia-smi gave no answer in time"


def test_secure_boot_from_the_variable(ask: Probe, tmp_path: Path) -> None:
    variable = tmp_path / "root/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    variable.parent.mkdir(parents=True)
    variable.write_bytes(bytes([6, 0, 0, 0, 1]))
    assert facts(ask(str(tmp_path / "root"), {"mokutil": "#!/bin/sh\nexit 1\n"})).system.secure_boot is True


def test_validation_that_was_switched_off_in_shim(ask: Probe, tmp_path: Path) -> None:
    folder = tmp_path / "root/sys/firmware/efi/efivars"
    folder.mkdir(parents=True)
    (folder / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c").write_bytes(bytes([6, 0, 0, 0, 1]))
    (folder / "MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23").write_bytes(bytes([6, 0, 0, 0, 1]))
    assert facts(ask(str(tmp_path / "root"))).system.secure_boot is False


def test_a_machine_without_uefi_has_no_secure_boot(ask: Probe, tmp_path: Path) -> None:
    (tmp_path / "root/sys/firmware/acpi").mkdir(parents=True)
    assert facts(ask(str(tmp_path / "root"), container="")).system.secure_boot is False


@pytest.mark.parametrize(
    ("files", "inside"),
    [
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": ""}, "podman"),
        ({"run/systemd/container": "systemd-nspawn\n"}, "systemd-nspawn"),
        ({"proc/1/cgroup": "0::/kubepods.slice/pod1\n"}, "kubernetes"),
        ({"proc/1/cgroup": "0::/init.scope\n"}, "none"),
    ],
)
def test_containers(files: dict[str, str], inside: str, ask: Probe, tmp_path: Path) -> None:
    readings = ask(machine(tmp_path / "root", files), container="")
    assert readings.files["container"] == inside + "\n"


def test_pythons_are_run_and_shims_are_not(ask: Probe, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    readings = ask("", {"python3.77": f"#!/bin/sh\ntouch {mark}\necho Python 3.77.0\n"})
    assert not mark.exists()
    folder = tmp_path / "real python"
    folder.mkdir()
    (folder / "python3").symlink_to(os.path.realpath(sys.executable))
    readings = ask("", PATH=f"relative::{folder}:{os.environ['PATH']}")
    assert ".".join(map(str, sys.version_info[:3])) in facts(readings).system.pythons


@pytest.mark.skipif(not shutil.which("gcc") or not shutil.which("g++"), reason="needs GCC")
def test_compilers_that_come_with_their_companion(ask: Probe, tmp_path: Path) -> None:
    gcc, gxx = (os.path.realpath(str(shutil.which(name))) for name in ("gcc", "g++"))
    pair, alone = tmp_path / "pair", tmp_path / "alone"
    pair.mkdir()
    alone.mkdir()
    (pair / "gcc-7").symlink_to(gcc)
    (pair / "gcc").symlink_to(gcc)  # the same one: said once, by the name that goes on meaning it
    (pair / "g++-7").symlink_to(gxx)
    (alone / "gcc-8").symlink_to(gcc)
    mark = tmp_path / "ran"
    wrapper = f"#!/bin/sh\ntouch {mark}\necho 99.0.0\n"
    readings = ask("", {"gcc-6": wrapper, "g++-6": wrapper}, PATH=f"{alone}:{os.environ['PATH']}")
    assert not mark.exists()
    assert str(alone) not in readings.files["compilers"]
    readings = ask("", PATH=f"{pair}:{os.environ['PATH']}")
    assert [each.path for each in facts(readings).system.compilers if each.path.startswith(str(pair))] == [
        str(pair / "gcc-7")
    ]


def test_the_users_environment(ask: Probe) -> None:
    readings = ask("", OPENBLAS_CORETYPE="Haswell", LD_LIBRARY_PATH="/opt/a b/lib", TF_TOKENS="no")
    text = readings.files["user_environment"]
    assert "OPENBLAS_CORETYPE=Haswell\n" in text
    assert "LD_LIBRARY_PATH=/opt/a b/lib\n" in text
    assert "TOKENS" not in text


def test_environments_below_a_home_with_blanks(ask: Probe, tmp_path: Path) -> None:
    home = tmp_path / "my data"
    base = home / "provision/envs/default"
    site = base / "generations/2/venv/lib/python3.11/site-packages"
    for package in ("tensorflow-2.21.0", "absl_py-2.3.1"):
        (site / f"{package}.dist-info").mkdir(parents=True)
    (base / "generations/2/venv/bin").mkdir()
    (base / "generations/2/venv/bin/python").symlink_to(sys.executable)
    (base / "generations/1").mkdir()
    state = {
        "fingerprint": "abc", "complete": True, "verified": True, "created": "2026-11-22T10:00:00Z",
        "summary": "tensorflow 2.21.0 · cpu",
        "packages_sha256": packages_sha256(["absl_py-2.3.1", "tensorflow-2.21.0"]),
    }  # fmt: skip
    (base / "generations/2/state.json").write_text(json.dumps(state, indent=2))
    (base / "generations/2/plan.json").write_text(json.dumps({"schema": 1, "host": "localhost"}, indent=2))
    (base / "current").symlink_to("generations/2")
    readings = ask("", XDG_DATA_HOME=str(home))
    (environment,) = environment_states(readings)
    assert environment.plan == {"schema": 1, "host": "localhost"}
    assert (environment.name, environment.path, environment.current) == ("default", str(base), 2)
    killed, good = environment.generations
    assert (killed.number, killed.fingerprint) == (1, None)
    assert (good.fingerprint, good.complete, good.verified, good.drifted) == ("abc", True, True, False)
    assert good.summary == "tensorflow 2.21.0 · cpu"
    found = data_home(readings)
    assert (found.path, found.writable) == (f"{home}/provision", True)
    assert found.free_mib == pytest.approx(shutil.disk_usage(home).free / 2**20, rel=0.2)
    (site / "extra-1.0.dist-info").mkdir()
    assert environment_states(ask("", XDG_DATA_HOME=str(home)))[0].generations[1].drifted


def test_a_relative_data_home_is_ignored(ask: Probe, tmp_path: Path) -> None:
    readings = ask("", XDG_DATA_HOME="relative", HOME=str(tmp_path))
    assert data_home(readings).path == f"{tmp_path}/.local/share/provision"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_may_not_be_written(ask: Probe, tmp_path: Path) -> None:
    home = tmp_path / "closed"
    home.mkdir(mode=0o500)
    assert data_home(ask("", XDG_DATA_HOME=str(home))).writable is False


# --- the local reader -----------------------------------------------------------------------------------------------


def test_local_readings() -> None:
    found = facts(probe.local_readings())
    assert found.cpu.arch == os.uname().machine
    assert found.driver.detail


def test_it_is_quick() -> None:
    began = time.perf_counter()
    for _ in range(3):
        probe.local_readings()
    assert (time.perf_counter() - began) / 3 < 2.0  # 30 ms on an idle machine; the benchmark has the bound


def test_a_probe_that_stops_half_way_is_told() -> None:
    with pytest.raises(HostError) as cut:
        probe.readings_of("Welcome\nb0b0 proc_cpuinfo\nprocessor", "b0b0", host="me@box")
    assert cut.value.what == "me@box: the probe did not finish"
    assert cut.value.why == "its output stops before the last reading"
    with pytest.raises(HostError) as silent:
        probe.readings_of("This account is not available.\n", "b0b0", host="me@box")
    assert silent.value.why == "it printed no reading at all"


def test_the_remote_command_reads_the_script_from_standard_input() -> None:
    boundary = probe.new_boundary()
    done = run(["sh", "-c", probe.probe_command(boundary, nvidia_smi=False)], stdin=probe.probe_script(), timeout_s=60)
    readings = probe.readings_of(done.stdout, boundary, host="box")
    assert "nvidia_smi_q.xml" not in readings.files
    assert boundary != probe.new_boundary()


def test_the_script_needs_nothing_but_a_posix_shell() -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [checker, "-s", "sh", "-"], input=probe.probe_script(), capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


def test_a_system_without_cpuinfo_is_read_by_py_cpuinfo() -> None:
    pytest.importorskip("cpuinfo")
    files = probe._cpuinfo_package()
    found = facts(Readings(files))
    here = facts(probe.local_readings())
    assert (found.cpu.vendor, found.cpu.family, found.cpu.model) == (here.cpu.vendor, here.cpu.family, here.cpu.model)
    assert set(here.cpu.flags) - set(found.cpu.flags) == set()
    assert not {"sha", "rdrnd", "osxsave", "avx512vnni", "avx512vbmi2"} & set(found.cpu.flags)
