"""Which packages: the roles' own tables filled for a host, and versions that belong together."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.module_utils.provision_driver_packages import (
    Wanted,
    exact,
    family,
    family_name,
    kernel_names,
    pin,
    upstream,
    wanted,
    world,
)
from ansible.module_utils.provision_failure import Failure
from playbook_target import PLAYBOOKS

VARS = PLAYBOOKS / "roles" / "nvidia_driver" / "vars"
NONE: dict[str, Any] = {
    "packages": [], "headers": [], "components": [], "repositories": [], "stream": "", "lock": "", "version": "",
    "build": "", "mirror": "", "key_url": "", "fingerprint": "", "next_kernel": "",
}  # fmt: skip


def chosen(file: str, distribution: str, release: str, kernel: str, *, arch: str = "x86_64", **asked: str) -> Wanted:
    table = yaml.safe_load((VARS / file).read_text())
    params = {
        **NONE, "sets": table["__nvidia_driver_sets"], "set_repositories": table["__nvidia_driver_repositories"],
        "manager": table["__nvidia_driver_manager"], "distribution": distribution, "release": release, **asked,
    }  # fmt: skip
    return wanted(params, kernel, arch)


def test_ubuntu_prefers_signed_modules_for_its_own_kernels() -> None:
    found = chosen("Ubuntu.yml", "Ubuntu", "24.04", "6.8.0-60-generic", branch="580", module="open")
    assert (found.build, found.headers, found.repositories) == ("prebuilt", (), ())
    assert "linux-modules-nvidia-580-open-6.8.0-60-generic" in found.names
    assert {one["repository"] for one in found.packages} == {"distribution"}
    other = chosen("Ubuntu.yml", "Ubuntu", "24.04", "6.8.0-60-mine", branch="580", module="open")
    assert other.build == "dkms"
    assert "linux-headers-6.8.0-60-mine" in other.headers


def test_ubuntu_takes_nvidias_repository_for_a_branch_that_it_lacks() -> None:
    found = chosen("Ubuntu.yml", "Ubuntu", "24.04", "6.8.0-60-generic", branch="610", module="open")
    (repository,) = found.repositories
    assert repository["id"] == "cuda-ubuntu2404-x86_64"
    assert repository["url"] == "https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64"
    assert {one["repository"] for one in found.packages} == {"cuda-ubuntu2404-x86_64"}


def test_rocky_9_has_a_stream_and_fedora_a_lock() -> None:
    rocky = chosen("RedHat.yml", "Rocky", "9", "5.14.0-570.el9.x86_64", branch="580", module="proprietary")
    assert (rocky.stream, rocky.lock) == ("nvidia-driver:580-dkms", "")
    assert rocky.repositories[0]["url"].endswith("/repos/rhel9/x86_64")
    ten = chosen("RedHat.yml", "Rocky", "10", "6.12.0-55.el10.x86_64", branch="580", module="proprietary")
    assert (ten.stream, ten.lock) == ("", "*nvidia*580*")
    fedora = chosen("Fedora.yml", "Fedora", "42", "6.15.3-200.fc42.x86_64", branch="580", module="open")
    assert (fedora.stream, fedora.lock) == ("", "*nvidia*580*")
    assert "kernel-devel-6.15.3-200.fc42.x86_64" in fedora.headers


def test_servers_with_arm_processors_have_their_own_folder() -> None:
    found = chosen("Debian.yml", "Debian", "12", "6.1.0-28-arm64", arch="aarch64", branch="580", module="open")
    assert found.repositories[0]["url"].endswith("/debian12/sbsa")


def test_a_mirror_stands_for_nvidias_address() -> None:
    found = chosen(
        "Debian.yml", "Debian", "12", "6.1.0-28-amd64", branch="580", module="open",
        mirror="http://mirror.lab.example/cuda/", key_url="http://mirror.lab.example/key", fingerprint="A" * 40,
    )  # fmt: skip
    (repository,) = found.repositories
    assert repository["url"] == "http://mirror.lab.example/cuda/debian12/x86_64"
    assert (repository["key_url"], repository["fingerprint"]) == ("http://mirror.lab.example/key", "A" * 40)


def test_repositories_of_other_roles_are_not_the_drivers() -> None:
    """A plan names those of all its roles, and a lab's mirror of the one is no mirror of the other."""
    rows = [
        {"id": name, "url": f"https://{name}.example", "key_url": "", "fingerprint": ""} for name in ("cuda", "ctk")
    ]
    packages = [{"name": "nvidia-driver-cuda", "repository": "cuda", "version": "580."}]
    asked = {**NONE, "branch": "580", "module": "open", "packages": packages, "repositories": rows}
    assert [one["id"] for one in wanted(asked, "6.1.0-28-amd64", "x86_64").repositories] == ["cuda"]


