"""This machine's readings: the same script as on any other host, and NVML where a driver is there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from provision.detect.framed import is_complete, split
from provision.errors import HostError
from provision.model.readings import Readings
from provision.run.command import run
from provision.run.nvml import is_silent, is_whole, nvml_reading

SCRIPTS = tuple(Path(__file__).with_name(name) for name in ("probe_nvidia.sh", "probe.sh"))
NO_SMI = "no-nvidia-smi"
TIMEOUT_S = 120.0
"""nvidia-smi alone may take half a minute on a box with many GPUs and no persistence daemon."""


def probe_script() -> str:
    """One script: given to `sh -s BOUNDARY` on its standard input, here or over SSH."""
    return "".join(script.read_text(encoding="utf-8") for script in SCRIPTS)


def probe_command(boundary: str, *, nvidia_smi: bool = True) -> str:
    """The remote command line that reads the script from standard input. ``boundary`` is ``new_boundary()``."""
    return f"sh -s -- {boundary}" + ("" if nvidia_smi else f" {NO_SMI}")


def new_boundary() -> str:
    """Letters and digits, safe in a shell, that nothing on the host can foresee."""
    return f"provision-{os.urandom(16).hex()}"


def readings_of(stdout: str, boundary: str, *, host: str) -> Readings:
    """The readings in the probe's output. Raises HostError where it did not reach its end."""
    if not is_complete(stdout, boundary):
        raise HostError(
            what=f"{host}: the probe did not finish",
            why="its output stops before the last reading" if boundary in stdout else "it printed no reading at all",
            hint="run `sh -c true` on that host: it needs a POSIX shell, and a login that prints nothing but text",
        )
    return split(stdout, boundary)


def local_readings() -> Readings:
    """Every reading of this machine. Raises HostError where there is no POSIX shell."""
    nvml = nvml_reading()
    boundary = new_boundary()
    arguments = [boundary, NO_SMI] if is_whole(nvml) or is_silent(nvml) else [boundary]
    loading = threading.Thread(target=_load_parsers, daemon=True)
    loading.start()
    done = run(["sh", "-s", "--", *arguments], stdin=probe_script(), timeout_s=TIMEOUT_S)
    loading.join()
    if done.status == 127:
        raise HostError(what="there is no `sh` on this machine", why=done.stderr, hint="install a POSIX shell")
    files = dict(readings_of(done.stdout, boundary, host="localhost").files)
    if nvml is not None:
        files["nvml.json"] = nvml
    if not {"proc_cpuinfo", "sysctl"} & files.keys():
        files.update(_cpuinfo_package())
    return Readings(files)


def _load_parsers() -> None:
    """What every caller needs next, imported while the script runs: 45 ms that would otherwise come on top of it."""
    from importlib import import_module

    import_module("archspec.cpu")
    import_module("provision.detect.host")
    import_module("provision.catalog.load").chips()


def _cpuinfo_package() -> dict[str, str]:
    """The CPU through py-cpuinfo, in the form of /proc/cpuinfo: BSD and the like have neither file nor sysctl keys."""
    import cpuinfo  # starts processes of its own: only where nothing else reads the CPU

    from provision.detect.sysctl import kernel_flags

    found = cpuinfo.get_cpu_info()
    keys = (
        ("vendor_id", "vendor_id_raw"), ("cpu family", "family"), ("model", "model"), ("model name", "brand_raw"),
        ("stepping", "stepping"),
    )  # fmt: skip
    lines = [f"{key}\t: {found[name]}" for key, name in keys if found.get(name) not in (None, "")]
    if found.get("flags"):
        # py-cpuinfo adds names of its own (sha, rdrnd, avx512vnni) to those of the system
        lines.append("flags\t\t: " + " ".join(kernel_flags(found["flags"])))
    return {"proc_cpuinfo": "\n".join(lines) + "\n", "nproc": f"{found.get('count', '')}\n"} if lines else {}
