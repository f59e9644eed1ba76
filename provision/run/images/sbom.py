"""An image's bill of materials: CycloneDX 1.6, by the library of its own project.

Python packages come from the lock, those of the distribution from dpkg's own record in the image.
"""

from __future__ import annotations

import io
import re
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from provision import __version__
from provision.errors import StepFailed
from provision.model.image import ImageOutcome, ImagePlan
from provision.model.labels import OURS, RUN, THIS_SCHEMA
from provision.run.files import write_atomically

if TYPE_CHECKING:
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.tool import ToolRepository

    from provision.run.images.engine import Engine

STATUS = "/var/lib/dpkg/status"
NAMESPACE = uuid.UUID("6f6d2c1e-6a0f-4d0d-9d0d-2f0a6f7a3b51")
"""Of serial numbers: the same image gets the same one."""
NOT_RECORDED = "not recorded: a minimal image has no package database"
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    name: str
    version: str
    hashes: tuple[str, ...] = ()
    """SHA-256 of the files that may be installed as it."""
    architecture: str = ""
    source: str = ""
    """The distribution's source package, where its name is another one."""


def path_for(base: Path, plan: ImagePlan, many: bool) -> Path:
    """``base``, or with several images "sbom-v3.json" for "sbom.json": one file for each."""
    from provision.resolve.image_tags import cpu_word

    if not many:
        return base
    word = plan.tag.rpartition(":")[2] if ":" in plan.tag.rpartition("/")[2] else cpu_word(plan.cpu)
    return base.with_name(f"{base.stem}-{word}{base.suffix}")


def write(engine: Engine, plan: ImagePlan, outcome: ImageOutcome, path: Path) -> Path:
    """Write the bill of an image that is there. Raises StepFailed and UsageError (a place that cannot be written)."""
    status = _from_image(engine, outcome.id or outcome.tag, STATUS)
    write_atomically(path, document(plan, outcome, None if status is None else debian_packages(status)))
    return path


def document(plan: ImagePlan, outcome: ImageOutcome, debian: tuple[Package, ...] | None) -> str:
    """The JSON. ``debian`` is None where the image has no record of the distribution's packages."""
    from cyclonedx.output.json import JsonV1Dot6

    return JsonV1Dot6(_bom(plan, outcome, debian)).output_as_string(indent=2) + "\n"


def _bom(plan: ImagePlan, outcome: ImageOutcome, debian: tuple[Package, ...] | None) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType

    python = [_python_component(package) for package in python_packages(plan.plan.lock or "")]
    distribution = [_debian_component(package, plan) for package in debian or ()]
    image = Component(
        type=ComponentType.CONTAINER,
        bom_ref="image",
        name=outcome.tag.partition("@")[0],
        version=outcome.id,
        properties=_properties(_facts(plan, outcome, debian)),
    )
    tool = Component(type=ComponentType.APPLICATION, name="provision", version=__version__, bom_ref="provision")
    bom = Bom(
        components=[*python, *distribution],
        serial_number=uuid.uuid5(NAMESPACE, outcome.id or outcome.tag),
        metadata=BomMetaData(
            tools=_tools(tool), component=image, timestamp=datetime.fromtimestamp(plan.epoch, tz=timezone.utc)
        ),
    )
    bom.register_dependency(image, [*python, *distribution])
    return bom


def _tools(tool: Component) -> ToolRepository:
    from cyclonedx.model.tool import ToolRepository

    return ToolRepository(components=[tool])