def test_a_system_without_a_row_is_named() -> None:
    with pytest.raises(Failure) as raised:
        chosen("Debian.yml", "Debian", "11", "5.10.0-30-amd64", branch="580", module="open")
    assert raised.value.kind == "unknown_system"
    assert raised.value.why == "it is Debian 11 on x86_64, kernel 5.10.0-30-amd64"


# --- versions --------------------------------------------------------------------------------------------------------

HOME = {"id": "cuda-x", "url": "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"}
CORE = ("nvidia-kernel-dkms", "nvidia-driver-cuda")


def asked(*names: str, version: str = "580.", release: str = "", repository: str = "cuda-x") -> Wanted:
    packages = tuple({"name": name, "repository": repository, "version": version} for name in names)
    homes = (HOME,) if repository == "cuda-x" else ()
    return Wanted("580", release, "proprietary", "dkms", packages, (), (), "", "", homes)


def offers(repository: str = "cuda-x", **versions: list[str]) -> dict[str, list[dict[str, str]]]:
    return {
        name.replace("_", "-"): [{"version": one, "repository": repository} for one in some]
        for name, some in versions.items()
    }


def test_the_newest_release_of_the_branch_that_every_package_has() -> None:
    candidates = offers(
        nvidia_kernel_dkms=["610.43.02-1", "580.95.05-1", "580.82.07-1"],
        nvidia_driver_cuda=["610.43.02-1", "580.105.08-1", "580.95.05-1", "580.82.07-1"],
        nvidia_persistenced=["610.43.02-1", "580.95.05-1"],
    )
    found = exact(asked(*CORE, "nvidia-persistenced"), candidates)
    assert set(found.values()) == {"580.95.05-1"}
    exactly = exact(asked(*CORE, release="580.82.07"), candidates)
    assert set(exactly.values()) == {"580.82.07-1"}
    gone = exact(asked(*CORE, release="580.65.06"), candidates)
    assert set(gone.values()) == {"580.95.05-1"}, "a release that is not there any more gives way to the newest"


def test_what_they_depend_on_is_pinned_to_a_release_that_is_not_the_newest() -> None:
    """Debian 12: its security archive has a newer release of everything but the open module."""
    names = ("nvidia-open-kernel-dkms", "nvidia-driver")
    both = ["535.309.01-0+deb12u1", "535.261.03-1"]
    candidates = offers("distribution", nvidia_open_kernel_dkms=both[1:], nvidia_driver=both)
    want = asked(*names, version="535.", repository="distribution")
    versions = exact(want, candidates)
    assert set(versions.values()) == {"535.261.03-1"}
    assert pin(want, versions, candidates) == "535.261.03*"


def test_a_branch_is_pinned_where_its_newest_release_is_taken() -> None:
    candidates = offers(nvidia_kernel_dkms=["610.43.02-1", "580.95.05-1"], nvidia_driver_cuda=["580.95.05-1"])
    want = asked(*CORE)._replace(lock="580.*")
    assert pin(want, exact(want, candidates), candidates) == "580.*"


def test_a_prebuilt_module_is_numbered_as_its_kernel_is() -> None:
    candidates = offers(
        "distribution",
        linux_modules_nvidia_580_open_generic=["6.8.0-60.63+1"],
        nvidia_driver_580_open=["580.126.09-0ubuntu0.24.04.1"],
    )
    names = ("linux-modules-nvidia-580-open-generic", "nvidia-driver-580-open")
    found = exact(asked(*names, repository="distribution"), candidates)
    assert found == {names[0]: "6.8.0-60.63+1", names[1]: "580.126.09-0ubuntu0.24.04.1"}


def test_packages_of_two_worlds_are_not_mixed() -> None:
    both = {
        "nvidia-driver": [
            {"version": "535.274.02-1", "repository": HOME["url"]},
            {"version": "535.261.03-1", "repository": "distribution"},
        ]
    }
    assert exact(asked("nvidia-driver", version="535.", repository="distribution"), both) == {
        "nvidia-driver": "535.261.03-1"
    }
    assert exact(asked("nvidia-driver", version="535."), both) == {"nvidia-driver": "535.274.02-1"}


def test_no_candidate_names_what_is_missing_and_what_is_there_instead() -> None:
    with pytest.raises(Failure) as raised:
        exact(asked(*CORE), offers(nvidia_kernel_dkms=["610.43.02-1"]))
    failure = raised.value
    assert (failure.kind, failure.what) == ("no_candidate", "the packages of NVIDIA driver 580 cannot be had here")
    assert failure.why == (
        "no candidate for nvidia-driver-cuda, nvidia-kernel-dkms\nnvidia-kernel-dkms: only 610.43.02-1\n"
        f"asked: {HOME['url']}"
    )


def test_headers_that_nobody_has_are_their_own_kind() -> None:
    want = asked(*CORE)._replace(headers=("linux-headers-6.1.0-1-amd64",))
    candidates = offers(nvidia_kernel_dkms=["580.95.05-1"], nvidia_driver_cuda=["580.95.05-1"])
    with pytest.raises(Failure) as raised:
        exact(want, candidates)
    assert raised.value.kind == "no_headers"
    assert "the repositories have moved on from the running kernel" in raised.value.hint


