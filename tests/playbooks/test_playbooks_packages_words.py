"""What package managers say, as recorded: versions that can be had, and failures turned into what, why and hint."""

from __future__ import annotations

import os
import signal
from typing import Any

import playbook_target  # noqa: F401  # makes module_utils importable
import pytest
from ansible.module_utils.provision_apt_words import (
    arguments,
    distribution_addresses,
    failed_addresses,
    installed_mib,
    policy_rows,
    simulated,
)
from ansible.module_utils.provision_failure import Failure, Interrupted
from ansible.module_utils.provision_packages import manager
from ansible.module_utils.provision_packages_choose import chosen, exact, fits, whole_release
from ansible.module_utils.provision_packages_run import last_words, meaning, patient, run_apart

# apt-cache policy on Ubuntu 24.04 with NVIDIA's repository, as it prints
NOBLE = """\
nvidia-driver-580:
  Installed: 580.95.05-0ubuntu0.24.04.2
  Candidate: 580.126.09-0ubuntu0.24.04.1
  Version table:
     590.44.01-1ubuntu1 600
        600 https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64  Packages
     580.126.09-0ubuntu0.24.04.1 990
        500 http://archive.ubuntu.com/ubuntu noble-updates/restricted amd64 Packages
        500 http://security.ubuntu.com/ubuntu noble-security/restricted amd64 Packages
 *** 580.95.05-0ubuntu0.24.04.2 100
        100 /var/lib/dpkg/status
     570.1-0ppa1 -1
         -1 https://ppa.launchpadcontent.net/graphics-drivers/ppa/ubuntu noble/main amd64 Packages
nvidia-smi:
  Installed: (none)
  Candidate: (none)
  Version table:
"""
ORIGINS = """\
Package files:
 100 /var/lib/dpkg/status
     release a=now
 600 https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64  Packages
     release o=NVIDIA,l=NVIDIA CUDA,c=
     origin developer.download.nvidia.com
 500 http://security.ubuntu.com/ubuntu noble-security/restricted amd64 Packages
     release v=24.04,o=Ubuntu,a=noble-security,n=noble,l=Ubuntu,c=restricted,b=amd64
     origin security.ubuntu.com
 500 http://archive.ubuntu.com/ubuntu noble-updates/restricted amd64 Packages
     release v=24.04,o=Ubuntu,a=noble-updates,n=noble,l=Ubuntu,c=restricted,b=amd64
     origin archive.ubuntu.com
Pinned packages:
"""
CUDA = "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64"


def test_the_candidate_is_first_and_what_only_dpkg_knows_is_none() -> None:
    homes = {**distribution_addresses(ORIGINS), f"{CUDA}/": "cuda-ubuntu2404-x86_64"}
    assert policy_rows(NOBLE, homes) == {
        "nvidia-driver-580": [
            {"version": "580.126.09-0ubuntu0.24.04.1", "repository": "distribution"},
            {"version": "590.44.01-1ubuntu1", "repository": "cuda-ubuntu2404-x86_64"},
        ],
        "nvidia-smi": [],
    }
    assert policy_rows(NOBLE, {})["nvidia-driver-580"][-1]["repository"] == CUDA


def test_what_a_simulation_says() -> None:
    text = (
        "Remv nvidia-driver [535.261.03-1]\n"
        "Inst cuda-nvcc-12-6 [12.6.77-1] (12.6.85-1 NVIDIA:cuda [amd64])\n"
        "Inst libc6:i386 (2.36-9 Debian:12 [i386]) []\nConf cuda-nvcc-12-6 (12.6.85-1 NVIDIA:cuda [amd64])\n"
    )
    assert simulated(text) == ({"cuda-nvcc-12-6": "12.6.85-1", "libc6": "2.36-9"}, ["nvidia-driver"])
    assert installed_mib("Installed-Size: 2048\nInstalled-Size: 1025\n") == 3


def test_addresses_that_failed() -> None:
    said = (
        "Err:2 http://lab:9/x stable InRelease\n  Could not connect\nGet:1 http://ok/ stable\n"
        "W: Failed to fetch file:/repo/Packages  File not found\n"
    )
    assert failed_addresses(said) == ["http://lab:9/x", "file:/repo/Packages"]


