"""playbooks/build.yml, run by Ansible: the archive is brought, the wheel is built, nothing hangs on the supervisor."""

from __future__ import annotations

import hashlib
import os
import signal
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import provision_build_supervisor as supervisor
from playbook_builds import archive, build, until
from playbook_site import Site, unsafe
from playbook_target import Target, kill_marked, marked
from playbook_wheels import wheel
from test_playbooks_site import other_pythons

WORD = "s3cret-word"


@pytest.fixture
def site(target: Target, tmp_path: Path) -> Site:
    return Site(target, tmp_path)


def variables(site: Site, path: Path, *builds: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    entries = [{"build": one, "archive": str(path), "archive_sha256": sha256} for one in builds]
    found = site.variables({}, **more)
    folder = str(path.parent / "cache")
    return {**found, "provision_builds": unsafe(entries), "provision_build_folder": folder, "provision_jobs": 2}


def source(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "controller"
    folder.mkdir()
    made = wheel(folder, "demo", "1.0", {"demo/__init__.py": ""})
    script = f'set -e\n{text}\ncp {made.path.name} "$1"\n'
    path = archive(folder, {"build.sh": script, made.path.name: made.path.read_bytes()})
    made.path.unlink()
    return path


def test_a_play_builds_and_a_second_changes_nothing(site: Site, tmp_path: Path) -> None:
    path = source(tmp_path, 'echo "$FLAVOUR: ${PROVISION_RUN}"')
    one, two = (build(environment={"FLAVOUR": flavour}) for flavour in ("plain {braces}", "{{ not a template }}"))
    hosts = {"one": variables(site, path, one, two, provision_remote_cache_password=WORD)}
    assert site.play("build.yml", hosts) == 0
    assert site.result("Bring the source")["changed"] is True
    results = site.result("Build the wheel")["results"]
    made = [each["builds"][0] for each in results]
    assert [Path(each["log"]).read_text().splitlines()[1] for each in made] == [
        "plain {braces}: run-1",
        "{{ not a template }}: run-1",
    ]
    assert made[0]["wheel"] != made[1]["wheel"]
    assert WORD not in site.output
    assert (site.target.root / made[0]["folder"] / made[0]["file"]).is_file()
    assert site.play("build.yml", hosts) == 0
    assert site.changed() == []


def test_check_mode_says_that_it_would_build(site: Site, tmp_path: Path) -> None:
    hosts = {"one": variables(site, source(tmp_path, ""), build())}
    assert site.play("build.yml", hosts, "--check") == 0
    assert site.result("Build the wheel")["changed"] is True
    assert not site.target.layout.builds.exists()


def test_a_failed_build_tells_the_failing_step(site: Site, tmp_path: Path) -> None:
    text = (
        'echo "[1/2] Building CXX object a.o"; echo "FAILED: a.o"; echo "g++ -c a.cc"; echo "a.cc:1: error: no"; exit 1'
    )
    assert site.play("build.yml", {"one": variables(site, source(tmp_path, text), build())}) != 0
    (told,) = site.result("Build the wheel")["results"]
    assert (told["kind"], told["what"], told["why"]) == ("build", "building demo 1.0 failed", "a.cc:1: error: no")
    assert (told["label"], told["command"]) == ("a.o", "g++ -c a.cc")
    assert told["log_tail"] == "FAILED: a.o\ng++ -c a.cc\na.cc:1: error: no"
    assert Path(told["log"]).is_file()


def test_a_play_that_is_killed_leaves_the_build_running_and_the_next_goes_along(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'echo x >> began; echo "[1/2] one"; while [ ! -e go ]; do sleep 0.05; done'
    run_id = f"run-{uuid.uuid4().hex}"  # other tests run beside this one, and it kills by that mark
    hosts = {"one": {**variables(site, source(tmp_path, text), build()), "provision_run_id": run_id}}
    cache = tmp_path / "controller" / "cache"
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            site.play("build.yml", hosts)
        finally:
            os._exit(0)
    until(lambda: list(cache.glob("trees/*/began")), timeout_s=60)
    (folder,) = (one for one in site.target.layout.builds.iterdir() if one.is_dir())
    first = supervisor.read_state(folder)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    # the module itself: its payload goes with it, and the build has nothing of it on disk
    for one in marked(run_id):
        if one != first["pid"] and "provision_build" in Path(f"/proc/{one}/cmdline").read_text(errors="replace"):
            os.kill(one, signal.SIGHUP)
    time.sleep(1)
    assert supervisor.living(first)
    (go,) = [one.parent / "go" for one in cache.glob("trees/*/began")]
    go.touch()
    assert site.play("build.yml", hosts) == 0
    assert (go.parent / "began").read_text() == "x\n"
    kill_marked(run_id)


def test_a_play_builds_with_older_pythons_on_targets(site: Site, tmp_path: Path) -> None:
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no older Python is installed here")
    path = source(tmp_path, "true")
    hosts = {
        f"host{number}": variables(
            site, path, build(environment={"NUMBER": str(number)}), ansible_python_interpreter=python
        )
        for number, python in enumerate(pythons)
    }
    status = site.play("build.yml", hosts)
    assert status == 0, site.output
    for host in hosts:
        (each,) = site.result("Build the wheel", host)["results"]
        assert each["builds"][0]["built"] is True
