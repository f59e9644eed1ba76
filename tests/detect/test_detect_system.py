"""Operating system, kernel, C library, Secure Boot, WSL, container, Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from provision.detect.memory import memory_facts
from provision.detect.secure_boot import secure_boot
from provision.detect.system import container, glibc, is_wsl, kernel, os_facts, python_paths, pythons
from provision.detect.toolkit import toolkit_facts
from provision.model.facts import Facts
from provision.model.readings import Readings

FactsOf = Callable[[Mapping[str, str]], Facts]


def one(name: str, text: str) -> Readings:
    return Readings({name: text})


@pytest.mark.parametrize(
    ("name", "text", "os"),
    [
        ("os_release", 'ID=debian\nVERSION_ID="12"\n', ("debian", "12")),
        ("os_release", "NAME=Arch Linux\nID=arch\nBUILD_ID=rolling\n", ("arch", None)),
        ("os_release", 'ID="rocky"\nID_LIKE="rhel fedora"\nVERSION_ID="9.4"\n', ("rocky", "9.4")),
        ("etc_lsb_release", "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=24.04\n", ("ubuntu", "24.04")),
        (
            "lsb_release_a",
            "No LSB modules are available.\nDistributor ID:\tUbuntu\nRelease:\t16.04\n",
            ("ubuntu", "16.04"),
        ),
        ("etc_redhat_release", "Scientific Linux release 6.5 (Carbon)\n", ("scientific", "6.5")),
        ("etc_redhat_release", "Red Hat Enterprise Linux release 8.6 (Ootpa)\n", ("rhel", "8.6")),
        ("etc_redhat_release", "CentOS Linux release 7.9.2009 (Core)\n", ("centos", "7.9.2009")),
        ("etc_issue", "Ubuntu 22.04.1 LTS \\n \\l\n", ("ubuntu", "22.04")),
        ("etc_issue", "Debian GNU/Linux 12 \\n \\l\n", ("debian", "12")),
        ("etc_debian_version", "12.5\n", ("debian", "12")),
        ("etc_debian_version", "bookworm/sid\n", (None, None)),
        ("sw_vers", "ProductName:\t\tmacOS\nProductVersion:\t\t14.5\n", ("macos", "14.5")),
        ("os_release", "", (None, None)),
        ("os_release", "ID=$(reboot)\n", (None, None)),
    ],
)
def test_distribution(name: str, text: str, os: tuple[str | None, str | None]) -> None:
    found = os_facts(one(name, text))
    assert (found.id, found.version_id) == os


@pytest.mark.parametrize(
    ("name", "text", "release", "wsl"),
    [
        ("uname_a", "Linux host 6.8.0-60-generic #63~22.04.1-Ubuntu SMP x86_64 GNU/Linux\n", "6.8.0-60-generic", False),
        (
            "uname_a",
            "Linux host 6.6.87.2-microsoft-standard-WSL2 #1 SMP x86_64\n",
            "6.6.87.2-microsoft-standard-WSL2",
            True,
        ),
        ("uname_a", "Linux host 4.4.0-19041-Microsoft #1 x86_64\n", "4.4.0-19041-Microsoft", True),
        ("uname_a", "Linux host 6.8.0-1015-azure #17 SMP x86_64\n", "6.8.0-1015-azure", False),
        ("proc_version", "Linux version 6.17.0-1014-nvidia (buildd@x) #14\n", "6.17.0-1014-nvidia", False),
        ("uname_a", "nonsense\n", None, False),
    ],
)
def test_kernel(name: str, text: str, release: str | None, wsl: bool) -> None:
    readings = one(name, text)
    assert (kernel(readings), is_wsl(readings)) == (release, wsl)


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({"mokutil_sb_state": "SecureBoot enabled\n"}, True),
        ({"mokutil_sb_state": "SecureBoot disabled\n"}, False),
        ({"mokutil_sb_state": "SecureBoot enabled\nSecureBoot validation is disabled in shim\n"}, False),
        ({"mokutil_sb_state": "EFI variables are not supported on this system\n"}, None),
        ({"mokutil_sb_state": "This system doesn't support Secure Boot\n"}, False),
        ({"efi_secure_boot": "   6   0   0   0   1\n"}, True),
        ({"efi_secure_boot": "   6   0   0   0   0\n"}, False),
        ({"efi_secure_boot": "   6   0   0   0   1\nshim   6   0   0   0   1\n"}, False),
        ({"efi_secure_boot": "   6   0   0   0   1\nshim   6   0   0   0   0\n"}, True),
        ({"efi_secure_boot": "bios\n"}, False),
        ({"efi_secure_boot": "od: cannot read\n"}, None),
        ({"dmesg_nvidia": "[    0.000000] secureboot: Secure boot enabled\n"}, True),
        ({"dmesg_nvidia": "[    0.000000] secureboot: Secure boot could not be determined (mode 0)\n"}, None),
        ({"dmesg_nvidia": "[    4.251707] Bluetooth: hci0: Secure boot is enabled\n"}, None),
        ({}, None),
    ],
)
def test_secure_boot(files: dict[str, str], state: bool | None) -> None:
    assert secure_boot(Readings(files)) is state


@pytest.mark.parametrize(
    ("text", "version"), [("glibc 2.36\n", "2.36"), ("musl\n", None), ("", None), ("getconf: no such\n", None)]
)
def test_glibc(text: str, version: str | None) -> None:
    assert glibc(one("glibc", text)) == version


@pytest.mark.parametrize(("text", "inside"), [("none\n", False), ("docker\n", True), ("lxc\n", True), ("", None)])
def test_container(text: str, inside: bool | None) -> None:
    assert container(one("container", text)) is inside


def test_pythons_newest_first() -> None:
    text = "3.9.2 /usr/bin/python3.9\n3.11.2 /usr/bin/python3\n3.11.2 /opt/my python/bin/python3.11\n"
    text += "3.14.0+ /opt/built/bin/python3\n3.15.0rc1 /opt/early/bin/python3\nbad\n"
    readings = one("pythons", text)
    assert pythons(readings) == ("3.14.0", "3.11.2", "3.9.2")
    assert ("3.11.2", "/opt/my python/bin/python3.11") in python_paths(readings)


@pytest.mark.parametrize(
    ("files", "total"),
    [
        ({"proc_meminfo": "MemTotal:       24683764 kB\nMemFree: 1 kB\n"}, 24105),
        ({"proc_meminfo": "MemTotal:       99999999999999999999 kB\n"}, None),
        ({"proc_meminfo": "MemTotal:       0 kB\n"}, None),
        ({"sysctl": "hw.memsize: 17179869184\n"}, 16384),
        ({}, None),
    ],
)
def test_memory(files: dict[str, str], total: int | None) -> None:
    assert memory_facts(Readings(files)).total_mib == total


def test_toolkit() -> None:
    header = "#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 3\n#define CUDNN_PATCHLEVEL 0\n"
    nvcc = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release 12.5, V12.5.82\n"
    found = toolkit_facts(Readings({"nvcc_version": nvcc, "cudnn_version": header}))
    assert (found.cuda, found.cudnn) == ("12.5", "9.3.0")
    assert toolkit_facts(one("cudnn_version", "#define CUDNN_MAJOR 9\n")).cudnn is None


# --- findings -------------------------------------------------------------------------------------------------------

GUEST = (
    "processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {name}\n"
    "flags\t\t: fpu cx8 cmov mmx fxsr sse sse2 syscall lm cx16 hypervisor\n"
)

FINDINGS: dict[str, tuple[dict[str, str], str, str, str]] = {
    # case: readings, id, severity, a part of the reason
    "no reading": ({}, "no_cpu_reading", "warning", "none of the readings proc_cpuinfo, lscpu, sysctl is there"),
    "cpuinfo without a processor": (
        {"proc_cpuinfo": "\n\n"}, "no_cpu_reading", "error", "proc_cpuinfo has no processor in it",
    ),
    "KVM's own model": (
        {"proc_cpuinfo": GUEST.format(vendor="AuthenticAMD", family=15, model=6, name="Common KVM processor")},
        "masked_flags", "warning", "x86-64-v2 it lacks lahf_lm pni popcnt",
    ),
    "a real model, half its flags": (
        {"proc_cpuinfo": GUEST.format(vendor="GenuineIntel", family=6, model=85, name="Intel(R) Xeon(R) Gold 6132")},
        "masked_flags", "warning", "a guest on skylake_avx512 silicon, level x86-64-v1",
    ),
    "OpenBLAS pinned": (
        {"user_environment": "OPENBLAS_CORETYPE=Nehalem\n"}, "blas_pinned", "info", "no longer chooses",
    ),
    "OpenBLAS pinned too high": (
        {
            "user_environment": "OPENBLAS_CORETYPE=Haswell\n",
            "proc_cpuinfo": GUEST.format(vendor="GenuineIntel", family=6, model=26, name="Core i7"),
        },
        "blas_pinned", "error", "this CPU has no avx2",
    ),
    "musl": ({"glibc": "musl\n"}, "not_glibc", "warning", "built for glibc"),
    "Secure Boot rejects": (
        {
            "mokutil_sb_state": "SecureBoot enabled\n",
            "dmesg_nvidia": "[    5.1] Loading of unsigned module is rejected\n",
        },
        "secure_boot_unsigned_module", "warning", "Loading of unsigned module is rejected",
    ),
    "Secure Boot, and the driver is not loaded": (
        {
            "mokutil_sb_state": "SecureBoot enabled\n",
            "nvidia_smi.txt": "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        },
        "secure_boot_unsigned_module", "warning", "the module that is installed is not loaded",
    ),
    "two versions": (
        {
            "nvidia_smi_version.txt": "DRIVER version      : 590.48.01\n",
            "proc_driver_nvidia_version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue\n",
        },
        "mixed_sources", "warning",
        "nvidia_smi_version.txt: 590.48.01, proc_driver_nvidia_version: 580.95.05",
    ),
    "module for another kernel": (
        {
            "uname_a": "Linux host 6.1.0-30-amd64 #1 SMP x86_64 GNU/Linux\n",
            "modinfo_nvidia_vermagic": "vermagic:       6.1.0-28-amd64 SMP preempt mod_unload\n",
        },
        "module_for_other_kernel", "warning", "built for 6.1.0-28-amd64, running 6.1.0-30-amd64",
    ),
    "a GPU fell off the bus": (
        {"dmesg_nvidia": "NVRM: Xid (PCI:0000:01:00): 79, pid=1, GPU has fallen off the bus.\n"},
        "xid_errors", "warning", "Xid 79",
    ),
    "a program's own fault": (
        {"dmesg_nvidia": "NVRM: Xid (PCI:0000:01:00): 31, pid=1\nNVRM: Xid (PCI:0000:01:00): 13, pid=1\n"},
        "xid_errors", "info", "Xid 13, 31",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FINDINGS)
def test_finding(case: str, facts_of: FactsOf) -> None:
    files, identity, severity, reason = FINDINGS[case]
    finding = next(finding for finding in facts_of(files).findings if finding.id == identity)
    assert finding.severity == severity
    assert reason in finding.why
    assert finding.what
    assert finding.hint


def test_secure_boot_alone_is_no_finding(facts_of: FactsOf) -> None:
    ids = {finding.id for finding in facts_of({"mokutil_sb_state": "SecureBoot enabled\n"}).findings}
    assert ids == {"no_cpu_reading"}


def test_worst_first(facts_of: FactsOf) -> None:
    files = {"user_environment": "OPENBLAS_CORETYPE=Zen\n", "glibc": "musl\n", "proc_cpuinfo": "\n"}
    severities = [finding.severity for finding in facts_of(files).findings]
    assert severities == ["error", "warning", "info"]
