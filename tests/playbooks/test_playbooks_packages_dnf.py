"""dnf's part of the package layer on answers of dnf 4 and dnf 5, and what they are asked."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import playbook_target  # noqa: F401  # makes module_utils importable
import pytest
from ansible.module_utils.provision_dnf import Dnf, compare, locked_names, query_rows, rehearsal, stream_is_on
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_packages_run import Done
from test_playbooks_repository import ARMOURED_ONE, ONE

FOUR = "4.14.0\n  Installed: dnf-0:4.14.0-8.el9.noarch at Tue Nov 19 2024\n"
FIVE = "dnf5 version 5.2.6.2\ndnf5 plugin API version 2.0\nlibdnf5 version 5.2.6.2\n"


class Answers:
    """Runs nothing: each command is answered by the first row whose words are all in it."""

    def __init__(self, version: str, rows: Mapping[str, tuple[int, str]] | None = None) -> None:
        self.rows = {"--version": (0, version), **(rows or {})}
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str], env: Any = None, timeout_s: Any = None) -> Done:
        line = " ".join(argv)
        if "--version" not in line:
            self.asked.append(line)
        for words, (status, text) in self.rows.items():
            if all(word in line.split() for word in words.split()):
                return Done(status, text, "") if status == 0 else Done(status, "", text)
        return Done(0, "", "")


@pytest.fixture
def repository(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "key").write_bytes(ARMOURED_ONE)
    return {
        "id": "cuda-rhel9-x86_64", "manager": "dnf", "url": "https://lab/rhel9/x86_64",
        "key_url": (tmp_path / "key").as_uri(), "fingerprint": ONE,
    }  # fmt: skip


def dnf(answers: Answers, tmp_path: Path, **options: Any) -> Dnf:
    return Dnf(answers, root=tmp_path, **options)


# dnf 4.14 with a repository of the test's own, as it printed
QUERY = (
    "demo\t3:590.10-1\tprovision-asked-cuda-rhel9-x86_64\n\ndemo\t3:580.95-1\tprovision-asked-cuda-rhel9-x86_64\n"
    "demo\t1.0-1\tbaseos\ndkms\t3.1.0-1.el9\tepel\nakmod-nvidia\t3:580.95-1.fc42\trpmfusion-nonfree\n"
)


def test_candidates_are_sorted_as_rpm_does_and_named_by_repository() -> None:
    assert query_rows(QUERY) == {
        "demo": [
            {"version": "3:590.10-1", "repository": "cuda-rhel9-x86_64"},
            {"version": "3:580.95-1", "repository": "cuda-rhel9-x86_64"},
            {"version": "1.0-1", "repository": "distribution"},
        ],
        "dkms": [{"version": "3.1.0-1.el9", "repository": "distribution"}],
        "akmod-nvidia": [{"version": "3:580.95-1.fc42", "repository": "rpmfusion-nonfree"}],
    }


@pytest.mark.parametrize("version", [FOUR, FIVE])
def test_dnf_is_asked_in_caches_of_its_own(version: str, tmp_path: Path, repository: dict[str, Any]) -> None:
    answers = Answers(version, {"repoquery": (0, QUERY)})
    found = dnf(answers, tmp_path).candidates(["demo", "none"], [repository])
    assert [row["version"] for row in found["demo"]] == ["3:590.10-1", "3:580.95-1", "1.0-1"]
    assert found["none"] == []
    (line,) = answers.asked
    assert "--repofrompath=provision-asked-cuda-rhel9-x86_64,https://lab/rhel9/x86_64" in line
    for option in ("gpgcheck=1", "module_hotfixes=1", "gpgkey=file://"):
        assert f"--setopt=provision-asked-cuda-rhel9-x86_64.{option}" in line
    for name in ("cachedir", "persistdir", "logdir"):
        assert f"--setopt={name}={tempfile.gettempdir()}/provision-dnf-" in line
    assert ("--setopt=system_cachedir=" in line) == (version == FIVE)
    folders = [word.partition("cachedir=")[2] for word in line.split() if word.startswith("--setopt=cachedir=")]
    assert not Path(folders[0]).parent.exists()


def test_a_repository_that_does_not_answer_is_a_failure(tmp_path: Path) -> None:
    said = (
        "Errors during downloading metadata for repository 'cuda':\n  - Curl error (7): Couldn't connect to server for "
        "https://lab/repodata/repomd.xml\n"
        "Error: Failed to download metadata for repo 'cuda': Cannot download repomd.xml"
    )
    with pytest.raises(Failure, match="could not ask the repositories for their packages") as stop:
        dnf(Answers(FOUR, {"repoquery": (1, said)}), tmp_path).candidates(["demo"])
    assert stop.value.kind == "offline"
    assert "Curl error (7)" in stop.value.why


TABLE_FOUR = """\
Dependencies resolved.
================================================================================
 Package            Arch      Version          Repository                  Size
