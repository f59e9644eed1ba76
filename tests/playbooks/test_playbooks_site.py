"""site.yml and environments.yml, carried out by ansible-playbook on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from playbook_site import Site, unsafe
from playbook_target import PLAYBOOKS, Target
from playbook_wheels import Wheel

Demo = Callable[..., Wheel]


@pytest.fixture
def site(target: Target, tmp_path: Path) -> Site:
    return Site(target, tmp_path)


def test_from_a_bare_host_to_a_current_environment_and_back(site: Site, demo: Demo, tmp_path: Path) -> None:
    target = site.target
    for name in ("bin", "envs"):
        shutil.rmtree(target.root / name, ignore_errors=True)
    idx = tmp_path / "t10k-labels-idx1-ubyte"
    idx.write_bytes(b"\0\0\x08\x01")
    wheel = demo()
    lock = target.lock(wheel).replace(f"--find-links {target.wheels.as_uri()}\n", "")
    plan = target.plan(lock, environment={"DEMO": "{{ not a template }}"})
    brought = {"provision_wheels": [str(wheel.path)], "provision_mnist_files": [str(idx)]}
    hosts = {"one": site.variables(plan, **brought)}

    assert site.play("site.yml", hosts, "--check") == 0
    assert site.result("Make the generation")["generation"] == 1
    assert not (target.root / "envs").exists()

    assert site.play("site.yml", hosts) == 0
    made, checked = site.result("Make the generation"), site.result("Run the checks")
    assert (made["created"], made["generation"], made["packages"]) == (True, 1, 1)
    assert checked["passed"] is True
    assert checked["checks"][0]["what"] == "{{ braces }} stay {% as they are"
    assert checked["checks"][0]["data"] == ["--data", str(target.root / "mnist")]
    assert (target.root / "mnist" / idx.name).read_bytes() == idx.read_bytes()
    switched = site.result("Make the generation current")
    assert (switched["generation"], switched["previous"], switched["verified"]) == (1, None, True)
    assert wheel.sha256 not in site.output, "arguments do not come back"
    shown = subprocess.check_output(["sh", "-c", f'. "{switched["activate"]}"; printf %s "$DEMO"'], text=True)
    assert shown == "{{ not a template }}"

    assert site.play("site.yml", hosts) == 0
    assert site.changed() == []
    assert site.result("Make the generation")["generation"] == 1

    assert site.play("site.yml", {"one": site.variables(plan, provision_generation=1)}, "--tags", "verify") == 0
    assert site.result("Run the checks")["generation"] == 1
    assert not any(title.endswith(("Make the generation", "Bring the uv program")) for _, title in site.results)


def test_a_check_that_fails_leaves_the_previous_generation_current(site: Site, demo: Demo) -> None:
    target = site.target
    lock = target.lock(demo())
    target.make(target.plan(lock, "f0"))
    target.verified(1)
    target.switch("current", generation=1)
    failing = {"check.py": unsafe('print(\'{"what": "broken"}\')\nraise SystemExit(1)\n')}
    assert site.play("site.yml", {"one": site.variables(target.plan(lock), provision_checks=failing)}) == 0
    assert site.result("Run the checks")["passed"] is False
    assert site.result("Make the generation current")["skipped"] is True
    assert os.readlink(target.environment / "current") == "generations/1"  # noqa: PTH115

    unverified = site.variables(target.plan(lock), provision_checks=failing, provision_verify=False)
    assert site.play("site.yml", {"one": unverified}) == 0
    at_once = site.result("Make the generation")
    assert (at_once["generation"], at_once["previous"], at_once["verified"]) == (2, 1, False)
    assert at_once["activate"] == str(target.environment / "current" / "activate")
    assert site.result("Make the generation current")["skipped"] is True
    assert os.readlink(target.environment / "current") == "generations/2"  # noqa: PTH115

    change = {"provision_change": {"action": "rollback", "name": "default", "generation": None}}
    assert site.play("environments.yml", {"one": {**site.variables({}), **change}}) == 0
    assert site.result("Roll back the environment")["generation"] == 1

    change = {"provision_change": {"action": "remove", "name": "default", "generation": 1}}
    assert site.play("environments.yml", {"one": {**site.variables({}), **change}}) == 2
    assert site.result("Remove the environment")["kind"] == "refused"

    for action, task in (("remove", "Remove the environment"), ("rollback", "Roll back the environment")):
        change = {"provision_change": {"action": action, "name": "default", "generation": 0}}
        assert site.play("environments.yml", {"one": {**site.variables({}), **change}}) == 2
        assert site.result(task)["what"] == "0 is not the number of a generation"

    change = {"provision_change": {"action": "remove", "name": "default", "generation": None}}
    assert site.play("environments.yml", {"one": {**site.variables({}), **change}}) == 0
    assert site.result("Remove the environment")["removed"] == [1, 2]


def test_one_host_that_fails_does_not_stop_another(site: Site, demo: Demo) -> None:
    target = site.target
    good = target.plan(target.lock(demo()))
    bad = {**target.plan(re.sub(r"sha256:\w+", "sha256:" + "0" * 64, target.lock(demo()))), "request": {"name": "bad"}}
    assert site.play("site.yml", {"one": site.variables(good), "two": site.variables(bad)}) == 2
    assert site.result("Make the generation current", "one")["generation"] == 1
    failed = site.result("Make the generation", "two")
    assert (failed["kind"], failed["failed"]) == ("hash_mismatch", True)
    assert failed["msg"].startswith(failed["what"])
    assert "hint: " in failed["msg"]
    assert "invocation" not in failed or failed["invocation"] == {}
    assert not any(host == "two" and title.endswith("Run the checks") for host, title in site.results)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provision_uv_binary": "/no/such/uv"}, "a file that has to be sent cannot be read: /no/such/uv"),
        ({"provision_uv_sha256": "0" * 64}, "uv-1.2.3 was damaged on its way"),
        ({"provision_lock_timeout_s": "soon"}, "environment_lock_timeout_s"),
    ],
)
def test_wrong_input_fails_before_any_change(site: Site, demo: Demo, change: dict[str, Any], message: str) -> None:
    plan = site.target.plan(site.target.lock(demo()))
    assert site.play("site.yml", {"one": site.variables(plan, **change)}) == 2
    assert any(message in json.dumps(result) for result in site.results.values())
    assert not site.target.layout.environments.exists()
    assert not site.target.layout.uv("1.2.3").exists() or "lock" in message


# ── the roles' own form ───────────────────────────────────────────────────────────────────────────────────────────

ROLES = sorted(path.name for path in (PLAYBOOKS / "roles").iterdir())


@pytest.mark.parametrize("role", ROLES)
def test_every_input_has_a_default_a_comment_and_a_specification(role: str) -> None:
    folder = PLAYBOOKS / "roles" / role
    text = (folder / "defaults" / "main.yml").read_text()
    defaults = yaml.safe_load(text)
    options = yaml.safe_load((folder / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert set(defaults) == set(options)
    assert all(name.startswith(f"{role}_") for name in defaults)
    assert all(re.search(rf"^# .+\n{name}:", text, re.MULTILINE) for name in defaults)
    for name, option in options.items():
        assert option.get("required") or option["default"] == defaults[name], name


def test_ansible_lint_has_nothing_to_say() -> None:
    lint = shutil.which("ansible-lint")
    if lint is None:
        pytest.skip("ansible-lint is not installed here")
    done = subprocess.run(
        [lint, "--offline", "-c", ".ansible-lint", "."], cwd=PLAYBOOKS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


PYENV = Path.home() / ".pyenv" / "versions"  # before a fixture changes what home is


def other_pythons() -> list[str]:
    """Interpreters older than the one of the tests that ansible-core 2.19 can still use on a target."""
    found = {shutil.which(f"python3.{minor}") for minor in range(8, sys.version_info[1])}
    found |= {str(path) for minor in (8, 9) for path in PYENV.glob(f"3.{minor}.*/bin/python3")}
    runs = [
        name
        for name in found
        if name and not subprocess.run([name, "-c", ""], capture_output=True, check=False).returncode
    ]
    return sorted(runs)


def test_the_modules_run_on_older_pythons(site: Site, demo: Demo) -> None:
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no older Python is installed here")
    plan = site.target.plan(site.target.lock(demo()))
    hosts = {
        f"host{number}": site.variables(
            {**plan, "request": {"name": f"env{number}"}}, ansible_python_interpreter=python
        )
        for number, python in enumerate(pythons)
    }
    assert site.play("site.yml", hosts) == 0
    assert all(site.result("Make the generation", host)["created"] for host in hosts)
