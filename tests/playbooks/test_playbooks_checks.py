"""What check scripts see, and what their answers become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import provision_checks as checks


def heard(out: bytes = b"", err: bytes = b"") -> checks.Heard:
    both = checks.Heard()
    both.hear("out", out)
    both.hear("err", err)
    return both


@pytest.mark.parametrize(("status", "word"), [(0, "pass"), (1, "fail"), (2, "skip")])
def test_an_answer(status: int, word: str) -> None:
    said = heard(b'noise\n{"not": json\n{"what": "w", "why": null, "hint": "h", "data": {"x": 1}}\n{broken\n')
    assert checks.outcome("blas", status, said, 1.239, 60) == {
        "id": "blas", "status": word, "what": "w", "why": "", "hint": "h", "data": {"x": 1}, "seconds": 1.24,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "said", "what", "why", "hint"),
    [
        (-4, heard(err=b"a\nb\n"), "blas was ended by SIGILL", "a\nb", "OPENBLAS_CORETYPE"),
        (-9, heard(out=b"loading\n"), "blas was ended by SIGKILL", "loading", "memory ran out"),
        (-11, heard(), "blas was ended by SIGSEGV", "it printed nothing", "driver"),
        (-64, heard(), "blas was ended by SIGRTMAX", "it printed nothing", ""),
        (-99, heard(), "blas was ended by signal 99", "it printed nothing", ""),
        (0, heard(out=b"fine!\n"), "blas gave no answer", "fine!", "bug in the check"),
        (1, heard(err=b"Traceback\nImportError: x\n"), "blas gave no answer", "Traceback\nImportError: x", "bug"),
        (3, heard(b'{"what": "x"}\n'), "blas ended with status 3", '{"what": "x"}', ""),
        (124, heard(err=b"epoch 1\n"), "blas did not end within 60 s and was stopped", "epoch 1", "idle"),
    ],
)
def test_a_check_that_broke(status: int, said: checks.Heard, what: str, why: str, hint: str) -> None:
    outcome = checks.outcome("blas", status, said, 1.0, 60)
    assert (outcome["status"], outcome["what"], outcome["why"], outcome["data"]) == ("fail", what, why, None)
    assert hint in outcome["hint"]


def test_a_check_sees_what_the_user_would_see() -> None:
    ambient = {
        "OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2", "PYTHONPATH": "/p", "SECRET_TOKEN": "x",
        "LANG": "de_DE.UTF-8", "CUDA_VISIBLE_DEVICES": "1", "VIRTUAL_ENV": "/other", "PROVISION_RUN": "r",
    }  # fmt: skip
    seen = checks.check_variables(ambient, {"OMP_NUM_THREADS": "4"}, Path("/v"), "/home/me")
    assert seen == {
        "OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "4", "LANG": "de_DE.UTF-8", "CUDA_VISIBLE_DEVICES": "1",
        "PROVISION_RUN": "r", "HOME": "/home/me", "VIRTUAL_ENV": "/v", "PATH": f"/v/bin:{checks.SYSTEM_PATH}",
        "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def test_the_command_of_a_check() -> None:
    argv = checks.check_argv(Path("/v/bin/python"), Path("/t"), ["mnist.py", "--data", "{data}"], Path("/d/mnist"))
    assert argv == ["/v/bin/python", "/t/mnist.py", "--data", "/d/mnist"]


@pytest.mark.parametrize("plan", [None, {}, {"stack": None}, {"stack": [{}]}, []])
def test_a_plan_that_cannot_be_read_sets_nothing(plan: Any) -> None:
    assert checks.plan_variables(plan) == {}