def test_a_packages_own_file_is_taken_where_it_fits() -> None:
    files = ["/kept/demo_1%3a1.0-1_all.deb", "/kept/other_2.0_amd64.deb"]
    assert arguments([("demo", "1:1.0-1"), ("other", "3.0"), ("any", "")], files) == [
        "/kept/demo_1%3a1.0-1_all.deb", "other=3.0", "any",
    ]  # fmt: skip
    assert arguments([], files) == files


@pytest.mark.parametrize(
    ("said", "kind", "what"),
    [
        ("dpkg: error processing archive x.deb (--unpack):\n cannot copy: failed to write (No space left on device)",
         "disk_full", "the disk is full"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "disk_full", "the disk is full"),
        ("Error Summary\nDisk Requirements:\n   At least 120MB more space needed on the / filesystem.", "disk_full",
         "the disk is full"),
        ("E: Conflicting values set for option Signed-By regarding source https://x /: a != b\n"
         "E: The list of sources could not be read.", "sources",
         "two of the package manager's sources give one address different values of Signed-By"),
        ("W: GPG error: https://x  InRelease: The following signatures couldn't be verified because the public key is "
         "not available: NO_PUBKEY A4B469963BF863CC\nE: The repository 'https://x  InRelease' is not signed.", "no_key",
         "the key A4B469963BF863CC that signs a repository is not on this host"),
        ("E: The repository 'http://x  Release' is not signed.", "unsigned", "a repository is not signed"),
        ("E: Failed to fetch http://x/Packages.gz  File has unexpected size (1 != 2). Mirror sync in progress?",
         "mirror_sync", "a mirror is in the middle of an update"),
        ("E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.",
         "interrupted_packages", "an earlier installation was cut off"),
        ("E: Package 'nvidia-smi' has no installation candidate", "no_candidate",
         "no repository has the package nvidia-smi"),
        ("Error: Unable to find a match: cuda-toolkit-12-6", "no_candidate",
         "no repository has the package cuda-toolkit-12-6"),
        ("All matches were filtered out by modular filtering for argument: nvidia-driver\n"
         "Error: Unable to find a match: nvidia-driver", "no_candidate",
         "the packages are of a module stream that is not on"),
        ("Error: It is not possible to switch enabled streams of a module unless explicitly enabled", "module_stream",
         "another stream of the module is switched on"),
        ("The following packages have unmet dependencies:\n nvidia-driver : Depends: nvidia-alternative but it is not "
         "going to be installed\nE: Unable to correct problems, you have held broken packages.", "broken_dependencies",
         "the packages do not go together"),
        ("Error:\n Problem: conflicting requests\n  - nothing provides dkms needed by kmod-nvidia-open-dkms-3:580",
         "broken_dependencies", "the packages do not go together"),
        ("Curl error (6): Couldn't resolve host name for https://x/repodata/repomd.xml", "offline",
         "a repository cannot be reached"),
        ("Error: GPG check FAILED", "bad_signature", "a signature is wrong"),
        ("Error! Bad return status for module build\nErrors were encountered while processing:\n nvidia-kernel-dkms",
         "package_script", "a package's own script failed"),
        ("E: Something new", "packages", "could not install demo"),
    ],
)  # fmt: skip
def test_words_become_what_why_and_hint(said: str, kind: str, what: str) -> None:
    failure = meaning(said, "install demo")
    assert failure.kind == kind
    assert what in failure.what
    assert failure.why == said
    assert failure.hint


def test_progress_is_left_out_of_the_last_words() -> None:
    said = "Reading package lists...\nGet:1 http://x Packages\nE: Unable to locate package x\nFetched 3 kB\n\n"
    assert last_words(said) == "E: Unable to locate package x"
    assert meaning("Reading package lists...", "install x").why == "it said nothing"


def test_an_unknown_manager_is_told() -> None:
    with pytest.raises(Failure, match="there is no package manager 'zypper' here"):
        manager("zypper")


# --- running -------------------------------------------------------------------------------------------------------


