"""Image plans as `image build` makes them: the resolver's own, on a base image whose facts are made up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from worlds.hosts import V3, host

from provision.catalog.images import distributions
from provision.catalog.load import catalog
from provision.model.facts import Os
from provision.model.image import Base, Copied, ImagePlan
from provision.resolve.image import ImageAsk, image_plans
from provision.resolve.request import parse_request

EPOCH = 1_700_000_000
BOOKWORM = "debian:bookworm"


def base(reference: str = BOOKWORM, *, digest: str | None = None, created: int = EPOCH) -> Base:
    """Debian 12, as the probe finds it: no Python, no compiler."""
    facts = host(flags=V3, pythons=(), container=True)
    facts = replace(facts, system=replace(facts.system, os=Os(id="debian", version_id="12"), compilers=()))
    return Base(reference=reference, digest=digest, id="sha256:" + "0" * 64, created=created, facts=facts)


def plans(
    *frameworks: str,
    cpus: tuple[str, ...] = ("generic",),
    tag: str | None = "me/it:1",
    on: Base | None = None,
    minimal: bool = False,
    copied: tuple[Copied, ...] = (),
    labels: Mapping[str, str] | None = None,
    device: str = "auto",
    find_links: Sequence[str] = (),
    lock: str | None = None,
) -> tuple[ImagePlan, ...]:
    """What `image build --framework … --cpu …` plans. ``lock`` stands for what uv would have said."""
    table = catalog()
    asked = parse_request(
        frameworks=frameworks or ("numpy==2.4.6",), device=device, find_links=tuple(find_links), catalog=table
    )
    on = on or base()
    ask = ImageAsk(
        request=asked, cpus=cpus, tag=tag, base=on.reference, minimal=minimal, copied=copied, labels=dict(labels or {})
    )
    made = image_plans(ask, on, table, distributions())
    return tuple(replace(plan, plan=replace(plan.plan, lock=lock)) for plan in made) if lock is not None else made


def plan(*frameworks: str, **more: object) -> ImagePlan:
    """The only one."""
    (one,) = plans(*frameworks, **more)  # type: ignore[arg-type]
    return one


def tiny_wheel(folder: Path) -> tuple[Path, str]:
    """A wheel called numpy that holds one module, and the lock that names it: an environment that takes seconds."""
    import zipfile

    name, version = "numpy", "2.4.6"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"__version__ = {version!r}\nNAMES = {{'a', 'b', 'c'}}\n",
        f"{name}/tests/test_it.py": "assert True\n",
        f"{name}/it.pyi": "NAMES: set[str]\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, text in files.items():
            wheel.writestr(zipfile.ZipInfo(inside), text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return path, f"{name}=={version} --hash=sha256:{digest}\n"
