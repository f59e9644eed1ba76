"""What the probe reads of NVIDIA's software, in real shells, on machines made of files and with programs of our own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.catalog.load import chips
from provision.detect import host_facts
from provision.detect.framed import is_complete, split
from provision.model.facts import Facts
from provision.model.nvidia import DkmsModule, HostNvidia, OtherInstall, Package
from provision.model.readings import Readings
from provision.run import probe
from provision.run.command import run
from provision.run.dump import is_reading

SHELLS = [shell for shell in (["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(shell[0])]
PLAIN_TOOLS = "sh cat grep sed awk tail head tr df id uname readlink getconf timeout sleep env wc".split()  # noqa: SIM905
ROLES = Path(__file__).resolve().parents[2] / "playbooks/roles"
KERNEL = os.uname().release
ADDRESS = "0000:01:00.0"
CARD = f"sys/bus/pci/devices/{ADDRESS}"
FILES = {
    "proc/modules": "",
    "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
    f"{CARD}/vendor": "0x10de\n",
    f"{CARD}/device": "0x1401\n",
    f"{CARD}/class": "0x030000\n",
    f"{CARD}/current_link_speed": "2.5 GT/s PCIe\n",
    f"{CARD}/current_link_width": "4\n",
    f"{CARD}/max_link_speed": "8.0 GT/s PCIe\n",
    f"{CARD}/max_link_width": "16\n",
}

Probe = Callable[..., Readings]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Probe:
    """Run the script in a shell on a machine made of ``files``. On PATH are plain tools and ``programs``: what this
    machine has of dpkg, apt, docker and the like is not seen."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in PLAIN_TOOLS:
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)

    def asked(
        files: dict[str, str] | None = None,
        programs: dict[str, str] | None = None,
        real: tuple[str, ...] = (),
        **env: str,
    ) -> Readings:
        root, own = tmp_path / "a root", tmp_path / "programs"
        for name, text in (FILES if files is None else files).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        root.mkdir(exist_ok=True)
        own.mkdir(exist_ok=True)
        for name, text in (programs or {}).items():
            (own / name).write_text(f"#!/bin/sh\n{text}\n")
            (own / name).chmod(0o755)
        for name in real:
            (own / name).symlink_to(str(shutil.which(name)))
        for name in ("dkms", "modinfo"):  # the script adds /usr/sbin to PATH
            if not (own / name).exists():
                (own / name).write_text("#!/bin/sh\nexit 127\n")
                (own / name).chmod(0o755)
        boundary = probe.new_boundary()
        shell = [str(shutil.which(request.param[0])), *request.param[1:]]
        script = probe.probe_script()
        done = run(
            [*shell, "-s", "--", boundary, "-", str(root)],
            stdin=script,
            env={"PATH": f"{own}:{tools}", "HOME": str(tmp_path), **env},
            timeout_s=60,
        )
        assert (done.status, done.stderr) == (0, "")
        assert is_complete(done.stdout, boundary)
        readings = split(done.stdout, boundary)
        assert all(is_reading(name) for name in readings.files if name not in ("environments", "data_home"))
        return readings

    return asked


def facts(readings: Readings) -> Facts:
    return host_facts(readings, chips(), host="here")


def nvidia(readings: Readings) -> HostNvidia:
    found = facts(readings).nvidia
    assert found is not None
    return found


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


DPKG = """printf '%s\\n' 'ii  bash 5.2' 'hi  nvidia-driver 535.261.03-1' 'iF  nvidia-kernel-dkms 535.261.03-1' \
'rc  nvidia-smi 470.1' 'un  nvidia-tesla-driver ' 'ii  libcudnn9-cuda-12 9.10.2.21-1' 'hi  linux-image-amd64 6.1.1'"""


def test_packages_of_dpkg(ask: Probe) -> None:
    found = nvidia(ask(programs={"dpkg-query": DPKG}))
    assert found.packages == (
        Package(name="libcudnn9-cuda-12", version="9.10.2.21-1"),
        Package(name="nvidia-driver", version="535.261.03-1"),
        Package(name="nvidia-kernel-dkms", version="535.261.03-1"),
    )
    assert found.unfinished == (Package(name="nvidia-kernel-dkms", version="535.261.03-1"),)
    assert found.holds == ("linux-image-amd64", "nvidia-driver")
    assert found.candidates is None


LISTS = {
    "var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages.lz4": "",
    "var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_non-free_binary-amd64_Packages": "",
}


@pytest.mark.skipif(not shutil.which("apt-cache"), reason="needs apt")
def test_apt_itself_is_asked_without_a_trace(ask: Probe) -> None:
    """The real apt and dpkg of this machine."""
    before = [(path.name, path.stat().st_mtime_ns) for path in sorted(Path("/var/cache/apt").glob("*"))]
    readings = ask({**FILES, **LISTS}, real=("apt-cache", "dpkg-query"))
    assert [(path.name, path.stat().st_mtime_ns) for path in sorted(Path("/var/cache/apt").glob("*"))] == before
    found = nvidia(readings)
    assert found.components == ("main", "non-free")
    assert found.candidates is not None
    said = subprocess.run(["apt-cache", "policy", "make"], capture_output=True, text=True, check=True).stdout
    wanted, places = re.search(r"Candidate: (\d\S+)", said), re.findall(r"^ +\d+ (\w+:\S+ \S+) ", said, re.MULTILINE)
    make = next((each for each in found.candidates if each.name == "make"), None)
    assert (make and make.version) == (wanted and wanted[1])
    assert not make or make.repository in (places or [""])