def _facts(plan: ImagePlan, outcome: ImageOutcome, debian: tuple[Package, ...] | None) -> dict[str, str]:
    """What the image's labels say too, for who has only this file."""
    facts = {
        "schema": THIS_SCHEMA,
        "plan": plan.plan.fingerprint,
        "frameworks": ", ".join(f"{each.framework} {each.version}" for each in plan.plan.stack),
        "device": plan.device,
        "cpu": plan.cpu,
        "cpu-level": plan.level or "",
        "cpu-flags": ",".join(plan.flags),
        "base.name": plan.base.reference,
        "base.digest": plan.base.digest or "",
        "base.id": plan.base.id,
        "verdict": outcome.verdict.status,
        "distribution-packages": NOT_RECORDED if debian is None else str(len(debian)),
        "built-from-source": ", ".join(each.framework for each in plan.plan.stack if each.origin == "source"),
    }
    return {f"{OURS}{name}": value for name, value in facts.items() if value}


def _properties(facts: Mapping[str, str]) -> list[Property]:
    from cyclonedx.model import Property

    return [Property(name=name, value=value) for name, value in facts.items()]


def _python_component(package: Package) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    purl = PackageURL(type="pypi", name=package.name, version=package.version)
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=each) for each in package.hashes]
    if len(hashes) == 1:
        return Component(
            type=ComponentType.LIBRARY,
            bom_ref=str(purl),
            name=package.name,
            version=package.version,
            purl=purl,
            hashes=hashes,
        )
    # a lock allows any of a release's files, and a component's own hashes would all have to be of one
    allowed = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(purl)),
        comment="files of this release that the lock allows; one of them is installed",
        hashes=hashes,
    )
    return Component(
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        name=package.name,
        version=package.version,
        purl=purl,
        external_references=[allowed] if hashes else [],
    )


def _debian_component(package: Package, plan: ImagePlan) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    qualifiers = {"arch": package.architecture, "distro": f"{plan.distribution.id}-{plan.distribution.version_id}"}
    if package.source:
        qualifiers["upstream"] = package.source
    purl = PackageURL(
        type="deb", namespace=plan.distribution.id, name=package.name, version=package.version, qualifiers=qualifiers
    )
    return Component(
        type=ComponentType.LIBRARY, bom_ref=str(purl), name=package.name, version=package.version, purl=purl
    )


def python_packages(lock: str) -> tuple[Package, ...]:
    """Of a lock.txt as uv writes it: a requirement with ``==``, its hashes on the lines below."""
    found: dict[str, Package] = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock):
        match = REQUIREMENT.match(block.strip())
        if match is not None:
            hashes = tuple(dict.fromkeys(HASH.findall(block)))
            found[match["name"]] = Package(name=match["name"], version=match["version"], hashes=hashes)
    return tuple(found[name] for name in sorted(found))


def debian_packages(status: str) -> tuple[Package, ...]:
    """The installed ones of dpkg's status file (deb-control(5)), sorted by name."""
    found = [
        Package(
            name=fields["Package"],
            version=fields["Version"],
            architecture=fields.get("Architecture", ""),
            source=fields.get("Source", "").partition(" ")[0],
        )
        for fields in _paragraphs(status)
        if fields.get("Status", "").endswith(" installed") and {"Package", "Version"} <= fields.keys()
    ]
    return tuple(sorted(found, key=lambda package: (package.name, package.architecture)))


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    for paragraph in text.split("\n\n"):
        lines = (line.partition(":") for line in paragraph.splitlines() if line[:1].strip())
        yield {name: value.strip() for name, _, value in lines}


def _from_image(engine: Engine, image: str, path: str) -> str | None:
    """A file's text; None where the image has none. Nothing is started."""
    import requests

    container = str(engine.client.api.create_container(image, command=["none"], labels={RUN: "sbom"})["Id"])
    try:
        chunks, _ = engine.client.api.get_archive(container, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            return None if file is None else file.read().decode("utf-8", "replace")
    except tarfile.TarError as error:
        raise StepFailed(what=f"{path} of {image} cannot be read", why=str(error)) from error
    except requests.HTTPError as error:  # the SDK's APIError is one
        if error.response is not None and error.response.status_code == 404:
            return None
        raise StepFailed(what=f"{path} of {image} cannot be read", why=str(error)) from error
    finally:
        engine.remove_container(container)