def test_programs_run_apart_from_the_run_that_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISION_RUN", "run-1")
    done = run_apart(["sh", "-c", "echo ${PROVISION_RUN:-none} $MORE; echo why >&2; exit 3"], {"MORE": "more"})
    assert done == (3, "none more\n", "why\n")
    assert run_apart(["provision-no-such-program"]).status == 127


def test_a_signal_is_told_after_the_operation_that_it_came_in() -> None:
    finished = []
    with pytest.raises(Interrupted, match="SIGTERM"), patient():
        os.kill(os.getpid(), signal.SIGTERM)
        finished.append("all of it")
    assert finished == ["all of it"]


# --- choosing ------------------------------------------------------------------------------------------------------

SET = {
    "id": "debian-cuda-toolkit", "releases": ["12", "13"], "archs": ["x86_64", "aarch64"], "repository": "cuda",
    "packages": ["cuda-toolkit-{version_dashed}"],
}  # fmt: skip
HOME = {
    "id": "cuda", "releases": ["12"], "url": "https://lab/debian{release}/{arch}",
    "key_url": "https://lab/debian{release}/{arch}/k.pub", "fingerprint": "F" * 40,
}  # fmt: skip


def params(**changes: Any) -> dict[str, Any]:
    named: dict[str, Any] = {
        "name": "cuda_toolkit", "manager": "apt", "packages": [], "repositories": [], "sets": [SET],
        "set_repositories": [{**HOME, "releases": ["13"]}, HOME], "distribution": "Debian", "release": "12",
        "version": "12.6", "cuda_version": "", "mirror": "", "key_url": "", "fingerprint": "",
    }  # fmt: skip
    return {**named, **changes}


def test_the_first_row_that_fits_is_filled_for_the_host() -> None:
    found = chosen(params(), "aarch64")
    assert found.packages == [{"name": "cuda-toolkit-12-6", "repository": "cuda-debian12-aarch64", "version": ""}]
    (home,) = found.repositories
    assert (home["url"], home["key_url"]) == ("https://lab/debian12/sbsa", "https://lab/debian12/sbsa/k.pub")
    wsl = chosen(params(distribution="wsl-ubuntu"), "x86_64")
    assert wsl.repositories[0]["id"] == "cuda-wsl-ubuntu-x86_64"


def test_named_packages_go_before_the_tables_with_their_own_repository_only() -> None:
    packages = [{"name": "cuda-toolkit-13-0", "repository": "a", "version": "13."}]
    found = chosen(params(packages=packages, repositories=[{"id": "a", "url": "u"}, {"id": "b", "url": "v"}]))
    assert (found.packages, [one["id"] for one in found.repositories]) == (packages, ["a"])


def test_no_row_is_told() -> None:
    with pytest.raises(Failure, match=r"provision does not know how to install cuda_toolkit 12\.6 here") as stop:
        chosen(params(release="11"), "x86_64")
    assert stop.value.why == "it is Debian 11 on x86_64"


def test_exact_versions_of_what_is_missing() -> None:
    packages = [{"name": "cudnn9-cuda-12", "version": "9.10.2"}, {"name": "here", "version": "1."}]
    rows = [{"version": version} for version in ("9.14.0.64-1", "9.10.21.1-1", "9.10.2.21-1")]
    assert exact(packages, {"cudnn9-cuda-12": rows}, {"here": "2:1.5-1"}, []) == [("cudnn9-cuda-12", "9.10.2.21-1")]
    with pytest.raises(Failure) as stop:
        exact(packages, {"cudnn9-cuda-12": rows[:2]}, {"here": "2:1.5-1"}, ["https://lab"])
    assert stop.value.what == "no repository has cudnn9-cuda-12 9.10.2 (there is 9.14.0.64-1, 9.10.21.1-1)"
    assert stop.value.why == "asked: https://lab; nothing was changed"


def test_prefixes_end_between_numbers() -> None:
    assert fits("3:9.10.2.21-1", "9.10.2")
    assert not fits("9.10.2-1", "9.1")
    assert fits("580.95-1", "580.")
    assert not fits("", "")
    assert whole_release("9.10.2")
    assert not whole_release("12.6.")