def test_apt_is_asked_about_every_package_of_the_roles(ask: Probe) -> None:
    """Each name in the roles' tables, for each branch and this kernel, gets through the filter; others do not."""
    wanted = sorted(set(apt_packages()))
    assert len(wanted) > 30
    other = "nvidia-settings linux-modules-nvidia-580-9.9.9-99-generic bash cuda-nvcc-12-6 nvidia-driver-580-dev make2"
    names = "\\n".join([*wanted, *other.split()])
    readings = ask(
        {**FILES, **LISTS},
        {
            "dpkg-query": ":",
            "apt-cache": "while :; do case $1 in pkgnames) "
            f"printf '{names}\\n'; exit ;; policy) shift; break ;; esac; shift; done\n"
            'for word; do printf "%s:\\n  Candidate: 1\\n" "$word"; done',
        },
    )
    found = nvidia(readings).candidates
    assert found is not None
    assert [each.name for each in found] == wanted


def apt_packages() -> Iterator[str]:
    words = {
        "{kernel}": KERNEL,
        "{flavour}": KERNEL.rpartition("-")[2],
        "{version_dashed}": "12-6",
        "{cuda_major}": "12",
    }
    for path in sorted(ROLES.glob("*/vars/*.yml")):
        table = yaml.safe_load(path.read_text())
        if "apt" not in [value for key, value in table.items() if key.endswith("_manager")]:
            continue
        for row in [row for key, rows in table.items() if key.endswith("_sets") for row in rows]:
            for branch in row.get("branches") or ["470", "580", "610"]:
                for name in [*row["packages"], *row.get("headers", [])]:
                    for brace, value in {**words, "{branch}": branch}.items():
                        name = name.replace(brace, value)
                    if "{" not in name:
                        yield name


@pytest.mark.parametrize(
    ("user", "cache", "in_memory"),
    [("0", "old", True), ("0", "none", True), ("0", "fresh", False), ("1000", "old", False)],
)
def test_apt_never_writes_its_cache(user: str, cache: str, in_memory: bool, ask: Probe, tmp_path: Path) -> None:
    files = {**FILES, **LISTS, "var/lib/dpkg/status": "", "etc/apt/sources.list.d/x": ""}
    if cache != "none":
        files["var/cache/apt/pkgcache.bin"] = ""
    ask(files)
    for number, name in enumerate(("var/lib/dpkg/status", "var/lib/apt/lists", "etc/apt/sources.list.d")):
        os.utime(tmp_path / "a root" / name, (1000 + number, 1000 + number))
    if cache != "none":
        moment = 2000 if cache == "fresh" else 1001
        os.utime(tmp_path / "a root/var/cache/apt/pkgcache.bin", (moment, moment))
    programs = {"id": f"echo {user}", "dpkg-query": ":", "apt-cache": 'echo make; echo "$*" >&2'}
    asked = ask({}, programs).files["apt_policy"]
    assert ("Dir::Cache::pkgcache=" in asked) is in_memory


def test_lists_that_were_never_fetched_say_nothing(ask: Probe) -> None:
    found = nvidia(ask(programs={"dpkg-query": ":", "apt-cache": "echo make"}))
    assert found.candidates is None
    assert found.components is None


def test_an_apt_that_fails_says_nothing(ask: Probe) -> None:
    broken = 'case "$*" in *pkgnames) echo make ;; *) echo "E: The package cache file is corrupted"; exit 100 ;; esac'
    readings = ask({**FILES, **LISTS}, {"dpkg-query": ":", "apt-cache": broken})
    assert readings.files["apt_policy.status"] == "100"
    assert nvidia(readings).candidates is None


LOCKS = {
    "etc/dnf/plugins/versionlock.list": "# Added lock on Mon\n*nvidia*580*\n\n!cuda-drivers-0:590*\n",
    "etc/dnf/versionlock.toml": 'version = "1.0"\n\n[[packages]]\nname = "nvidia-driver"\ncomment = "by hand"\n',
}
RPM = "printf '%s\\n' 'ii nvidia-driver 580.95.05-1.el9' 'ii cuda-toolkit-12-6 12.6.3-1'"
DNF = """[ "$1 $2 $3" = '-q -C repoquery' ] && printf '%s\\n\\n' 'nvidia-driver 3:580.95.05-1.el9 cuda-rhel9-x86_64'"""


def test_packages_of_rpm_and_locks_of_dnf(ask: Probe) -> None:
    found = nvidia(ask({**FILES, **LOCKS}, {"rpm": RPM, "dnf": DNF, "id": "echo 0"}))
    assert [str(each.name) for each in found.packages] == ["cuda-toolkit-12-6", "nvidia-driver"]
    assert found.holds == ("!cuda-drivers-0:590*", "*nvidia*580*", "nvidia-driver")
    assert found.candidates is not None
    (driver,) = found.candidates
    assert (driver.name, driver.version, driver.repository) == (
        "nvidia-driver", "3:580.95.05-1.el9", "cuda-rhel9-x86_64",
    )  # fmt: skip


def test_dnf_is_asked_by_root_only(ask: Probe) -> None:
    readings = ask(programs={"rpm": RPM, "dnf": DNF, "id": "echo 1000"})
    assert "dnf_candidates" not in readings.files
    assert nvidia(readings).candidates is None


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
    assert found.environment == {"CUDA_VISIBLE_DEVICES": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"}