================================================================================
Installing:
 cuda-toolkit-12-6  x86_64    12.6.3-1         cuda-rhel9-x86_64          8.7 k
Installing dependencies:
 cuda-nvcc-12-6     x86_64    12.6.85-1        cuda-rhel9-x86_64           24 M
Removing dependent packages:
 nvidia-driver      x86_64    3:575.1-1.el9    @cuda-rhel9-x86_64          12 M

Transaction Summary
================================================================================
Install  2 Packages
Remove   1 Package

Total download size: 24 M
Installed size: 6.5 G
Operation aborted.
"""
TABLE_FIVE = """\
Package            Arch   Version        Repository              Size
Installing:
 cuda-toolkit-12-6 x86_64 12.6.3-1       cuda-fedora42-x86_64 3.3 KiB
Installing dependencies:
 cuda-nvcc-12-6    x86_64 12.6.85-1      cuda-fedora42-x86_64 65.2 MiB

Transaction Summary:
 Installing:         2 packages

Total size of inbound packages is 24 MiB. Need to download 24 MiB.
After this operation, 65 MiB extra will be used (install 65 MiB, remove 0 B).
Operation aborted by the user.
"""


def test_a_rehearsal_is_read() -> None:
    new = ["cuda-nvcc-12-6", "cuda-toolkit-12-6"]
    assert rehearsal(TABLE_FOUR) == (new, ["nvidia-driver"], 6656)
    assert rehearsal(TABLE_FIVE) == (new, [], 65)


def test_a_rehearsal_that_fails_says_why(tmp_path: Path) -> None:
    said = "Error: \n Problem: conflicting requests\n  - nothing provides nothere needed by bad-1.0-1.noarch\n"
    with pytest.raises(Failure) as stop:
        dnf(Answers(FOUR, {"--assumeno": (1, said)}), tmp_path).rehearse([("bad", "")])
    assert (stop.value.kind, "nothing provides nothere" in stop.value.why) == ("broken_dependencies", True)


@pytest.mark.parametrize(
    ("version", "options"), [(FOUR, "--setopt=exit_on_lock=True install"), (FIVE, "dnf -y -q install")]
)
def test_exact_versions_are_installed(version: str, options: str, tmp_path: Path) -> None:
    answers = Answers(version)
    dnf(answers, tmp_path).install([("demo", "3:580.95-1"), ("dkms", "")])
    (line,) = answers.asked
    assert options in line
    assert line.endswith("demo-3:580.95-1 dkms")
    dnf(answers, tmp_path).install([("demo", "3:580.95-1")], ["/kept/demo-580.95-1.noarch.rpm"], downgrade=True)
    assert answers.asked[-1].endswith("/kept/demo-580.95-1.noarch.rpm")
    assert "--allowerasing" in answers.asked[-1]


def test_a_lock_that_stays_is_told(tmp_path: Path) -> None:
    said = "metadata already locked by 1833\n  The application with PID 1833 is: dnf-automatic\n"
    with pytest.raises(Failure, match="another program is changing packages") as stop:
        dnf(Answers(FOUR, {"install": (200, said)}), tmp_path, lock_wait_s=0).install([("demo", "")])
    assert (stop.value.kind, "PID 1833 is: dnf-automatic" in stop.value.why) == ("locked", True)


LOCKS_FOUR = (
    "nvidia-driver-3:580.95.05-1.el9.*\nkmod-nvidia-open-dkms-3:580.95.05-1.el9.*\n!bad-1.0-1.*\n*nvidia*580*\n"
)
LOCKS_FIVE = """\
# Added by 'versionlock add' command on 2025-11-02 10:00:00
Package name: nvidia-driver
evr = 3:580.95.05-1.fc42