def test_a_repository_in_the_middle_of_an_update_is_refused() -> None:
    with pytest.raises(Failure) as raised:
        exact(asked(*CORE), offers(nvidia_kernel_dkms=["580.95.05-1"], nvidia_driver_cuda=["580.105.08-1"]))
    assert raised.value.kind == "mixed_versions"
    assert "nvidia-driver-cuda 580.105.08-1, nvidia-kernel-dkms 580.95.05-1" in raised.value.why


def test_what_is_the_drivers_and_what_is_not() -> None:
    there = dict.fromkeys(
        ["nvidia-driver-cuda", "libnvidia-ml1", "nvidia-container-toolkit", "libnvidia-container1",
         "nvidia-cuda-toolkit",
         "libcuda1", "kmod-nvidia-open-dkms"],
        "1",
    )  # fmt: skip
    assert set(family(there)) == {"nvidia-driver-cuda", "libnvidia-ml1", "libcuda1", "kmod-nvidia-open-dkms"}


@pytest.mark.parametrize(
    "name",
    ["libegl-nvidia0", "libgl1-nvidia-glvnd-glx", "libgles-nvidia2", "libglx-nvidia0", "libglx-nvidia-tesla-470-0",
     "libcudadebugger1", "nvidia-cuda-mps", "nvidia-alternative", "firmware-nvidia-gsp"],
)  # fmt: skip
def test_all_that_debian_builds_of_a_driver_is_the_drivers(name: str) -> None:
    assert family_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "nvidia-cg-toolkit",
        "nvidia-primus-vk-wrapper",
        "nvidia-detect",
        "libnvtt2",
        "nvidia-texture-tools",
        "libnvidia-ml-dev",
    ],
)
def test_what_only_works_with_a_driver_is_not(name: str) -> None:
    assert not family_name(name)


def test_versions_and_origins_are_read_as_both_managers_write_them() -> None:
    assert [upstream(one) for one in ("580.95.05-1", "3:580.95.05-1.el9", "580.126.09-0ubuntu0.24.04.1")] == [
        "580.95.05", "580.95.05", "580.126.09",
    ]  # fmt: skip
    assert [world(one) for one in ("distribution", "cuda-rhel9-x86_64", HOME["url"], "http://x.example/other")] == [
        "distribution", "NVIDIA", "NVIDIA", "",
    ]  # fmt: skip
    assert "linux-image-6.1.0-28-amd64" in kernel_names("6.1.0-28-amd64")


def test_every_table_can_be_filled() -> None:
    """No brace is left in what any row makes."""
    for file, distribution in (("Ubuntu", "Ubuntu"), ("Debian", "Debian"), ("RedHat", "Rocky"), ("Fedora", "Fedora")):
        table = yaml.safe_load((VARS / f"{file}.yml").read_text())
        for row in table["__nvidia_driver_sets"]:
            params = {
                **NONE, "sets": [row], "set_repositories": table["__nvidia_driver_repositories"], "manager": "apt",
                "distribution": distribution, "release": row["releases"][0], "module": row["module"],
                "branch": (row["branches"] or [row["first_branch"]])[0],
            }  # fmt: skip
            found = wanted(params, "6.8.0-60-generic", row["archs"][0])
            words = [*found.names, *found.headers, found.stream, found.lock]
            words += [str(value) for one in found.repositories for value in one.values()]
            assert not [word for word in words if "{" in word], row["id"]


@pytest.mark.parametrize(
    ("kernel", "brought"),
    [
        ("6.8.0-1021-aws", ["linux-aws", "linux-image-aws", "linux-headers-aws"]),
        ("6.1.0-28-cloud-amd64", ["linux-image-cloud-amd64", "linux-headers-cloud-amd64"]),
        ("6.8.0-60-generic", ["linux-generic", "linux-generic-*"]),
        ("6.12.117+deb13-amd64", ["linux-image-amd64"]),
        ("5.14.0-427.el9.x86_64", ["kernel-core"]),
    ],
)
def test_what_brings_the_next_kernel_of_the_flavour_is_held(kernel: str, brought: list[str]) -> None:
    """A prebuilt module is for one exact kernel."""
    names = kernel_names(kernel)
    assert set(brought) <= set(names)
    assert not any("{" in name for name in names)


def test_where_epel_is_not_to_be_had_the_hint_says_how_it_is_switched_on() -> None:
    """RHEL's own repositories do not have it, and dkms is in it."""
    want = asked("kmod-nvidia-open-dkms", version="580.")._replace(headers=("epel-release", "dkms"))
    with pytest.raises(Failure) as failed:
        exact(want, offers(kmod_nvidia_open_dkms=["3:580.95.05-1.el9"]))
    assert failed.value.kind == "no_candidate"
    assert "epel-release" in failed.value.why
    assert "EPEL and CodeReady Builder" in failed.value.hint
