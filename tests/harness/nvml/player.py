"""Hosts for NVML: a small text file says what the driver answers, and a library compiled here answers it.

The file, for whatever loads libnvidia-ml.so.1 with ``NvmlPlayer.env`` in its environment (pynvml, ctypes, a program)::

    driver 580.95.05
    nvml 13.580.95.05
    cuda 13000                                  # nvmlSystemGetCudaDriverVersion
    without nvmlDeviceGetMigMode                # a symbol this library does not have, as one of an old driver
    answer nvmlInit 18                          # an nvmlReturn_t instead of an answer; or hang, or crash
    gpu                                         # one section a GPU, in NVML's order
      name NVIDIA H100 80GB HBM3
      uuid GPU-00000000-0000-0000-0000-000000000001
      bus_id 00000000:01:00.0
      device_id 0x233010DE                      # device, then vendor
      subsystem_id 0x16C110DE
      memory_mib 81559 0 478                    # total, used, reserved
      compute_capability 9 0
      mig_mode 1 1                              # now, pending; mig_most 7
      pcie 16 16 5 5 5                          # width, widest; generation, newest with this slot, the card's newest
      power_mw 69850 700000 700000 200000 700000    # now, limit, default, least, most
      throttle 0x1                              # bits of nvmlClocksEventReasons
      persistence 1
      temperature_c 41
      clocks_mhz 345 345 2619 1545              # graphics, SM, memory, video; clocks_max_mhz likewise
      utilization 0 0
      process 1234 500                          # pid and MiB, a line each
      answer nvmlDeviceGetName 15               # this GPU alone; `answer * 15` for everything about it
      mig                                       # one section a MIG device of the GPU above: name, uuid, memory_mib …

A line that is not there is NVML_ERROR_NOT_SUPPORTED. Comments stand on lines of their own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml.c")
HOSTS = Path(__file__).resolve().parents[2] / "hosts"
SONAME = "libnvidia-ml.so.1"
HOST_FILE = "nvml_host"
"""Its name in a folder of tests/hosts."""


class NoCompiler(Exception):
    """There is nothing to build the library with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlPlayer:
    """One host being played."""

    library: Path
    """libnvidia-ml.so.1, to be loaded by this path or found through ``env``."""
    host: Path
    """The file it answers from, read anew at each nvmlInit."""

    @property
    def env(self) -> Mapping[str, str]:
        """What a process needs in its environment to find this NVML."""
        ours = str(self.library.parent)
        theirs = os.environ.get("LD_LIBRARY_PATH")
        return {"LD_LIBRARY_PATH": f"{ours}:{theirs}" if theirs else ours, "NVML_HOST": str(self.host)}


def host_text(host: str | Path) -> str:
    """The text of a host: a name under tests/hosts, a file, or the text itself."""
    if isinstance(host, Path):
        return host.read_text(encoding="utf-8")
    return host if "\n" in host else (HOSTS / host / HOST_FILE).read_text(encoding="utf-8")


def with_answer(text: str, function: str, answer: int | str, *, gpu: int | None = None) -> str:
    """``text`` where ``function`` gives ``answer``: for the whole host, or for the GPU of that index."""
    line = f"answer {function} {answer}\n"
    if gpu is None:
        return line + text
    starts = [match.end() for match in re.finditer(r"^gpu\b.*\n", text, re.MULTILINE)]
    return f"{text[: starts[gpu]]}  {line}{text[starts[gpu] :]}"


def without(text: str) -> frozenset[str]:
    """The symbols that the library of this host lacks."""
    lines = (line.split() for line in text.splitlines())
    return frozenset(name for words in lines if words[:1] == ["without"] for name in words[1:])


def build(folder: Path, missing: frozenset[str]) -> Path:
    """The library without the symbols in ``missing``; built once a folder and set. Raises NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("there is no C compiler to build NVML's player with")
    library = folder / hashlib.sha256(" ".join(sorted(missing)).encode()).hexdigest()[:12] / SONAME
    if not library.exists():
        library.parent.mkdir(parents=True)
        # an exact name in a version script is stronger than the star: dlsym does not find what is local
        script = library.with_name("symbols")
        script.write_text(f"{{ global: nvml*; local: {' '.join(f'{name};' for name in sorted(missing))} *; }};\n")
        command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{SONAME}"]
        command += [f"-Wl,--version-script={script}", "-o", str(library), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError(f"NVML's player does not compile:\n{done.stderr}")
    return library


def player(folder: Path, host: str | Path, *, libraries: Path | None = None) -> NvmlPlayer:
    """Play ``host`` (see ``host_text``), keeping its file in ``folder`` and built libraries in ``libraries``."""
    text = host_text(host)
    library = build(libraries or folder / "nvml-libraries", without(text))
    path = folder / f"nvml_host-{len(list(folder.glob('nvml_host-*')))}"
    path.write_text(text, encoding="utf-8")
    return NvmlPlayer(library=library, host=path)
