"""What the probe reads of NVIDIA's software, in real shells, on machines made of files and with programs of our own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_machine import DPKG, FILES, KERNEL, LISTS, SHELLS, Machine, facts, nvidia

from provision.model.nvidia import DkmsModule, OtherInstall
from provision.model.readings import Readings

Probe = Callable[..., Readings]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Probe:
    return Machine(tmp_path, request.param).ask


def test_a_host_without_anything_of_nvidias_is_not_asked(ask: Probe, tmp_path: Path) -> None:
    mark = tmp_path / "asked"
    names = ("dpkg-query", "apt-cache", "dkms", "modinfo", "mokutil", "dmesg", "nvidia-ctk", "systemctl", "rpm", "dnf")
    readings = ask({"proc/modules": ""}, {name: f'echo {name} >>"{mark}"' for name in names})
    assert not mark.exists()
    assert facts(readings).nvidia is None


def test_the_link_of_each_card(ask: Probe) -> None:
    files = {
        **FILES,
        "sys/bus/pci/devices/0000:01:00.1/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n",
        "sys/bus/pci/devices/0000:02:00.0/vendor": "0x10de\n",
        "sys/bus/pci/devices/0000:02:00.0/class": "0x030200\n",
        "sys/bus/pci/devices/0000:02:00.0/current_link_speed": "Unknown\n",
    }
    readings = ask(files)
    assert readings.files["sys_pci_links"] == "0000:01:00.0 2.5GT/s 4 8.0GT/s 16\n0000:02:00.0 - - - -\n"
    first, second = nvidia(readings).gpus
    shown = (first.pcie_width, first.pcie_width_max, first.pcie_generation, first.pcie_generation_max)
    assert shown == (4, 16, 1, 3)
    assert second.pcie_width is None


MODINFO = f"""[ "$1" = nvidia-current ] || exit 1
printf '%s\\n' 'filename:       /lib/modules/x/nvidia-current.ko' 'alias:          pci:v000010DEd00000E00sv*' \
'version:        535.261.03' 'license:        NVIDIA' 'signer:         DKMS module signing key' \
'vermagic:       {KERNEL} SMP preempt mod_unload modversions '"""


def test_the_module_on_disk_by_debians_name(ask: Probe) -> None:
    readings = ask(programs={"modinfo": MODINFO})
    assert "alias" not in readings.files["modinfo_nvidia"]
    assert readings.files["modinfo_nvidia_vermagic"].startswith(f"vermagic:       {KERNEL}")
    module = nvidia(readings).module
    assert module is not None
    assert (module.version, module.flavour, module.signer, module.kernel) == (
        "535.261.03", "proprietary", "DKMS module signing key", KERNEL,
    )  # fmt: skip


@pytest.mark.parametrize("there", [True, False])
def test_headers_of_the_running_kernel(there: bool, ask: Probe) -> None:
    files = {**FILES, f"lib/modules/{KERNEL if there else '1.2.3'}/build/Makefile": ""}
    assert nvidia(ask(files)).headers is there


def test_dkms_and_the_log_of_a_build_that_failed(ask: Probe) -> None:
    files = {
        **FILES,
        "var/lib/dkms/nvidia/580.95.05/build/make.log": "".join(f"line {n}\n" for n in range(100)) + "*** Error 2\n",
    }
    readings = ask(files, {"dkms": f"echo 'nvidia/580.95.05, {KERNEL}, x86_64: installed'; echo 'nvidia/470.1: added'"})
    assert nvidia(readings).dkms == (
        DkmsModule(name="nvidia", version="580.95.05", kernel=KERNEL, state="installed"),
        DkmsModule(name="nvidia", version="470.1", kernel=None, state="added"),
    )
    assert readings.files["dkms_make_log"].endswith("line 99\n*** Error 2\n")
    assert "line 30\n" not in readings.files["dkms_make_log"]


@pytest.mark.parametrize(
    ("files", "blocked"),
    [
        ({"etc/modprobe.d/a.conf": "blacklist nouveau\n"}, True),
        ({"usr/lib/modprobe.d/a.conf": "install nouveau /bin/false\n"}, True),
        ({"proc/cmdline": "root=/dev/vda1 quiet rd.driver.blacklist=nouveau,radeon\n"}, True),
        ({"etc/modprobe.d/a.conf": "# blacklist nouveau\nsoftdep nouveau pre: vfio-pci\n"}, False),
        ({"proc/cmdline": "root=/dev/vda1 secret=hunter2\n"}, False),
    ],
)
def test_whether_nouveau_is_blocked(files: dict[str, str], blocked: bool, ask: Probe) -> None:
    readings = ask({**FILES, **files})
    assert nvidia(readings).nouveau_blocked is blocked
    assert "hunter2" not in readings.files["nvidia_nouveau_conf"]


def test_files_of_the_driver(ask: Probe, tmp_path: Path) -> None:
    folder = tmp_path / "a root/usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    (folder / "libcuda.so.1").symlink_to("libcuda.so.580.95.05")
    (folder / "libcuda.so.99.1").symlink_to("libcuda.so.580.95.05")
    files = {
        **FILES,
        "usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05": "",
        "usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.126.09": "",
        "usr/lib/x86_64-linux-gnu/nvidia/current/libcuda.so.535.261.03": "",
        "dev/nvidiactl": "",
        "dev/nvidia0": "",
        "usr/bin/nvidia-uninstall": "",
        "etc/apt/sources.list.d/lambda-repository.list": "",
    }
    found = nvidia(ask(files))
    assert found.libraries == ("580.126.09", "580.95.05", "535.261.03")
    assert found.device_files == ("nvidia0", "nvidiactl")
    assert found.other_installs == (
        OtherInstall(kind="runfile", evidence="/usr/bin/nvidia-uninstall"),
        OtherInstall(kind="lambda", evidence="/etc/apt/sources.list.d/lambda-repository.list"),
    )


@pytest.mark.parametrize("boot", ["11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"])
def test_provisions_own_record(boot: str, ask: Probe) -> None:
    record = {
        "schema": 1,
        "state": "installed",
        "branch": "580",
        "version": "580.95.05",
        "module": "open",
        "boot_id": boot,
    }
    found = nvidia(ask({**FILES, "var/lib/provision/nvidia.json": json.dumps(record, indent=2)})).record
    assert found is not None
    assert (found.state, found.branch, found.rebooted) == ("installed", "580", boot.startswith("9"))


def test_space_by_mount_point(ask: Probe, tmp_path: Path) -> None:
    found = nvidia(ask({**FILES, "boot/x": "", "var/x": ""})).disk_free_mib
    assert sorted(found) == ["/", "/boot", "/var"]
    assert found["/"] == pytest.approx(shutil.disk_usage(tmp_path).free / 2**20, rel=0.2)


def test_what_shows_pictures_and_keeps_the_gpu_awake(ask: Probe) -> None:
    names = ("systemd", "Xorg", "gdm3", "Xorg", "nvidia-persiste", "bash")
    files = {f"proc/{number}/comm": f"{name}\n" for number, name in enumerate(names, 100)}
    found = nvidia(ask({**FILES, **files}))
    assert found.display == ("Xorg", "gdm3")
    assert found.persistenced == "active"


@pytest.mark.parametrize(("word", "state"), [("active", "active"), ("inactive", "enabled")])
def test_the_persistence_daemon_by_systemd(word: str, state: str, ask: Probe, tmp_path: Path) -> None:
    ask({**FILES, "usr/bin/nvidia-persistenced": ""})
    (tmp_path / "a root/usr/bin/nvidia-persistenced").chmod(0o755)
    systemctl = f"case $1 in is-active) echo {word} ;; is-enabled) echo enabled ;; esac"
    assert nvidia(ask(FILES, {"systemctl": systemctl})).persistenced == state


@pytest.mark.parametrize(
    ("option", "on"),
    [('APT::Periodic::Unattended-Upgrade "1";', True), ('APT::Periodic::Unattended-Upgrade "0";', False)],
)
def test_unattended_upgrades(option: str, on: bool, ask: Probe, tmp_path: Path) -> None:
    ask({**FILES, "usr/bin/unattended-upgrade": "", "etc/apt/apt.conf.d/20auto-upgrades": f"{option}\n"})
    (tmp_path / "a root/usr/bin/unattended-upgrade").chmod(0o755)
    assert nvidia(ask(FILES)).unattended_upgrades is on


def test_a_reboot_that_is_due_and_why(ask: Probe) -> None:
    readings = ask(
        {
            **FILES,
            "run/reboot-required": "*** System restart required ***\n",
            "run/reboot-required.pkgs": "linux-base\n",
        }
    )
    assert readings.files["reboot_required"] == "yes\nlinux-base\n"
    assert nvidia(readings).reboot_required is True


MOKUTIL = """case $1 in --list-new) printf '[key 1]\\nSHA1 Fingerprint: aa:bb\\n' ;;
--test-key) echo "$2 is already in the enrollment request"; exit 1 ;; esac"""


def test_keys_of_the_owner(ask: Probe) -> None:
    found = nvidia(ask({**FILES, "sys/firmware/efi/x": "", "var/lib/dkms/mok.pub": "key"}, {"mokutil": MOKUTIL}))
    assert found.mok_pending is True
    assert found.key_enrolled is False


def test_docker_and_the_container_toolkit(ask: Probe) -> None:
    config = json.dumps(
        {"registry-mirrors": ["https://inside.example"], "runtimes": {"nvidia": {"path": "x"}}}, indent=2
    )
    programs = {"docker": ":", "nvidia-ctk": "echo NVIDIA Container Toolkit CLI version 1.17.8; echo commit: f2"}
    readings = ask({**FILES, "etc/docker/daemon.json": config}, programs)
    found = nvidia(readings)
    assert (found.docker, found.container_toolkit) == ("nvidia", "1.17.8")
    assert "inside.example" not in "".join(readings.files.values())


LOG = """printf '%s\\n' '[1] pci 0000:01:00.0: 63.008 Gb/s available PCIe bandwidth, limited by 2.5 GT/s' \
'[2] NVRM: GPU at PCI:0000:01:00: GPU-1' '[3] usb 1-1: new device' '[4] traps: python3[9] trap invalid opcode ip:1' \
'[5] vfio-pci 0000:01:00.0: enabling device' '[6] Out of memory: Killed process 12 (python3)' \
'[7] Loading of module with unavailable key is rejected' '[8] pcieport 0000:00:01.0: AER: Corrected error received'"""


@pytest.mark.parametrize("program", ["dmesg", "journalctl"])
def test_the_kernels_log(program: str, ask: Probe) -> None:
    text = ask(programs={program: LOG, **({} if program == "dmesg" else {"dmesg": "exit 1"})}).files["dmesg_nvidia"]
    assert [line[1] for line in text.splitlines()] == list("1245678")


def test_slow_programs_are_left(ask: Probe, request: pytest.FixtureRequest) -> None:
    if "busybox" in request.node.name:
        pytest.skip("busybox has its own timeout, which would take its 20 s")
    programs = {
        "timeout": 'shift\ncase $1 in */dkms | dkms | apt-cache | modinfo) exit 124 ;; esac\nexec "$@"',
        "dkms": "sleep 600", "apt-cache": "sleep 600", "modinfo": "sleep 600", "dpkg-query": ":",
    }  # fmt: skip
    readings = ask({**FILES, **LISTS}, programs)
    assert readings.files["dkms_status.status"] == "124"
    assert nvidia(readings).module is None


def test_in_wsl2_no_card_is_on_the_bus(ask: Probe) -> None:
    readings = ask({"usr/lib/wsl/lib/libcuda.so.1": "", "proc/modules": ""}, {"dpkg-query": DPKG})
    assert "nvidia-driver" in [each.name for each in nvidia(readings).packages]


def test_variables_that_pin_the_gpus_work(ask: Probe) -> None:
    env: dict[str, Any] = {"CUDA_VISIBLE_DEVICES": "1", "ONEDNN_MAX_CPU_ISA": "AVX2", "HF_TOKEN": "no"}
    found = nvidia(ask(**env))
    assert found.environment.items() >= {"CUDA_VISIBLE_DEVICES": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}.items()
    assert "HF_TOKEN" not in found.environment


def test_the_kernels_that_can_be_booted_and_their_modules(ask: Probe) -> None:
    later = "99.1.0-31-amd64"  # newer than whatever the tests run on
    files = {
        **FILES,
        **{f"boot/vmlinuz-{release}": "" for release in (KERNEL, later, "0-rescue-0123")},
        **{f"lib/modules/{release}/modules.dep": "" for release in (KERNEL, later)},
        "etc/default/grub": "GRUB_TIMEOUT=5\nGRUB_DEFAULT=saved\n",
        "boot/grub/grubenv": f"# GRUB Environment Block\nsaved_entry=0123456789abcdef0123456789abcdef-{later}\n####",
    }
    modinfo = f'[ "$*" = "-k {later} -F version nvidia-current" ] || exit 1; echo 535.261.03'
    readings = ask(files, {"modinfo": modinfo})
    assert readings.files["boot_kernels"].splitlines() == [
        f"kernel {KERNEL}",
        f"kernel {later}",
        f"module {later} 535.261.03",
        "GRUB_DEFAULT=saved",
        f"saved_entry={later}",
    ]
    found = nvidia(readings)
    assert (found.next_kernel, found.next_module_version) == (later, "535.261.03")
