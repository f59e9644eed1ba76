"""What an image says of itself: written from a plan, read back, and read from images that are not ours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds.images import plan

from provision.model import labels
from provision.model.image import Verdict

PASSED = Verdict(
    status="passed", checks=("cpu_flags", "mnist:tensorflow"), accuracy=0.981, dataset="mnist", device="cpu"
)


def test_what_a_cpu_image_says() -> None:
    made = plan("tensorflow", cpus=("x86-64-v3",))
    found = labels.labels_of(made)
    stack = json.loads(found.pop("io.provision.stack"))
    assert [(row["framework"], row["version"], row["origin"]) for row in stack] == [("tensorflow", "2.21.0", "wheel")]
    assert found == {
        "io.provision.cpu": "x86-64-v3",
        "io.provision.cpu-flags": "abm,avx,avx2,bmi1,bmi2,cx16,f16c,fma,lahf_lm,movbe,pni,popcnt,sse4_1,sse4_2,ssse3,"
        "xsave",
        "io.provision.cpu-level": "x86-64-v3",
        "io.provision.device": "cpu",
        "io.provision.frameworks": "tensorflow 2.21.0",
        "io.provision.minimal": "false",
        "io.provision.origin": "wheel",
        "io.provision.plan": made.plan.fingerprint,
        "io.provision.python": "3.11",
        "io.provision.schema": "1",
        "org.opencontainers.image.base.digest": "sha256:" + "d" * 64,
        "org.opencontainers.image.base.name": "debian:bookworm",
        "org.opencontainers.image.created": "2025-11-24T16:00:00Z",
        "org.opencontainers.image.title": "tensorflow 2.21.0 (cpu, x86-64-v3)",
        "org.opencontainers.image.version": "2.21.0",
    }
    assert list(labels.labels_of(made)) == sorted(labels.labels_of(made)), "two builds of one plan: the same bytes"


def test_what_only_some_images_can_say() -> None:
    cuda = plan("pytorch", cuda_compute_capabilities="10.0,9.0,8.6", cpus=("avx2,fma",)).labels
    assert cuda["io.provision.device"] == "cuda"
    assert cuda["io.provision.compute-capabilities"] == "8.6,9.0,10.0"
    assert cuda["io.provision.driver-minimum"] == "580.65.06"
    several = plan("tensorflow", "keras", minimal=True).labels
    assert several["org.opencontainers.image.version"] == several["io.provision.frameworks"].replace(",", ", ")
    assert several["io.provision.frameworks"].startswith("tensorflow 2.21.0,keras 3.")
    assert several["io.provision.minimal"] == "true"
    assert plan("tensorflow", cpus=("x86-64-v2",)).labels["io.provision.origin"] == "source"


def test_an_image_on_a_base_that_no_registry_has_names_no_digest() -> None:
    made = plan("pytorch")
    local = replace(made, base=replace(made.base, digest=None))
    assert labels.BASE_DIGEST not in labels.labels_of(local)


@pytest.mark.parametrize(
    "verdict", [PASSED, Verdict(status="failed", why='it said "no"\nand stopped'), Verdict(status="not run")]
)
def test_a_verdict_reads_back_from_one_line(verdict: Verdict) -> None:
    text = labels.verdict_text(verdict)
    assert "\n" not in text
    assert labels.verdict_from(text) == verdict


@pytest.mark.parametrize(
    "text", [None, "", "passed", "{}", '{"status":"maybe"}', "[]", "null", '{"status":"passed","score":1}', "[" * 99999]
)
def test_a_verdict_that_is_none(text: str | None) -> None:
    assert labels.verdict_from(text) is None


def test_the_stack_reads_back() -> None:
    made = plan("pytorch", cuda_compute_capabilities="8.6")
    assert labels.stack_from(made.labels[labels.STACK]) == made.plan.stack


@pytest.mark.parametrize("text", [None, "", "[]", "{}", "7", '[{"framework":"x"}]', '["x"]', "{"])
def test_a_stack_that_is_none(text: str | None) -> None:
    assert labels.stack_from(text) is None


def row(found: dict[str, str] | None) -> object:
    return labels.row_from(found, tag="me/tf:v3", image_id="sha256:1", size_bytes=7, created="2026-11-22T00:00:00Z")


def test_a_line_of_the_list() -> None:
    made = plan("tensorflow", "keras", cpus=("x86-64-v3",))
    line = labels.row_from(
        {**made.labels, labels.VERDICT: labels.verdict_text(PASSED)},
        tag="me/tf:v3",
        image_id="sha256:1",
        size_bytes=7,
        created="2026-11-22T00:00:00Z",
    )
    assert line is not None
    assert line.frameworks == labels.frameworks_of(made.plan.stack)
    assert (line.tag, line.device, line.cpu, line.level) == ("me/tf:v3", "cpu", "x86-64-v3", "x86-64-v3")
    assert (line.size_bytes, line.minimal, line.verdict) == (7, False, PASSED)


def test_an_image_without_a_verdict_was_not_verified() -> None:
    line = labels.row_from(dict(plan("pytorch").labels), tag="x", image_id="y", size_bytes=0, created="")
    assert line is not None
    assert line.verdict == Verdict(status="not run", why="the image carries no verdict")


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"maintainer": "somebody"},
        {"org.opencontainers.image.title": "tensorflow"},
        {"io.provision.schema": "99", "io.provision.frameworks": "tensorflow 9"},
        {"io.provision.schema": "1"},
        {"io.provision.schema": "1", "io.provision.frameworks": " , "},
        {"io.provision.run": "0a1b2c3d"},
    ],
)
def test_an_image_that_is_not_ours_is_no_line(found: dict[str, str] | None) -> None:
    assert row(found) is None


NAMES = [labels.SCHEMA, labels.FRAMEWORKS, labels.VERDICT, labels.STACK, labels.CPU_FLAGS, labels.MINIMAL, labels.CPU]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=30) | st.just("1")))
def test_no_label_whatsoever_breaks_the_reader(found: dict[str, str]) -> None:
    row(found)
    labels.flags_from(found)
    labels.stack_from(found.get(labels.STACK))
    labels.is_ours(found)


def test_flags_are_told_even_where_nobody_asked_for_any() -> None:
    assert labels.flags_from(plan("tensorflow").labels) == plan("tensorflow").flags
    assert labels.flags_from(plan("pytorch").labels) == ()
    assert labels.flags_from(None) == ()