# Added by 'versionlock add' command on 2025-11-02 10:00:00
Package name: kmod-nvidia-open-dkms
evr = 3:580.95.05-1.fc42
"""


def test_locks_are_read() -> None:
    assert locked_names(LOCKS_FOUR) == ["nvidia-driver", "kmod-nvidia-open-dkms", "*nvidia*580*"]
    assert locked_names(LOCKS_FIVE) == ["nvidia-driver", "kmod-nvidia-open-dkms"]


def test_locks_are_set_and_lifted_and_their_plugin_is_installed(tmp_path: Path) -> None:
    missing = {"versionlock": (1, "No such command: versionlock. Please use /usr/bin/dnf --help")}
    answers = Answers(FOUR, missing)
    with pytest.raises(Failure):
        dnf(answers, tmp_path).lock("*nvidia*580*")
    assert any(line.endswith("install python3-dnf-plugin-versionlock") for line in answers.asked)
    answers = Answers(FOUR, {"versionlock list": (0, LOCKS_FOUR)})
    at = dnf(answers, tmp_path)
    at.lock("*nvidia*580*")  # is there
    at.lock("9.10.2.*", "*cudnn*")
    at.unlock("*nvidia*580*")
    at.hold(["demo"])
    at.unhold(["demo"])
    changes = [line.partition("versionlock ")[2] for line in answers.asked if "list" not in line]
    assert changes == ["add *cudnn*9.10.2.*", "delete *nvidia*580*", "add demo", "delete demo"]


STREAMS = """\
cuda-rhel9-x86_64
Name          Stream       Profiles      Summary
nvidia-driver 580-dkms [e] default [d]   Nvidia driver for 580-dkms branch
"""


def test_a_module_stream_is_switched_once(tmp_path: Path) -> None:
    assert stream_is_on(STREAMS, "nvidia-driver:580-dkms")
    assert not stream_is_on(STREAMS, "nvidia-driver:580-open")
    answers = Answers(FOUR, {"list": (0, STREAMS)})
    dnf(answers, tmp_path).stream("nvidia-driver:580-dkms")
    assert len(answers.asked) == 1
    dnf(answers, tmp_path).stream("nvidia-driver:580-open")
    assert [line.partition(" module ")[2] for line in answers.asked[-2:]] == [
        "reset nvidia-driver",
        "enable nvidia-driver:580-open",
    ]


def test_what_is_installed_and_where_it_came_from(tmp_path: Path) -> None:
    said = "demo\t0:1.0-1\nnvidia-driver\t3:580.95.05-1.el9\ngpg-pubkey\t0:1-1\n"
    answers = Answers(FOUR, {"rpm": (0, said), "repoquery": (0, "cuda-rhel9-x86_64\n")})
    at = dnf(answers, tmp_path)
    assert at.installed(["*"]) == {"demo": "1.0-1", "nvidia-driver": "3:580.95.05-1.el9"}
    assert at.origin("nvidia-driver") == "cuda-rhel9-x86_64"
    for word, home in (("@System", ""), ("appstream", "distribution"), ("", "")):
        assert dnf(Answers(FOUR, {"repoquery": (0, word)}), tmp_path).origin("x") == home


def test_only_what_is_there_is_removed(tmp_path: Path) -> None:
    answers = Answers(FOUR, {"rpm": (0, "demo\t0:1.0-1\n")})
    dnf(answers, tmp_path).remove(["demo", "gone"])
    assert answers.asked[-1].endswith("remove demo")
    answers = Answers(FOUR)
    dnf(answers, tmp_path).remove(["gone"])
    assert not any("remove" in line for line in answers.asked)


@pytest.mark.parametrize(
    ("one", "other", "order"),
    [
        ("580.95.05", "580.105.08", -1), ("1.0", "1.0", 0), ("1.0~rc1", "1.0", -1), ("1.0^git", "1.0", 1),
        ("1.10", "1.9", 1), ("1.a", "1.1", -1), ("2.0.1", "2.0", 1), ("01", "1", 0), ("abc", "abd", -1),
    ],
)  # fmt: skip
def test_versions_compare_as_rpms_do(one: str, other: str, order: int) -> None:
    assert compare(one, other) == order
    assert compare(other, one) == -order


HEADERS = "kernel-devel-6.15.3-200.fc42.x86_64"
"""Of the running kernel: uname's release is the package's version, release and architecture."""


def test_the_running_kernel_s_headers_are_found_under_the_name_that_was_asked(tmp_path: Path) -> None:
    """rpm and repoquery answer by name alone; the newest kernel's headers are not the running one's."""
    answers = Answers(
        FIVE,
        {
            "rpm": (0, "kernel-devel\t0:6.15.3-200.fc42\n"),
            "repoquery": (0, "kernel-devel\t6.15.3-200.fc42\tupdates\n"),
        },
    )
    manager = dnf(answers, tmp_path)
    assert manager.installed([HEADERS])[HEADERS] == "6.15.3-200.fc42"
    assert manager.candidates([HEADERS])[HEADERS] == [{"version": "6.15.3-200.fc42", "repository": "distribution"}]
    manager.install([(HEADERS, "6.15.3-200.fc42"), ("dkms", "3.2.1-1.fc42")])
    assert f" {HEADERS} dkms-3.2.1-1.fc42" in answers.asked[-1]


def test_another_kernel_s_headers_are_not_the_running_one_s(tmp_path: Path) -> None:
    newer = {
        "rpm": (0, "kernel-devel\t0:6.16.1-200.fc42\n"),
        "repoquery": (0, "kernel-devel\t6.16.1-200.fc42\tupdates\n"),
    }
    manager = dnf(Answers(FIVE, newer), tmp_path)
    assert HEADERS not in manager.installed([HEADERS])
    assert manager.candidates([HEADERS])[HEADERS] == []
