"""Generations made for real by uv, from wheels made here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playbook_target import PYTHON, Target
from playbook_wheels import Wheel

Demo = Callable[..., Wheel]


def failure(call: Callable[[], Any]) -> Any:
    from ansible.module_utils.provision_failure import Failure

    with pytest.raises(Failure) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("origins", "said"),
    [
        (("wheel", "wheel"), "a 1.0 · b 2.0 · cpu · python 3.11"),
        (("source", "source"), "a 1.0 · b 2.0 · source · cpu · python 3.11"),
        (("source", "wheel"), "a 1.0 (source) · b 2.0 · cpu · python 3.11"),
        ((None, None), "a 1.0 · b 2.0 · cpu · python 3.11"),
    ],
)
def test_a_generation_says_what_was_built_from_source(origins: tuple[str | None, ...], said: str) -> None:
    from ansible.module_utils.provision_generations import summary

    stack = [
        {"framework": name, "version": version, "device": "cpu", "python": "3.11", **({"origin": one} if one else {})}
        for name, version, one in zip("ab", ("1.0", "2.0"), origins, strict=True)
    ]
    assert summary(stack) == said


def test_a_generation_holds_everything(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo(), demo("other", "2.5")))
    result = target.make(plan)
    made = target.generation(1)
    assert (result["changed"], result["created"], result["generation"]) == (True, True, 1)
    assert result["packages"] == 2
    assert result["summary"] == f"demo 1.0 · cpu · python {PYTHON}"
    assert result["python"].startswith(PYTHON)
    state = json.loads((made / "state.json").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", state.pop("created"))
    # printf 'demo-1.0\nother-2.5\n' | sha256sum
    packages = "84faeefbeb026bb7bf30bafd9bf0cdfa5af367e0698747d734d9621f1cc7e854"
    assert state == {
        "schema": 1,
        "fingerprint": "f1",
        "complete": True,
        "verified": False,
        "summary": result["summary"],
        "packages_sha256": packages,
        "run_id": "run-1",
    }
    assert json.loads((made / "plan.json").read_text()) == {k: v for k, v in plan.items() if k != "lock"}
    assert (made / "lock.txt").read_text() == plan["lock"]
    provenance = json.loads((made / "PROVENANCE.json").read_text())
    assert provenance["packages"] == ["demo-1.0", "other-2.5"]
    assert provenance["python"] == result["python"]
    # nothing of a run stays behind, and making it does not make it current
    assert sorted(path.name for path in target.environment.iterdir()) == ["generations", "lock"]
    assert (target.environment / "lock").read_text() == ""
    assert list(target.layout.runs.iterdir()) == []


def test_the_same_plan_again_changes_nothing(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo()))
    target.make(plan)
    before = (target.generation(1) / "state.json").stat().st_mtime_ns
    result = target.make(plan)
    assert (result["changed"], result["created"], result["generation"]) == (False, False, 1)
    assert (target.generation(1) / "state.json").stat().st_mtime_ns == before


def test_bytecode_is_compiled_when_asked_for(target: Target, demo: Demo) -> None:
    target.make(target.plan(target.lock(demo())), compile_bytecode=True)
    assert list(target.generation(1).glob("venv/lib/python*/site-packages/demo/__pycache__/*.pyc"))


def test_a_drifted_generation_is_made_anew(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo()))
    target.make(plan)
    (folder,) = target.generation(1).glob("venv/lib/python*/site-packages/demo-1.0.dist-info")
    folder.rename(folder.with_name("demo-9.9.dist-info"))
    result = target.make(plan)
    assert (result["generation"], result["created"]) == (2, True)


def test_a_generation_whose_interpreter_went_away_is_made_anew(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo()))
    target.make(plan)
    python = target.generation(1) / "venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert target.make(plan)["generation"] == 2


def test_three_newest_and_the_current_one_are_kept(target: Target, demo: Demo) -> None:
    lock = target.lock(demo())
    target.make(target.plan(lock, "f1"))
    target.switch("current", generation=1)
    for number in (2, 3):
        target.copied(number, f"f{number}")
    assert target.make(target.plan(lock, "f4"))["removed"] == []
    result = target.make(target.plan(lock, "f5"))
    assert result["removed"] == [2]
    assert target.numbers() == [1, 3, 4, 5]


def test_a_generation_that_a_process_runs_from_is_kept(target: Target, demo: Demo) -> None:
    lock = target.lock(demo())
    target.make(target.plan(lock, "f1"))
    python = target.generation(1) / "venv" / "bin" / "python"
    with subprocess.Popen([python, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1) as user:
        assert user.stdout is not None
        user.stdout.readline()
        for number in (2, 3):
            target.copied(number, f"f{number}")
        result = target.make(target.plan(lock, "f4"))
        assert (result["removed"], result["in_use"]) == ([], [1])
        user.communicate(b"\n")
    assert target.make(target.plan(lock, "f5"))["removed"] == [1, 2]


def test_what_a_killed_run_left_is_replaced_and_not_counted(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo()))
    (target.generation(1) / "venv" / "lib").mkdir(parents=True)
    (target.generation(1) / "plan.json").write_text("{")
    result = target.make(plan)
    assert (result["generation"], result["removed"]) == (1, [1])
    assert target.numbers() == [1]


def test_a_half_made_generation_beside_a_complete_one_is_removed(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo()))
    target.make(plan)
    (target.generation(2) / "venv").mkdir(parents=True)
    result = target.make(plan)
    assert (result["changed"], result["created"], result["removed"]) == (True, False, [2])
    assert target.make(plan)["changed"] is False


def test_a_current_generation_without_state_is_left_alone(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo()))
    target.make(plan)
    target.switch("current", generation=1)
    (target.generation(1) / "state.json").write_text("")
    assert target.make(plan)["generation"] == 2
    assert target.numbers() == [1, 2]


def test_check_mode_says_what_would_happen_and_touches_nothing(target: Target, demo: Demo) -> None:
    from ansible.module_utils.provision_install import present
    from ansible.module_utils.provision_progress import Progress

    params = target.params(target.plan(target.lock(demo())))
    before = sorted(target.root.rglob("*"))
    result = present(target.layout, params, Progress(target.layout.runs, "", ""), True)
    assert (result["changed"], result["created"], result["generation"]) == (True, True, 1)
    assert sorted(target.root.rglob("*")) == before
    target.make(target.plan(target.lock(demo())))
    assert present(target.layout, params, Progress(target.layout.runs, "", ""), True)["changed"] is False


def test_uv_variables_of_the_target_do_not_steer_the_install(
    target: Target, demo: Demo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UV_PYTHON", "/usr/bin/python3")
    monkeypatch.setenv("UV_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "other"))
    (target.home / "uv.toml").write_text("[pip]\nno-index = true\n")
    assert target.make(target.plan(target.lock(demo())))["packages"] == 1
    assert not (tmp_path / "elsewhere").exists()


# ── failures: one message each, and nothing left behind ──────────────────────────────────────────────────────────────


def nothing_left(target: Target) -> bool:
    return not target.layout.environments.exists()


def test_a_wrong_hash(target: Target, demo: Demo) -> None:
    lock = re.sub(r"sha256:\w+", "sha256:" + "0" * 64, target.lock(demo()))
    stop = failure(lambda: target.make(target.plan(lock)))
    assert stop.kind == "hash_mismatch"
    assert stop.what == "could not make environment default: a package is not the one that was locked"
    assert "Hash mismatch for `demo==1.0`" in stop.why
    assert "Expected:" in stop.why
    assert "plan again" in stop.hint
    assert nothing_left(target)


def test_a_package_that_is_not_there(target: Target, demo: Demo) -> None:
    lock = target.lock(demo()).replace("demo==1.0", "demo==7.0")
    stop = failure(lambda: target.make(target.plan(lock)))
    assert stop.kind == "no_such_package"
    assert "the index has no package that fits the lock" in stop.what
    assert "demo==7.0" in stop.why
    assert nothing_left(target)


def test_no_network(target: Target) -> None:
    lock = f"--index-url https://127.0.0.1:9/simple\ndemo==1.0 --hash=sha256:{'0' * 64}\n"
    stop = failure(lambda: target.make(target.plan(lock), uv_environment={"UV_HTTP_RETRIES": "0"}))
    assert stop.kind == "network"
    assert stop.what == "could not make environment default: the package index cannot be reached from there"
    assert "Failed to fetch" in stop.why
    assert "https://127.0.0.1:9/simple/demo/" in stop.why
    assert "Connection refused" in stop.why
    assert "network and proxy settings" in stop.hint
    assert nothing_left(target)


def test_an_index_with_a_password_keeps_it(target: Target) -> None:
    lock = f"--index-url https://me:s3cret@127.0.0.1:9/simple\ndemo==1.0 --hash=sha256:{'0' * 64}\n"
    stop = failure(lambda: target.make(target.plan(lock), uv_environment={"UV_HTTP_RETRIES": "0"}))
    assert stop.kind == "network"
    assert "s3cret" not in json.dumps(stop.result())


def test_no_python_that_fits(target: Target, demo: Demo) -> None:
    stop = failure(lambda: target.make(target.plan(target.lock(demo()), python="3.99")))
    assert stop.kind == "python_missing"
    assert stop.what == "could not make environment default: there is no Python 3.99 here, and uv brings none"
    assert stop.hint == "install Python 3.99, or ask for another one with --python"
    assert nothing_left(target)


def test_a_python_that_cannot_be_downloaded(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo()), python="3.12")
    mirror = {
        "UV_PYTHON_INSTALL_MIRROR": "https://127.0.0.1:9",
        "UV_HTTP_RETRIES": "0",
        "UV_PYTHON_PREFERENCE": "only-managed",
    }
    stop = failure(
        lambda: target.make({**plan, "stack": [{**plan["stack"][0], "python": "3.12"}]}, uv_environment=mirror)
    )
    assert stop.kind == "python_download", stop.why
    assert "there is no Python 3.12 here, and uv could not download one" in stop.what
    assert "https://127.0.0.1:9/" in stop.why
    assert "UV_PYTHON_INSTALL_MIRROR" in stop.hint
    assert nothing_left(target)


def test_a_failure_leaves_what_was_there(target: Target, demo: Demo) -> None:
    plan = target.plan(target.lock(demo()))
    target.make(plan)
    target.switch("current", generation=1)
    failure(lambda: target.make(target.plan(target.lock(demo()).replace("1.0", "7.0"), "f2")))
    assert target.numbers() == [1]
    assert str((target.environment / "current").readlink()) == "generations/1"
    assert target.make(plan)["changed"] is False


def test_a_uv_for_another_machine(target: Target, demo: Demo) -> None:
    target.layout.uv("here").write_bytes(b"\x7fELF\x02\x01\x01" + b"\0" * 100)
    stop = failure(lambda: target.make(target.plan(target.lock(demo()))))
    assert (stop.kind, stop.what) == ("uv_failed", "the uv program that was sent does not run on that machine")
    assert "Exec format error" in stop.why
    assert nothing_left(target)


def test_a_uv_that_is_not_there(target: Target, demo: Demo) -> None:
    target.layout.uv("here").unlink()
    stop = failure(lambda: target.make(target.plan(target.lock(demo()))))
    assert (stop.kind, stop.what) == ("uv_failed", "the uv program is not there")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"lock": None}, "it has no lock: the exact versions have not been resolved"),
        ({"fingerprint": ""}, "it has no fingerprint"),
        ({"stack": []}, "one environment has one Python, and this plan names none"),
        ({"environment": {"A B": "1"}}, "'A B' is not a variable's name"),
    ],
)
def test_plans_that_cannot_be_carried_out(target: Target, change: dict[str, Any], why: str) -> None:
    plan = target.plan(**{"lock": "", **change})
    stop = failure(lambda: target.make(plan))
    assert (stop.kind, stop.what, stop.why) == ("bad_input", "the plan cannot be carried out", why)


def test_something_that_is_no_plan(target: Target) -> None:
    assert failure(lambda: target.make({"stack": 3})).what == "the plan is not one of provision's"


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden", "-x", "a b", "x" * 65])
def test_names_that_could_leave_the_folder(target: Target, name: str) -> None:
    stop = failure(lambda: target.make(target.plan("", request={"name": name})))
    assert stop.kind == "bad_input"
    assert stop.what == f"an environment cannot be called {name!r}"


def test_a_folder_that_cannot_be_written_to(target: Target, demo: Demo) -> None:
    target.layout.environments.write_text("a file where the folder should be")
    stop = failure(lambda: target.make(target.plan(target.lock(demo()))))
    assert stop.what.startswith("could not lock environment default: ")
    assert str(target.layout.environments) in stop.why


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode:
        pytest.skip("no file system can be mounted here (not root, or not allowed)")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def noise(kib: int) -> str:
    return os.urandom(kib * 512).hex()


def test_a_full_disk(target: Target, demo: Demo, small_disk: Path) -> None:
    plan = target.plan(target.lock(demo("big", "1.0", {"big.txt": noise(3000)})))
    (small_disk / "envs").mkdir()
    target.layout.environments.symlink_to(small_disk / "envs")
    stop = failure(lambda: target.make(plan))
    assert stop.kind == "disk_full"
    assert stop.what == "could not make environment default: the disk is full"
    assert "No space left on device" in stop.why
    assert "free some space" in stop.hint
    assert list(small_disk.rglob("*")) == [small_disk / "envs"]


def test_a_disk_that_is_full_before_uv_begins(target: Target, demo: Demo, small_disk: Path) -> None:
    target.layout.environments.symlink_to(small_disk / "envs")
    (small_disk / "envs").mkdir()
    with (small_disk / "filler").open("wb") as filler, pytest.raises(OSError):
        filler.write(b"x" * (2 << 20))
    stop = failure(lambda: target.make(target.plan(target.lock(demo()))))
    assert stop.kind == "disk_full"
    assert "No space left on device" in stop.what
    assert not (small_disk / "envs" / "default" / "generations").exists()


def test_a_read_only_home(target: Target, demo: Demo, small_disk: Path) -> None:
    target.layout.environments.symlink_to(small_disk / "envs")
    (small_disk / "envs").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    stop = failure(lambda: target.make(target.plan(target.lock(demo()))))
    assert (stop.kind, stop.what) == ("read_only", "could not lock environment default: Read-only file system")
    assert "XDG_DATA_HOME" in stop.hint


def test_a_cache_that_is_full(target: Target, demo: Demo, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(small_disk / "cache"))
    stop = failure(lambda: target.make(target.plan(target.lock(demo("big", "1.0", {"big.txt": noise(3000)})))))
    assert stop.kind == "disk_full"
    assert str(small_disk / "cache") in stop.why
    assert nothing_left(target)


def test_a_cache_on_another_file_system_is_not_used(
    target: Target, demo: Demo, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    target.make(target.plan(target.lock(demo())))
    assert (target.root / "cache" / "uv").is_dir()
    assert list(small_disk.iterdir()) == []
    (module,) = target.generation(1).glob("venv/lib/python*/site-packages/demo/__init__.py")
    assert module.stat().st_nlink > 1
