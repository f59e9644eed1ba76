"""`image list`: images of ours as an engine tells of them, old and broken ones too."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from harness.engine import Engine as HarnessEngine

from provision.model import labels
from provision.model.image import Verdict
from provision.run.images.listing import made_at, row, rows

OURS = {
    labels.SCHEMA: "1",
    labels.FRAMEWORKS: "tensorflow 2.21.0,keras 3.15.1",
    labels.DEVICE: "cpu",
    labels.CPU: "x86-64-v3",
    labels.CPU_LEVEL: "x86-64-v3",
    labels.MINIMAL: "true",
    labels.VERDICT: labels.verdict_text(Verdict(status="passed", checks=("a",), accuracy=0.98, dataset="mnist")),
}


def image(**changed: object) -> dict[str, object]:
    return {"Id": "sha256:1", "RepoTags": ["me/tf:v3"], "Labels": OURS, "Size": 10, "Created": 1_700_000_000, **changed}


def test_labels_say_what_is_in_it() -> None:
    found = row(image(), "me/tf:v3")
    assert found.frameworks == ("tensorflow 2.21.0", "keras 3.15.1")
    assert (found.device, found.cpu, found.minimal, found.size_bytes) == ("cpu", "x86-64-v3", True, 10)
    assert (found.verdict.status, found.verdict.accuracy) == ("passed", 0.98)


def test_an_image_of_another_schema_is_shown_with_what_is_known() -> None:
    found = row(image(Labels={labels.SCHEMA: "7", labels.CPU: "zen9"}), "me/tf:v3")
    assert (found.frameworks, found.cpu, found.device) == ((), "zen9", "")
    assert found.verdict.why == "its labels are of schema 7, and this version of provision reads 1"


def test_broken_labels_leave_a_row() -> None:
    found = row(image(Labels={**OURS, labels.FRAMEWORKS: " , ", labels.VERDICT: "{"}), "me/tf:v3")
    assert (found.frameworks, found.verdict) == ((), Verdict(status="not run", why="its labels cannot be read"))
    assert row(image(Labels=None, Size=None), "x").size_bytes == 0


@pytest.mark.parametrize(
    ("metadata", "created"),
    [
        ({"LastTagTime": "2026-11-22T22:44:09.123456789Z"}, "2026-11-22T22:44:09Z"),
        ({"LastTagTime": "2026-11-22T23:44:09.123456789+01:00"}, "2026-11-22T22:44:09Z"),
        ({"LastTagTime": "0001-01-01T00:00:00Z"}, "2023-11-14T22:13:20Z"),
        (None, "2023-11-14T22:13:20Z"),
    ],
)
def test_its_age_is_from_when_it_was_tagged_here(metadata: object, created: str) -> None:
    assert made_at(image(Metadata=metadata)) == created


@pytest.fixture
def tagged(engine: HarnessEngine) -> Iterator[str]:
    """Two tags of an image with our labels, and a temporary one that is no business of the list."""
    import os

    name = f"provision-test-list-{os.urandom(4).hex()}"
    text = "FROM scratch\n" + "".join(f"LABEL {key}='{value}'\n" for key, value in OURS.items())
    text += f"LABEL test={name}\n"
    engine.client.images.build(fileobj=io.BytesIO(text.encode()), tag=f"{name}:a")
    names = [(name, "a"), (name, "b"), ("provision-build", name)]
    for repository, tag in names:
        engine.client.api.tag(f"{name}:a", repository, tag)
    yield name
    for repository, tag in names:
        engine.client.images.remove(f"{repository}:{tag}")


@pytest.mark.docker
def test_an_engine_lists_each_tag_of_ours_newest_first(engine: HarnessEngine, tagged: str) -> None:
    from provision.run.images.engine import connect

    with connect(environ={"DOCKER_HOST": engine.url}) as ours:
        found = rows(ours)
    assert [each.tag for each in found if tagged in each.tag] == [f"{tagged}:a", f"{tagged}:b"]
    assert [each.created for each in found] == sorted((each.created for each in found), reverse=True)
