"""The package layer on real apt in a container: what it asks, changes and takes back, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.boxes import Box
from harness.gpu_packages import Key
from harness.places import Run
from playbook_apt import AptBox, Refused, demo

pytestmark = pytest.mark.docker
Make = Callable[..., AptBox]


@pytest.fixture(scope="module")
def keys(harness_run: Run) -> Iterator[tuple[Key, Key]]:
    """Of the distribution, and of the other repository."""
    both = tuple(Key(harness_run.folder / f"apt-{name}", f"{name} <{name}@provision.invalid>") for name in ("d", "n"))
    yield both[0], both[1]
    for key in both:
        key.close()


@pytest.fixture
def apt(box: Callable[..., Box], tmp_path: Path, keys: tuple[Key, Key]) -> Make:
    def make(**options: object) -> AptBox:
        return AptBox(box("ssh", network=False, **options), tmp_path, *keys)

    return make


def test_candidates_are_asked_and_nothing_changes(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0"), demo("1.1"), demo("3.0", "demo-more", component="contrib")], [demo("2.0")])
    before = at.state()
    found = at.ask("candidates", ["demo", "demo-more", "demo-none"], [at.repository], ["contrib"])
    assert found == {
        "demo": [
            {"version": "2.0-1", "repository": "cuda-debian12-x86_64"},
            {"version": "1.1-1", "repository": "distribution"},
            {"version": "1.0-1", "repository": "distribution"},
        ],
        "demo-more": [{"version": "3.0-1", "repository": "distribution"}],
        "demo-none": [],
    }
    assert at.ask("candidates", ["demo-more"]) == {"demo-more": []}
    told = at.ask("rehearse", [["demo", "2.0-1"]], [at.repository])
    assert told[:2] == [["demo"], []]
    assert at.state() == before


def test_a_hook_of_apt_get_update_is_not_run_by_a_question(apt: Make) -> None:
    at = apt()
    at.publish([demo()])
    at.box.write("/etc/apt/apt.conf.d/50hook", b'APT::Update::Post-Invoke-Success {"touch /hooked";};\n')
    at.ask("candidates", ["demo"])
    assert at.box.exec(["test", "-e", "/hooked"]).status == 1


def test_a_repository_is_configured_once_and_taken_away_again(apt: Make) -> None:
    at = apt()
    at.publish([], [demo("2.0")])
    before = at.state()
    assert at.repo("configure", at.repository, dry=True) != []
    assert at.state() == before
    files = at.repo("configure", at.repository)
    assert files == [
        "/usr/share/keyrings/cuda-debian12-x86_64.gpg",
        "/etc/apt/sources.list.d/cuda-debian12-x86_64.sources",
    ]
    assert at.box.sh(f"cat {files[1]}") == (
        "# Written by provision: cuda-debian12-x86_64\nTypes: deb\nURIs: file:///repo/nvidia\nSuites: /\n"
        "Signed-By: /usr/share/keyrings/cuda-debian12-x86_64.gpg\n"
    )
    assert at.repo("configure", at.repository) == []
    assert at.ask("candidates", ["demo"])["demo"][0]["repository"] == "file:/repo/nvidia"
    at.ask("install", [["demo", "2.0-1"]])
    assert at.ask("origin", "demo") == "file:/repo/nvidia"
    at.ask("remove", ["demo"])
    at.repo("remove", at.repository)
    assert [line for line in at.state() if "/etc/apt" in line or "keyrings" in line] == [
        line for line in before if "/etc/apt" in line or "keyrings" in line
    ]


def test_another_key_than_the_expected_one_is_refused(apt: Make) -> None:
    at = apt()
    at.publish([], [demo("2.0")])
    before = at.state()
    at.repository["fingerprint"] = "EB693B3035CD5710E231E123A4B469963BF863CC"
    for method in ("configure", "candidates"):
        with pytest.raises(Refused) as stop:
            at.repo("configure", at.repository) if method == "configure" else at.ask(method, ["demo"], [at.repository])
        assert stop.value.kind == "wrong_key"
        assert "expected fingerprint EB693B3035CD5710E231E123A4B469963BF863CC" in stop.value.why
        assert f"fetched key has {at.other.fingerprint}" in stop.value.why
    assert at.state() == before


def test_somebody_elses_file_for_the_same_address_steps_aside_and_comes_back(apt: Make) -> None:
    at = apt()
    at.publish([], [demo("2.0")])
    at.box.write("/usr/share/keyrings/cuda-archive-keyring.gpg", at.other.binary)
    line = b"deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] file:///repo/nvidia/ /\n"
    at.box.write("/etc/apt/sources.list.d/cuda-debian12-x86_64.list", line)
    before = at.state()
    assert at.ask("candidates", ["demo"], [at.repository])["demo"][0]["repository"] == "cuda-debian12-x86_64"
    assert at.state() == before
    at.repo("configure", at.repository)
    at.box.sh("apt-get update -q")  # apt refuses two entries whose Signed-By differ
    at.repo("remove", at.repository)
    assert at.box.sh("cat /etc/apt/sources.list.d/cuda-debian12-x86_64.list") == line.decode()


def test_exact_versions_are_installed_held_and_released(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0"), demo("2.0")])
    at.ask("install", [["demo", "1.0-1"]])
    assert at.installed() == {"demo": "1.0-1"}
    at.ask("hold", ["demo"])
    assert at.ask("held") == ["demo"]
    at.box.sh("apt-get -y -q upgrade")
    assert at.installed() == {"demo": "1.0-1"}
    at.ask("unhold", ["demo"])
    at.box.sh("apt-get -y -q upgrade")
    assert at.installed() == {"demo": "2.0-1"}
    at.ask("remove", ["demo", "demo-never-there"])
    assert at.installed() == {}


def test_a_pin_keeps_a_branch_with_what_it_depends_on(apt: Make) -> None:
    at = apt()
    parts = [demo(version, "demo-nvidia-part") for version in ("580.95", "590.10")]
    whole = [
        demo(version, "demo-nvidia", relations={"Depends": "demo-nvidia-part"}) for version in ("580.95", "590.10")
    ]
    at.publish([*parts, *whole])
    at.ask("lock", "580.*")
    at.ask("lock", "580.*")
    assert at.ask("held") == ["580.*"]
    assert [row["version"] for row in at.ask("candidates", ["demo-nvidia"])["demo-nvidia"]] == ["580.95-1", "590.10-1"]
    at.ask("install", [["demo-nvidia", ""]])
    assert at.installed() == {"demo-nvidia": "580.95-1", "demo-nvidia-part": "580.95-1"}
    at.ask("unlock", "580.*")
    assert at.ask("held") == []
    assert at.box.sh("ls /etc/apt/preferences.d") == ""


def test_the_installed_version_is_kept_for_going_back(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0"), demo("1.0", "demo-lost")])
    at.ask("install", [["demo", "1.0-1"], ["demo-lost", ""]])
    at.publish([demo("1.0"), demo("2.0")])
    at.box.sh("apt-get update -q; apt-get clean; mkdir -p /kept")
    found = at.ask("fetch", {"demo": "1.0-1", "demo-lost": "1.0-1"}, "/kept")
    assert found == {"demo": "/kept/demo_1.0-1_all.deb"}
    assert at.ask("fetch", ["demo"], "/kept") == found
    at.publish([demo("2.0")])
    at.ask("install", [["demo", "2.0-1"]])
    at.box.sh("rm -rf /repo")  # the network is gone, too
    at.ask("install", [["demo", "1.0-1"]], files=list(found.values()), downgrade=True)
    assert at.installed()["demo"] == "1.0-1"


def test_a_changed_configuration_file_stays(apt: Make) -> None:
    at = apt()
    at.publish([demo(version, files={"/etc/demo.conf": version.encode()}) for version in ("1.0", "2.0")])
    at.ask("install", [["demo", "1.0-1"]])
    at.box.write("/etc/demo.conf", b"mine")
    at.ask("install", [["demo", "2.0-1"]])
    assert (at.installed(), at.box.sh("cat /etc/demo.conf")) == ({"demo": "2.0-1"}, "mine")


def test_no_candidate_is_said_before_anything(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0")])
    with pytest.raises(Refused, match="no repository has the package demo-none") as stop:
        at.ask("install", [["demo-none", ""]])
    assert (stop.value.kind, stop.value.why) == ("no_candidate", "E: Unable to locate package demo-none")
    with pytest.raises(Refused, match="no repository has the package demo") as stop:
        at.ask("install", [["demo", "9.0-1"]])
    assert "E: Version '9.0-1' for 'demo' was not found" in stop.value.why


def test_a_repository_that_cannot_be_reached_is_no_missing_candidate(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0")])
    away = {**at.repository, "url": "http://127.0.0.1:9/nvidia"}
    with pytest.raises(Refused, match="a repository cannot be reached") as stop:
        at.ask("candidates", ["demo"], [away])
    assert stop.value.kind == "offline"
    assert "127.0.0.1:9" in stop.value.why
    at.box.write("/etc/apt/sources.list.d/lab.list", b"deb http://127.0.0.1:9/lab stable main\n")
    assert at.ask("candidates", ["demo"])["demo"] != []  # a lab's own dead repository is not our concern
    with pytest.raises(Refused, match="cannot be reached"):
        at.ask("candidates", ["demo", "demo-none"])  # but what is missing may be in it
    at.repository["key_url"] = "http://127.0.0.1:9/key.pub"
    with pytest.raises(Refused, match=r"could not fetch the repository's key\n  http://127.0.0.1:9/key.pub: .*refused"):
        at.repo("configure", at.repository)


def test_an_unsigned_repository_is_refused(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0")], [demo("2.0")])
    at.box.sh("rm /repo/nvidia/InRelease /repo/nvidia/Release.gpg")
    with pytest.raises(Refused, match="a repository is not signed") as stop:
        at.ask("candidates", ["demo"], [at.repository])
    assert stop.value.kind == "unsigned"
    assert "The repository 'file:/repo/nvidia  Release' is not signed." in stop.value.why


def test_a_repository_signed_by_another_key_is_refused(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0")], [demo("2.0")])
    at.box.write("/repo/key.pub", at.key.armored)
    with pytest.raises(Refused, match="that signs a repository is not on this host") as stop:
        at.ask("candidates", ["demo"], [{**at.repository, "fingerprint": at.key.fingerprint}])
    assert stop.value.kind == "no_key"
    assert f"NO_PUBKEY {at.other.fingerprint[-16:]}" in stop.value.why


def test_the_lock_of_another_program_is_waited_for_with_a_limit(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0")])
    hold = (
        "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); "
        "open('/locked', 'w'); time.sleep({})"
    )
    wait = "for i in $(seq 100); do [ -e /locked ] && exit 0; sleep 0.1; done; exit 1"
    at.box.container.exec_run(["python3", "-c", hold.format(600)], detach=True)
    at.box.sh(wait)
    with pytest.raises(Refused, match="another program is changing packages") as stop:
        at.ask("install", [["demo", ""]], lock_wait_s=1)
    assert stop.value.kind == "locked"
    assert "held by process" in stop.value.why
    assert stop.value.why.endswith("waited 1 s for it")
    at.box.sh("kill $(pgrep -f '[l]ock-frontend'); rm /locked")
    at.box.container.exec_run(["python3", "-c", hold.format(3)], detach=True)
    at.box.sh(wait)
    at.ask("install", [["demo", ""]], lock_wait_s=60)
    assert at.installed() == {"demo": "1.0-1"}
    assert at.heard[0].startswith("waiting for another program to finish with packages: E: ")


def test_a_full_disk_is_named_and_the_box_is_whole_afterwards(apt: Make) -> None:
    at = apt(tmpfs={"/usr/share/demo": "size=64k"})
    at.publish([demo("1.0"), demo("2.0", files={"/usr/share/demo/large": b"x" * (1 << 20)})])
    at.ask("install", [["demo", "1.0-1"]])
    with pytest.raises(Refused, match="could not install demo: the disk is full") as stop:
        at.ask("install", [["demo", "2.0-1"]])
    assert stop.value.kind == "disk_full"
    assert "No space left on device" in stop.value.why
    at.ask("repair")
    assert at.installed() == {"demo": "1.0-1"}
    assert at.ask("broken") == []


def test_a_killed_dpkg_is_mended(apt: Make) -> None:
    at = apt()
    cut = "[ -e /mended ] || kill -9 $PPID\n"
    at.publish([demo("1.0", scripts={"postinst": cut}), demo("1.0", "demo-next")])
    with pytest.raises(Refused):
        at.ask("install", [["demo", ""]])
    assert at.ask("broken") == ["demo"]
    assert at.ask("installed", ["demo"]) == {"demo": "1.0-1"}
    at.box.sh("touch /mended")
    at.ask("install", [["demo-next", ""]])
    assert at.ask("broken") == []
    assert at.installed() == {"demo": "1.0-1", "demo-next": "1.0-1"}


def test_a_packages_own_script_is_quoted_and_what_it_left_can_be_removed(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0", scripts={"postinst": "echo the module does not compile >&2; exit 3\n"})])
    with pytest.raises(Refused, match="a package's own script failed") as stop:
        at.ask("install", [["demo", ""]])
    assert stop.value.kind == "package_script"
    assert "the module does not compile" in stop.value.why
    assert at.ask("broken") == ["demo"]
    at.ask("remove", ["demo"])
    assert at.ask("broken") == []
    assert at.ask("installed", ["demo"]) == {}


def test_mixed_repositories_are_named(apt: Make) -> None:
    at = apt()
    own = demo("535.1", "demo-part")
    at.publish([own], [demo("580.1", "demo-driver", relations={"Depends": "demo-part (= 580.1-1)"})])
    at.ask("install", [["demo-part", ""]])
    with pytest.raises(Refused, match="do not go together") as stop:
        at.ask("rehearse", [["demo-driver", "580.1-1"]], [at.repository])
    assert stop.value.kind == "broken_dependencies"
    assert "demo-driver : Depends: demo-part (= 580.1-1)" in stop.value.why
    at.publish([own], [demo("580.1", "demo-kernel"), demo("580.1", "demo-driver", relations={
        "Depends": "demo-part (= 580.1-1), demo-kernel"})])  # fmt: skip
    at.repo("configure", at.repository)
    at.ask("install", [["demo-kernel", ""]])
    with pytest.raises(Refused) as stop:
        at.ask("install", [["demo-driver", ""], ["demo-kernel", ""]])
    assert stop.value.kind == "mixed_repositories"
    assert "demo-part 535.1-1 is from distribution" in stop.value.why
    assert "demo-kernel 580.1-1 is from file:/repo/nvidia" in stop.value.why


def test_components_of_the_distribution_are_switched_on_with_its_own_key(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0", component="non-free")])
    before = at.state()
    assert at.repo("enable_components", ["contrib", "non-free"], dry=True) is True
    assert at.state() == before
    assert at.repo("enable_components", ["contrib", "non-free"]) is True
    assert at.repo("enable_components", ["contrib", "non-free"]) is False
    at.ask("install", [["demo", "1.0-1"]])
    assert "Signed-By: /usr/share/keyrings/made.gpg" in at.box.sh(
        "cat /etc/apt/sources.list.d/provision-components.sources"
    )


def test_what_came_along_and_serves_nobody_is_found(apt: Make) -> None:
    at = apt()
    at.publish([demo("1.0", "demo-part"), demo("1.0", relations={"Depends": "demo-part"})])
    at.ask("install", [["demo", ""]])
    assert at.ask("unneeded", ["demo-part", "bash"]) == []
    at.ask("remove", ["demo"])
    assert at.ask("unneeded", ["demo-part", "bash"]) == ["demo-part"]


def test_the_distributions_driver_is_never_replaced_from_nvidias_repository(apt: Make) -> None:
    at = apt()
    at.publish([demo("535.1", "libcuda1")], [demo("580.1", "libcuda1"), demo("1.0", "demo")])
    assert at.ask("keep_apart", at.repository["url"]) is False  # no driver is there
    at.ask("install", [["libcuda1", ""]])
    at.repo("configure", at.repository)
    assert at.ask("keep_apart", at.repository["url"], dry=True) is True
    assert at.ask("keep_apart", at.repository["url"]) is True
    assert at.ask("keep_apart", at.repository["url"]) is False
    at.ask("install", [["demo", ""]])
    at.box.sh("apt-get -y -q dist-upgrade")
    assert at.ask("installed", ["libcuda1"]) == {"libcuda1": "535.1-1"}
    found = at.ask("candidates", ["libcuda1"], [at.repository])["libcuda1"]
    assert [row["version"] for row in found] == ["580.1-1", "535.1-1"]
    at.ask("lock", "580.*")  # the driver's role takes NVIDIA's
    at.ask("install", [["libcuda1", "580.1-1"]])
    assert at.ask("keep_apart", at.repository["url"]) is False
