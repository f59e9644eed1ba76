"""What would stop a build after hours is looked at first, all of it, and told at once."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils import provision_build_resources as resources
from ansible.module_utils import provision_build_toolchain as toolchain
from ansible.module_utils.provision_failure import Failure


@dataclass
class Found:
    """What the preflight saw, and what is wrong."""

    jobs: int
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    """Debian's packages that would mend something: one line to install them all."""
    notes: list[str] = field(default_factory=list)

    def add(self, problem: str, hint: str = "") -> None:
        self.problems.append(problem)
        if hint and hint not in self.hints:
            self.hints.append(hint)


def preflight(
    build: Mapping[str, Any],
    settings: Mapping[str, Any],
    build_folder: Path,
    python: Path,
    search: str,
    temporary: Path,
) -> Found:
    """Look at everything that ``build`` needs. ``python`` is the build environment's interpreter, ``search`` the PATH
    that the build gets, ``temporary`` its TMPDIR. Raises Failure (kind "preflight") whose why lists every problem."""
    found = Found(jobs=1)
    memory(build["needs"], settings, found)
    disk(build["needs"], build_folder, temporary, found)
    if build["engine"] == "bazel" and any(one.isspace() for one in str(build_folder)):
        # Bazel 4.2.3: "bazel does not currently work properly from paths containing spaces"
        found.add(f"Bazel cannot work in {build_folder}: there is a space in it", "name another with --build-folder")
    tools(build["needs"], search, found)
    compiler(build, search, found)
    flags(build, toolchain.this_cpu(), found)
    headers(build, python, found)
    if toolchain.glibc_version() is None:
        found.add("this machine has no glibc, which every wheel of these frameworks is linked with")
    if found.problems:
        raise Failure(
            "preflight",
            f"{build['framework']} {build['version']} cannot be built on this machine as it is",
            "\n".join(found.problems),
            hint(found),
        )
    return found


def hint(found: Found) -> str:
    packages = list(dict.fromkeys(found.packages))
    install = [f"apt install {' '.join(packages)}"] if packages else []
    return "; ".join([*install, *found.hints])


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────────


def memory(needs: Mapping[str, Any], settings: Mapping[str, Any], found: Found) -> None:
    """Jobs from memory as well as processors: a compiler that is killed for memory costs the whole build."""
    each = int(settings.get("memory_mib_per_job") or needs["memory_mib_per_job"])
    available, processors = resources.available_mib(), resources.cores()
    found.jobs = resources.jobs_for(processors, available, each)
    if available < each:
        found.add(
            f"memory: {available} MiB are available, and one job needs {each} MiB",
            "close other programs, add memory, or say that a job needs less with --memory-per-job "
            "(provision_memory_mib_per_job)",
        )
    asked = int(settings.get("jobs") or 0)
    if asked > 0:
        if asked * each > available >= each:
            found.notes.append(
                f"{asked} jobs were asked for: at {each} MiB each they may need {asked * each} MiB, "
                f"and {available} MiB are available, enough for {found.jobs}"
            )
        found.jobs = asked


# ── disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def disk(needs: Mapping[str, Any], build_folder: Path, temporary: Path, found: Found) -> None:
    kind = resources.filesystem(build_folder)
    if kind in resources.NETWORK_FILESYSTEMS:
        found.add(
            f"disk: {build_folder} is on a network file system ({kind}), where builds hang or break",
            "name a folder on a local disk with --build-folder",
        )
    if resources.filesystem(temporary) in resources.NETWORK_FILESYSTEMS:
        found.add(f"disk: TMPDIR, {temporary}, is on a network file system", "set TMPDIR to a folder on a local disk")
    wanted, free = int(needs["disk_mib"]), resources.free_mib(build_folder)
    # what an earlier try of the build has written already need not be written again
    there = resources.used_mib(build_folder) if free < wanted else 0
    if free + there < wanted:
        before = f" besides the {there} MiB of earlier builds" if there else ""
        found.add(
            f"disk: {free} MiB are free in {build_folder}{before}, and the build needs {wanted} MiB",
            "free some space, or name a folder on a larger disk with --build-folder",
        )
    together = _device(temporary) == _device(build_folder)
    wanted_there = int(needs["tmp_mib"])
    free_there = resources.free_mib(temporary)
    if free_there < wanted_there and not (together and free + there < wanted):
        found.add(
            f"disk: {free_there} MiB are free in TMPDIR, {temporary}, and the build needs {wanted_there} MiB",
            "free some space, or set TMPDIR to a folder on a larger disk",
        )


def _device(path: Path) -> int:
    return resources.existing(path).stat().st_dev


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def tools(needs: Mapping[str, Any], search: str, found: Found) -> None:
    for tool in needs["tools"]:
        if shutil.which(tool["name"], path=search) is None:
            found.add(f"{tool['name']} is missing: {tool['why']}")
            found.packages.append(tool["package"])


# ── compiler ──────────────────────────────────────────────────────────────────────────────────────────────────────


