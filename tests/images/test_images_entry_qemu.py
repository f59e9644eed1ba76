"""A built image's whole entry point on CPUs that lack flags: its file system, run under QEMU's user emulation.

QEMU does not follow exec into further programs, so its interpreter is registered for them (binfmt_misc) in a user
namespace of the test's own: Linux 6.7 and newer have a table for each, and the machine's stays as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.engine import Engine as HarnessEngine
from harness.places import RUN, without_pins

from provision.run.images.engine import Engine

pytestmark = [pytest.mark.docker, pytest.mark.network]

LOADER = "lib64/ld-linux-x86-64.so.2"
COMPUTE = "import numpy; print(numpy.__version__, numpy.ones((9, 9)).dot(numpy.ones((9, 9))).sum())"

# Ordinary programs are told by OS ABI 0; QEMU itself has 3, and must not be run by itself. The loader has 3 as well, so
# it is told by its whole header.
SETUP = r"""
set -eu
root=$1 qemu=$2 loader=$3
shift 3
mount --rbind /dev "$root/dev"
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
programs='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x3e\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":programs:M::$programs:$mask:$qemu:F" > /proc/sys/fs/binfmt_misc/register
printf '%s' ":loader:M::$loader::$qemu:F" > /proc/sys/fs/binfmt_misc/register
exec chroot "$root" "$@"
"""

Started = Callable[[str, str, list[str]], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def qemu() -> str:
    found = shutil.which("qemu-x86_64-static")
    if found is None:
        pytest.skip("no qemu-x86_64-static (Debian: qemu-user-static)")
    probe = ["unshare", "-Urm", "mount", "-t", "binfmt_misc", "none", "/proc/sys/fs/binfmt_misc"]
    done = subprocess.run(probe, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"no binfmt_misc in a user namespace (Linux 6.7 has it): {done.stderr.strip()}")
    return found


@pytest.fixture(scope="module")
def tag(engine: HarnessEngine, mine: Engine, base_image: str) -> Iterator[str]:
    """Two levels of NumPy, built by the command as users run it; not proved: what is asked here is another thing."""
    name = f"provision-tests-entry:{RUN}"
    command = [
        sys.executable, "-m", "provision", "image", "build", "-f", "numpy==2.4.6", "--cpu", "x86-64-v2,x86-64-v3",
        "--base", base_image, "--tag", name, "--no-verify", "--yes",
    ]  # fmt: skip
    environment = {**without_pins(os.environ), **engine.environment()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    yield name
    for level in ("v2", "v3"):
        mine.remove_image(f"{name}-{level}", force=True)


@pytest.fixture(scope="module")
def on_cpu(mine: Engine, tag: str, qemu: str) -> Iterator[Started]:
    """on_cpu("Nehalem", "v3", command): the image's own entry point with that command on that CPU."""
    with tempfile.TemporaryDirectory(prefix="provision-tests-entry-") as place:
        roots: dict[str, Path] = {}

        def run(cpu: str, level: str, command: list[str]) -> subprocess.CompletedProcess[str]:
            image = f"{tag}-{level}"
            if level not in roots:
                roots[level] = exported(mine, image, Path(place) / level)
            config = mine.inspect(image)["Config"]
            variables = dict(line.split("=", 1) for line in config["Env"])
            header = "".join(f"\\x{byte:02x}" for byte in (roots[level] / LOADER).read_bytes()[:64])
            return subprocess.run(
                ["unshare", "-Urmpf", "--mount-proc", "sh", "-c", SETUP, "sh", str(roots[level]), qemu, header]
                + config["Entrypoint"] + command,
                capture_output=True, text=True, timeout=300, env={**variables, "QEMU_CPU": cpu},
            )  # fmt: skip

        yield run


def exported(engine: Engine, image: str, root: Path) -> Path:
    """The file system of an image, as a container has it."""
    container = engine.client.api.create_container(image)["Id"]
    try:
        with tempfile.TemporaryFile() as packed:
            for chunk in engine.client.api.export(container):
                packed.write(chunk)
            packed.seek(0)
            with tarfile.open(fileobj=packed) as archive:
                archive.extractall(root, filter="tar")
    finally:
        engine.remove_container(container)
    return root


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Without what QEMU itself says of features that it does not emulate."""
    return [line for line in done.stderr.splitlines() if "warning: TCG doesn't support" not in line]


def test_a_lesser_cpu_is_refused_with_a_sentence_and_78(on_cpu: Started, tag: str) -> None:
    done = on_cpu("Nehalem", "v3", ["python3", "-c", COMPUTE])
    assert done.returncode == 78, done.stderr
    assert done.stdout == ""
    told = said(done)
    assert told[0].startswith("error: this image needs a CPU with ")
    assert told[1] == "  this CPU lacks abm, avx, avx2, bmi1, bmi2, f16c, fma, movbe, xsave"
    assert told[2] == f"  hint: take {tag}-v2 instead"


@pytest.mark.parametrize(("cpu", "level"), [("Nehalem", "v2"), ("Haswell", "v3"), ("max", "v3")])
def test_a_cpu_that_has_the_flags_runs_python_and_the_framework(on_cpu: Started, cpu: str, level: str) -> None:
    done = on_cpu(cpu, level, ["python3", "-c", COMPUTE])
    assert (done.returncode, said(done)) == (0, [])
    assert done.stdout == "2.4.6 729.0\n"


def test_the_oldest_cpu_is_told_that_no_image_of_the_call_fits(on_cpu: Started) -> None:
    done = on_cpu("core2duo", "v2", ["python3", "-c", COMPUTE])
    assert done.returncode == 78, done.stderr
    assert "  hint: no image that was built with this one fits this CPU; one that does:" in said(done)
