"""A wheel of TensorFlow's name that computes with NumPy and sees no GPU, and an index that has it.

For tests of what comes before a framework: the true CUDA wheels are gigabytes, and no machine here has a GPU, so either
ends at "sees no GPU".
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path

TENSORFLOW = '''\
"""The little of TensorFlow's interface that the first checks ask."""

import contextlib

import numpy

__version__ = "{version}"
constant = numpy.float32


class config:
    @staticmethod
    def list_physical_devices(kind=None):
        return []

    @staticmethod
    def set_visible_devices(devices, kind=None):
        pass

    @staticmethod
    def set_soft_device_placement(on):
        pass


class sysconfig:
    @staticmethod
    def get_build_info():
        return {{"cuda_version": "12.3", "cuda_compute_capabilities": ["sm_50", "sm_60", "compute_90"]}}


class test:
    @staticmethod
    def is_built_with_cuda():
        return True


@contextlib.contextmanager
def device(name):
    yield
'''


def wheel(
    name: str, version: str, files: dict[str, str], *, requires: tuple[str, ...] = (), extras: tuple[str, ...] = ()
) -> tuple[str, bytes]:
    """(file name, content) of a wheel for any Python."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Provides-Extra: {extra}" for extra in extras] + [f"Requires-Dist: {each}" for each in requires]
    contents = {
        **files,
        f"{info}/METADATA": "\n".join(lines) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: provision-tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in contents.items())
    contents[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    return f"{module}-{version}-py3-none-any.whl", made.getvalue()


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def stand_ins(version: str) -> dict[str, tuple[str, bytes]]:
    """By project: TensorFlow of that version, and a cuDNN for it that is only a name."""
    files = {"tensorflow/__init__.py": TENSORFLOW.format(version=version)}
    return {
        "tensorflow": wheel("tensorflow", version, files, requires=("numpy",), extras=("and-cuda",)),
        "nvidia-cudnn-cu12": wheel("nvidia-cudnn-cu12", "9.10.2.21", {"nvidia_cudnn_stand_in.py": ""}),
    }


def write_index(folder: Path, wheels: dict[str, tuple[str, bytes]]) -> None:
    """PEP 503's simple index of these wheels."""
    for project, (name, content) in wheels.items():
        place = folder / project
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
        link = f'<a href="{name}#sha256={hashlib.sha256(content).hexdigest()}">{name}</a>'
        (place / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>\n")