def compiler(build: Mapping[str, Any], search: str, found: Found) -> None:
    """The planned compiler is there still, and takes every planned option."""
    planned = build["compiler"]
    if planned is None:
        return
    if shutil.which("ld", path=search) is None:
        found.add("ld is missing: nothing can be linked")
        found.packages.append("binutils")
    version = toolchain.version_of(planned["family"], planned["path"])
    if not version:
        found.add(
            f"{toolchain.called(planned)} is what the plan compiles with, and it is not there",
            "plan again, or install it",
        )
        if not planned["version"]:  # nobody has seen one on this machine
            found.packages.append("g++" if planned["family"] == "gcc" else "clang")
        return
    if planned["version"] and version != planned["version"]:  # "": nobody had looked when it was planned
        found.add(
            f"{planned['path']} is version {version} now, and the plan was made for {planned['version']}", "plan again"
        )
        return
    plus = toolchain.companion(planned["path"])
    status, said = compiled(plus, ["-x", "c++"], "#include <vector>\nint main() { return 0; }\n")
    if status != 0:
        found.add(f"{plus} compiles nothing:\n{indented(said)}")
        found.packages.append(Path(plus).name)
        return
    options(planned, version, plus, build["copts"], found)


def options(
    planned: Mapping[str, Any], version: str, plus: str, copts: Sequence[Mapping[str, Any]], found: Found
) -> None:
    """Names the options that the compiler refuses, each with its own words."""
    every = [copt["option"] for copt in copts]
    # Clang only warns of some options that it does not know
    strict = ["-Werror=unused-command-line-argument"] if planned["family"] == "clang" else []
    if not every or compiled(plus, [*strict, *every, "-x", "c++"], "")[0] == 0:
        return
    refused = []
    for copt in copts:
        status, said = compiled(plus, [*strict, copt["option"], "-x", "c++"], "")
        if status != 0:
            refused.append(copt)
            found.add(f"{toolchain.called(planned, version)} does not take {copt['option']}: {first_error(said)}")
    if not refused:
        said = compiled(plus, [*strict, *every, "-x", "c++"], "")[1]
        found.add(f"{toolchain.called(planned, version)} does not take {' '.join(every)} together: {first_error(said)}")
        return
    names = ", ".join(dict.fromkeys(copt["flag"] or copt["option"] for copt in refused))
    found.hints.append(f"take a newer compiler with --compiler, or leave {names} out of --cpu")


def compiled(program: str, arguments: Sequence[str], text: str) -> tuple[int, str]:
    """(status, messages) of compiling ``text`` to an object file that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="provision-") as folder:
        return toolchain.asked([program, *arguments, "-c", "-o", f"{folder}/out.o", "-"], text)


def first_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no reason given")


def indented(text: str, lines: int = 5) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines()[:lines])


def flags(build: Mapping[str, Any], here: frozenset[str], found: Found) -> None:
    """A build for this machine uses nothing that its processor lacks: plans are made from what a host was before."""
    if not build["runs_here"] or not here:
        return
    # on ARM, one option may stand for several flags: "asimddp,fphp"
    used = [(copt["option"], flag) for copt in build["copts"] for flag in copt["flag"].split(",") if flag]
    missing = [(option, flag) for option, flag in used if flag not in here]
    for option, flag in missing:
        found.add(f"this CPU has no {flag}, which {option} lets the compiler use")
    if missing:
        found.hints.append("plan again on this machine, or name the CPU that it is for with --cpu")


# ── headers ───────────────────────────────────────────────────────────────────────────────────────────────────────

HEADER_PACKAGES = {"cblas.h": "libopenblas-dev", "lapacke.h": "liblapacke-dev", "Python.h": "python3-dev"}


def headers(build: Mapping[str, Any], python: Path, found: Found) -> None:
    planned = build["compiler"]
    program = planned["path"] if planned else "cc"
    for header in build["needs"]["headers"]:
        folders = python_includes(python) if header == "Python.h" else []
        status, said = compiled(program, [*(f"-I{one}" for one in folders), "-x", "c"], f"#include <{header}>\n")
        if status == 0:
            continue
        if header == "Python.h":
            found.add(f"Python.h of Python {build['python']} is missing (looked into {', '.join(folders)})")
            found.packages.append(f"python{build['python']}-dev")
        elif re.search(rf"{re.escape(header)}\S* (?:No such file|file not found)|{re.escape(header)}.*not found", said):
            found.add(f"{header} is missing")
            found.packages += [HEADER_PACKAGES[header]] if header in HEADER_PACKAGES else []
        elif shutil.which(program) is None:  # which is said already: what else it will miss comes with it
            found.packages += [HEADER_PACKAGES[header]] if header in HEADER_PACKAGES else []
        else:
            found.add(f"{header} cannot be used: {first_error(said)}")


def python_includes(python: Path) -> list[str]:
    code = "import sysconfig; p = sysconfig.get_paths(); print(p['include']); print(p['platinclude'])"
    status, said = toolchain.asked([str(python), "-I", "-c", code])
    return list(dict.fromkeys(said.splitlines())) if status == 0 else []


def temporary_folder() -> Path:
    """Where the build's programs put what is temporary."""
    return Path(os.environ.get("TMPDIR") or "/tmp")  # noqa: S108  what they do without it
