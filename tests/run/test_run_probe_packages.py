"""What the probe asks package managers, in real shells: apt and dpkg as they are here, dnf and rpm as made programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from made_machine import DPKG, FILES, KERNEL, LISTS, SHELLS, Machine, nvidia

from provision.model.nvidia import Package
from provision.model.readings import Readings

ROLES = Path(__file__).resolve().parents[2] / "playbooks/roles"
Probe = Callable[..., Readings]


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def ask(request: pytest.FixtureRequest, tmp_path: Path) -> Probe:
    return Machine(tmp_path, request.param).ask


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
    """Each name in the roles' tables, for each branch and the installed kernels, gets through the filter; others do
    not."""
    later = "9.9.8-1-generic"
    wanted = sorted({*apt_packages(), f"linux-headers-{later}", f"linux-modules-nvidia-580-open-{later}"})
    assert len(wanted) > 30
    other = "nvidia-settings linux-modules-nvidia-580-9.9.9-99-generic bash cuda-nvcc-12-6 nvidia-driver-580-dev make2"
    names = "\\n".join([*wanted, *other.split()])
    readings = ask(
        {**FILES, **LISTS, f"lib/modules/{later}/modules.dep": ""},
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
        yield from table.get("__nvidia_driver_secure_boot", [])
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
