"""Wheels that a build has made on a host, as the lock and the report need them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from provision.model.report import BuildOutcome
from provision.run.files import write_whole

STAMP = (1980, 1, 1, 0, 0, 0)
"""The oldest time a zip file can say: the same wheel then gives the same bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWheel:
    """A wheel on a host, and what it says about itself."""

    framework: str
    distribution: str
    """Normalised: "tensorflow-cpu"."""
    version: str
    """As in the wheel's METADATA: it may be longer than the release ("2.21.0.dev0+selfbuilt")."""
    sha256: str
    folder: str
    """Where it lies, relative to DATA_HOME/provision on its host."""
    requires: tuple[str, ...]
    extras: tuple[str, ...]
    """Names of the extras that it has."""

    def stand_in(self, folder: Path) -> Path:
        """A wheel that holds only the metadata, so that versions can be resolved here while the wheel stays there.

        Raises UsageError where ``folder`` cannot be written.
        """
        name = f"{self.distribution.replace('-', '_')}-{self.version}"
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        texts = {"METADATA": self._metadata(), "WHEEL": kind}
        files = {f"{name}.dist-info/{file}": text for file, text in texts.items()}
        record = "".join(f"{file},,\n" for file in files) + f"{name}.dist-info/RECORD,,\n"
        files[f"{name}.dist-info/RECORD"] = record
        digest = hashlib.sha256("".join(files.values()).encode()).hexdigest()[:16]
        path = folder / digest / f"{name}-py3-none-any.whl"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, _zipped(files))
        return path

    def _metadata(self) -> str:
        lines = ["Metadata-Version: 2.1", f"Name: {self.distribution}", f"Version: {self.version}"]
        lines += [f"Requires-Dist: {line}" for line in self.requires]
        lines += [f"Provides-Extra: {name}" for name in self.extras]
        return "\n".join(lines) + "\n"

    @property
    def lock_line(self) -> str:
        return f"{self.distribution}=={self.version} \\\n    --hash=sha256:{self.sha256}\n"


def _zipped(files: Mapping[str, str]) -> bytes:
    import io

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, STAMP), text)
    return buffer.getvalue()


def built_wheels(results: Sequence[Mapping[str, Any]]) -> tuple[BuiltWheel, ...]:
    """From what the target's module returned (playbooks/library/provision_build.py, "builds")."""
    return tuple(
        BuiltWheel(
            framework=str(each["framework"]),
            distribution=str(each["distribution"]),
            version=str(each["wheel_version"]),
            sha256=str(each["sha256"]),
            folder=str(each["folder"]),
            requires=tuple(map(str, each.get("requires") or ())),
            extras=tuple(map(str, each.get("provides_extra") or ())),
        )
        for each in results
    )


def build_outcomes(results: Sequence[Mapping[str, Any]]) -> tuple[BuildOutcome, ...]:
    """The same for the report."""
    names = {field.name for field in fields(BuildOutcome)}
    return tuple(
        BuildOutcome(**{**{key: value for key, value in each.items() if key in names}, "notes": tuple(each["notes"])})
        for each in results
    )
