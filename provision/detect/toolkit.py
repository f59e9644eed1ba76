"""The system's CUDA toolkit and cuDNN: what is installed for building, not what wheels bring along."""

from __future__ import annotations

import re

from provision.model.facts import Toolkit
from provision.model.readings import Readings


def toolkit_facts(readings: Readings) -> Toolkit:
    return Toolkit(cuda=_nvcc(readings.text("nvcc_version") or ""), cudnn=_cudnn(readings.text("cudnn_version") or ""))


def _nvcc(text: str) -> str | None:
    # "Cuda compilation tools, release 13.1, V13.1.80"
    match = re.search(r"\brelease (\d{1,2}\.\d{1,2})\b", text)
    return match[1] if match else None


def _cudnn(text: str) -> str | None:
    """From cudnn_version.h: "#define CUDNN_MAJOR 9" and its MINOR and PATCHLEVEL."""
    values = dict(re.findall(r"^#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)\s+(\d{1,4})\b", text, re.MULTILINE))
    parts = [values.get(name) for name in ("MAJOR", "MINOR", "PATCHLEVEL")]
    return ".".join(part for part in parts if part) if None not in parts else None
