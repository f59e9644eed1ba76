"""The images of an engine that provision has made, from their labels."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from provision.model import labels
from provision.model.image import ImageRow, Verdict
from provision.run.images.cleanup import FAILED, TEMPORARY

if TYPE_CHECKING:
    from provision.run.images.engine import Engine

Json = Mapping[str, Any]


def rows(engine: Engine) -> tuple[ImageRow, ...]:
    """One row for each tag, newest first. Images without a tag and those of a run that goes on are left out.

    Raises HostError or StepFailed where the engine does not answer.
    """
    found: list[ImageRow] = []
    for image in engine.client.api.images(filters={"label": labels.SCHEMA}):
        tags = [tag for tag in image.get("RepoTags") or () if _lasting(tag)]
        if tags:
            said = {**image, "Metadata": (engine.find(str(image["Id"])) or {}).get("Metadata")}
            found += [row(said, tag) for tag in tags]
    return tuple(sorted(sorted(found, key=lambda each: each.tag), key=lambda each: each.created, reverse=True))


def _lasting(tag: str) -> bool:
    return tag != "<none>:<none>" and tag.rpartition(":")[0] not in (TEMPORARY, FAILED)


def row(image: Json, tag: str) -> ImageRow:
    """Of an image as the engine lists it, with the ``Metadata`` of its inspection.

    Labels of another version of provision, or broken ones, leave a row with what can be read.
    """
    said: Mapping[str, str] = image.get("Labels") or {}
    known = labels.row_from(
        said, tag=tag, image_id=str(image["Id"]), size_bytes=int(image.get("Size") or 0), created=made_at(image)
    )
    if known is not None:
        return known
    verdict = labels.verdict_from(said.get(labels.VERDICT))
    return ImageRow(
        tag=tag,
        id=str(image["Id"]),
        frameworks=labels.words(said, labels.FRAMEWORKS),
        device=said.get(labels.DEVICE) or "",
        cpu=said.get(labels.CPU) or "",
        level=said.get(labels.CPU_LEVEL) or None,
        minimal=said.get(labels.MINIMAL) == "true",
        size_bytes=int(image.get("Size") or 0),
        created=made_at(image),
        verdict=verdict or Verdict(status="not run", why=_strange(said.get(labels.SCHEMA, ""))),
    )


def _strange(schema: str) -> str:
    if schema != labels.THIS_SCHEMA:
        return f"its labels are of schema {schema}, and this version of provision reads {labels.THIS_SCHEMA}"
    return "its labels cannot be read"


def made_at(image: Json) -> str:
    """ISO 8601, UTC. The image's own time may be SOURCE_DATE_EPOCH; when it was tagged here, nobody sets."""
    tagged = str((image.get("Metadata") or {}).get("LastTagTime") or "")
    # Go's zero time stands for "never"
    if tagged and not tagged.startswith("0001-"):
        return f"{tagged[:19]}Z" if tagged[19:].endswith("Z") else _utc(tagged)
    return datetime.fromtimestamp(int(image.get("Created") or 0), tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _utc(text: str) -> str:
    """Of "2026-11-22T23:10:11.123456789+01:00": Python 3.10 reads no nanoseconds."""
    zone = text[-6:]
    moment = datetime.fromisoformat(f"{text[:19]}{zone}")
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
