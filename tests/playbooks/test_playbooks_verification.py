"""Check scripts run for real in a generation."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_progress import Progress
from ansible.module_utils.provision_verification import verify
from playbook_target import Target
from playbook_wheels import Wheel

Demo = Callable[..., Wheel]

SCRIPTS = {
    "fine.py": "import demo, json, os, sys\nimport helper\n"
    "print(json.dumps({'what': helper.WHAT, 'data': [sys.argv[1:], os.environ['DEMO'], sys.prefix, demo.VERSION]}))\n",
    "helper.py": "WHAT = 'fine {{ it }} is'\n",
    "wrong.py": 'print(\'{"what": "no", "why": "because", "hint": "mend"}\')\nraise SystemExit(1)\n',
    "unsure.py": 'print(\'{"what": "cannot tell"}\')\nraise SystemExit(2)\n',
    "dies.py": "import os, sys\nprint('last words', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 4)\n",
    "slow.py": "import time\ntime.sleep(60)\n",
}


def command(name: str, *arguments: str, timeout_s: float = 30.0) -> dict[str, Any]:
    return {"id": name, "argv": [f"{name}.py", *arguments], "timeout_s": timeout_s}


@pytest.fixture
def made(target: Target, demo: Demo) -> Target:
    target.make(target.plan(target.lock(demo())))
    return target


def checked(target: Target, *commands: dict[str, Any], **changes: Any) -> dict[str, Any]:
    params = {**target.params(), "scripts": SCRIPTS, "commands": list(commands), "generation": 1, **changes}
    with Progress(target.layout.runs, "run-1", "verification") as progress:
        return verify(target.layout, params, progress)


def verified(target: Target) -> bool:
    state = json.loads((target.generation(1) / "state.json").read_text())
    return bool(state["verified"])


def test_checks_that_pass_make_a_generation_verified(made: Target) -> None:
    result = checked(made, command("fine", "--data", "{data}"), command("unsure"))
    fine, unsure = result["checks"]
    venv = str(made.generation(1) / "venv")
    assert (fine["id"], fine["status"], fine["what"]) == ("fine", "pass", "fine {{ it }} is")
    assert fine["data"] == [["--data", str(made.layout.mnist)], "it's $HOME", venv, "1.0"]
    assert (unsure["status"], unsure["what"]) == ("skip", "cannot tell")
    assert (result["passed"], result["generation"]) == (True, 1)
    assert verified(made)


def test_a_check_that_fails_or_dies_unmakes_it(made: Target) -> None:
    made.verified(1)
    result = checked(made, command("wrong"), command("dies"), command("slow", timeout_s=0.5), command("fine"))
    wrong, dies, slow, fine = result["checks"]
    assert (wrong["status"], wrong["what"], wrong["why"], wrong["hint"]) == ("fail", "no", "because", "mend")
    assert (dies["status"], dies["what"], dies["why"]) == ("fail", "dies was ended by SIGILL", "last words")
    assert slow["what"] == "slow did not end within 0.5 s and was stopped"
    assert 0.4 < slow["seconds"] < 10
    assert fine["status"] == "pass"
    assert result["passed"] is False
    assert not verified(made)


def test_what_needs_a_check_that_failed_is_not_run(made: Target) -> None:
    """A build for another CPU: the framework would die of SIGILL, so it is not started."""
    result = checked(
        made,
        command("wrong"),
        {**command("dies"), "needs": "wrong"},
        {**command("fine"), "needs": ""},
        command("unsure"),
    )
    wrong, dies, fine, unsure = result["checks"]
    assert wrong["status"] == "fail"
    assert (dies["status"], dies["what"], dies["why"], dies["hint"]) == ("skip", "not run: no", "because", "mend")
    assert (dies["data"], dies["seconds"]) == (None, 0.0)
    assert (fine["status"], unsure["status"], result["passed"]) == ("pass", "skip", False)


@pytest.mark.parametrize("needs", ["fine", "unsure", "not among them"])
def test_what_needs_a_check_that_did_not_fail_is_run(made: Target, needs: str) -> None:
    result = checked(made, command("fine"), command("unsure"), {**command("dies"), "needs": needs})
    assert result["checks"][2]["what"] == "dies was ended by SIGILL"


def test_without_a_number_the_current_generation_is_checked(made: Target) -> None:
    with pytest.raises(Failure) as caught:
        checked(made, generation=0)
    assert caught.value.what == "environment default has no current generation"
    made.switch("current", generation=1)
    assert checked(made, command("fine"), generation=0)["generation"] == 1


def test_checks_leave_nothing_behind(made: Target, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = sorted(tmp_path.iterdir())
    checked(made, command("fine"))
    assert sorted(tmp_path.iterdir()) == before
    assert list(made.layout.runs.iterdir()) == []


@pytest.mark.parametrize("name", ["../x.py", "a/b.py", "..", ""])
def test_a_script_is_a_plain_file(made: Target, name: str) -> None:
    with pytest.raises(Failure, match="a check script cannot be called"):
        checked(made, scripts={name: ""})


def test_an_environment_that_is_not_there(target: Target) -> None:
    with pytest.raises(Failure, match="there is no environment default"):
        checked(target)


def test_the_users_pins_reach_the_check_and_the_python_path_does_not(
    made: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    script = "import json, os\nprint(json.dumps({'what': 'w', 'data': [os.environ.get(k) for k in KEYS]}))\n"
    keys = "KEYS = ['OPENBLAS_CORETYPE', 'PYTHONPATH']\n"
    result = checked(made, command("pins"), scripts={"pins.py": keys + script})
    assert result["checks"][0]["data"] == ["Haswell", None]


def test_a_verification_waits_for_an_install(made: Target, demo: Demo) -> None:
    big = demo("big", "1.0", {f"big/m{number}.py": "x = 1\n" * 50 for number in range(1500)})
    plan = made.plan(made.lock(big), "f2")
    with made.start(plan, compile_bytecode=True) as install:
        while not (made.environment / "lock").read_text():
            assert install.poll() is None
            time.sleep(0.005)
        with pytest.raises(Failure) as caught:
            checked(made, command("fine"), lock_timeout_s=0.0)
        assert caught.value.kind == "locked"
        assert f"pid {install.pid} on {os.uname().nodename}" in caught.value.what
        assert "started by me@laptop" in caught.value.what
        assert checked(made, command("fine"))["passed"] is True
        install.communicate()


def test_a_generation_that_has_drifted_can_be_checked(made: Target) -> None:
    (folder,) = made.generation(1).glob("venv/lib/python*/site-packages/demo-1.0.dist-info")
    folder.rename(folder.with_name("demo-9.9.dist-info"))
    assert checked(made, command("fine"))["passed"] is True
    assert not verified(made)


def test_a_generation_whose_interpreter_went_away_says_so(made: Target) -> None:
    python = made.generation(1) / "venv" / "bin" / "python"
    python.unlink()
    with pytest.raises(Failure) as caught:
        checked(made, command("fine"))
    assert (caught.value.kind, caught.value.what) == ("python_missing", "the environment's Python does not run")
    assert str(python) in caught.value.why
    assert caught.value.hint == "run `provision up` again: it makes a new generation"
