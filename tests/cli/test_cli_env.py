"""`provision env` with the number of a generation that is not there, on this machine."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def made(tmp_path):
    """An environment of generations 1 and 2 (current), as far as `env` looks at it."""
    environment = tmp_path / "data" / "provision" / "envs" / "default"
    for number in (1, 2):
        folder = environment / "generations" / str(number)
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(
            json.dumps({"schema": 1, "fingerprint": "f", "complete": True, "verified": True, "packages_sha256": ""})
        )
    (environment / "current").symlink_to("generations/2")
    return environment


def provision(environment, *arguments):
    variables = {**os.environ, "XDG_DATA_HOME": str(environment.parents[2])}
    command = [sys.executable, "-m", "provision", "env", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def kept(environment):
    return sorted(path.name for path in (environment / "generations").iterdir()), str(
        (environment / "current").readlink()
    )


@pytest.mark.parametrize("number", ["0", "-1"])
@pytest.mark.parametrize("words", [("remove", "--generation"), ("rollback", "--to")], ids=["remove", "rollback"])
def test_generations_are_numbered_from_one(made, words, number):
    done = provision(made, *words, number, "--yes")
    assert done.returncode == 2
    assert f"Invalid value for '{words[1]}': {number} is not in the range x>=1" in done.stderr
    assert kept(made) == (["1", "2"], "generations/2")


@pytest.mark.parametrize("words", [("remove", "--generation"), ("rollback", "--to")], ids=["remove", "rollback"])
def test_a_generation_that_is_not_there(made, words):
    done = provision(made, *words, "99", "--yes")
    assert done.returncode == 5
    assert "environment default has no generation 99" in done.stderr
    assert "there are: 1, 2" in done.stdout
    assert kept(made) == (["1", "2"], "generations/2")


def test_removing_one_generation_leaves_the_rest(made):
    done = provision(made, "remove", "--generation", "1", "--yes", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert (report["environment"]["generation"], report["changed"]) == (2, 1)
    assert kept(made) == (["2"], "generations/2")
