"""What lies around the driver: environment variables, Docker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from provision.detect.doctor.look import Look, Rule
from provision.detect.doctor.shown import Shown


def _library_path(look: Look) -> Iterator[Shown]:
    value = look.nvidia.environment.get("LD_LIBRARY_PATH") or _variable(look, "LD_LIBRARY_PATH")
    if "cuda" in value.lower():
        yield Shown(id="library-path", evidence=f"LD_LIBRARY_PATH={value}", where="environment")


def _hidden(look: Look) -> Iterator[Shown]:
    value = look.nvidia.environment.get("CUDA_VISIBLE_DEVICES") or _variable(look, "CUDA_VISIBLE_DEVICES")
    if value.strip() == "-1" and look.facts.gpus:
        yield Shown(id="gpus-hidden", evidence=f"CUDA_VISIBLE_DEVICES={value}", where="environment")


def _blas(look: Look) -> Iterator[Shown]:
    """Found by detection, which knows what each of OpenBLAS's kernels needs."""
    found = next((each for each in look.facts.findings if each.id == "blas_pinned" and each.severity == "error"), None)
    if found is not None:
        yield Shown(id="blas-pinned", evidence=f"{found.what}; {found.why}", where="environment")


FINDINGS: Mapping[str, str] = {"masked_flags": "masked-flags", "not_glibc": "musl"}
"""What detection finds of CPU and system that stops frameworks, and doctor's row for it."""


def _cpu(look: Look) -> Iterator[Shown]:
    for found in look.facts.findings:
        if found.id in FINDINGS:
            yield Shown(id=FINDINGS[found.id], evidence=found.why, where="/proc/cpuinfo and the C library")
    cpu = look.facts.cpu
    if cpu.arch == "x86_64" and cpu.flags and cpu.level in (None, "x86-64-v1"):
        evidence = f"{cpu.model_name or 'this CPU'}: level {cpu.level or 'below x86-64-v1'}"
        yield Shown(id="cpu-below-numpy", evidence=evidence, where="/proc/cpuinfo")


def _variable(look: Look, name: str) -> str:
    lines = (look.readings.text("user_environment") or "").splitlines()
    return next((line.partition("=")[2] for line in lines if line.startswith(f"{name}=")), "")


def _docker(look: Look) -> Iterator[Shown]:
    version, docker = look.nvidia.container_toolkit, look.nvidia.docker
    if version is not None and docker in ("plain", "snap"):
        which = "snap's Docker" if docker == "snap" else "no runtime nvidia in Docker's configuration"
        yield Shown(id="docker-not-configured", evidence=f"nvidia-ctk {version}; {which}", where="/etc/docker")
    elif version is None and docker in ("plain", "snap") and look.works:
        yield Shown(id="container-toolkit-missing", evidence="docker is there, nvidia-ctk is not", where="PATH")


SYSTEM_RULES: tuple[Rule, ...] = (_library_path, _hidden, _blas, _cpu, _docker)
