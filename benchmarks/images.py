"""What the images must reach: python benchmarks/images.py [ROW …]

Needs a Docker engine (DOCKER_HOST) and a base image in it that has apt and reaches a package index (--base); for rows
of PyTorch a folder with torch's CPU wheel (--find-links). Each row compares with a Dockerfile that anybody would write,
built by the same engine in the same run.

Rows: tensorflow, pytorch (sizes, and the import), rebuild, cold, levels.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import Row, clean_environment, in_turn, median, ratio_of_pairs, say, seconds, show, spread

PROVISION = (sys.executable, "-m", "provision")
PLAIN = {
    "tensorflow": "FROM {base}\nRUN apt-get update && apt-get install -y {apt}python3-pip\n"
    "RUN pip install --break-system-packages tensorflow-cpu=={version}\n",
    "pytorch": "FROM {base}\nRUN apt-get update && apt-get install -y {apt}python3-pip\n"
    "RUN --mount=type=bind,source=wheels,target=/wheels "
    "pip install --break-system-packages --find-links /wheels torch=={version} numpy\n",
}
"""What a tutorial says: nothing cleaned. pip is all that it takes: venv, which many add, makes it larger, and so would
a layer that holds the wheel."""
APT = {"with recommends": "", "without recommends": "--no-install-recommends "}
"""apt's recommends bring a compiler along with pip. The bounds are against the smaller image, and the quicker build."""
STRICT = "without recommends"
IMPORTS = {"tensorflow": "import tensorflow", "pytorch": "import torch"}
BOUNDS = {"tensorflow": (0.62, 0.48), "pytorch": (0.75, 0.52)}
RUNS = 7
NOISE = 1.05
"""Imports of one and the same image differ by more than this from run to run."""


@dataclass(frozen=True)
class Lab:
    base: str
    find_links: Path | None
    versions: dict[str, str]
    docker: str
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return clean_environment(DOCKER_BUILDKIT="1", DOCKER_CONFIG=str(self.folder / "config"))

    def tag(self, name: str) -> str:
        return f"provision-benchmark:{os.getpid()}-{name}"

    def image(self, name: str, framework: str, *options: str, cpu: str = "generic", base: str = "") -> list[str]:
        """The command line of `image build`."""
        argv = [*PROVISION, "image", "build", "--yes", "--json", "--base", base or self.base, "--cpu", cpu]
        argv += ["--tag", self.tag(name), "--framework", f"{framework}=={self.versions[framework]}"]
        if framework == "pytorch" and self.find_links:
            argv += ["--find-links", str(self.find_links)]
        return [*argv, *options]

    def plain(self, framework: str, *options: str, apt: str = STRICT, base: str = "") -> list[str]:
        """`docker build` of the plain Dockerfile."""
        folder = self.folder / framework
        folder.mkdir(exist_ok=True)
        text = PLAIN[framework].format(base=base or self.base, apt=APT[apt], version=self.versions[framework])
        (folder / "Dockerfile").write_text(text)
        if framework == "pytorch" and self.find_links:
            (folder / "wheels").mkdir(exist_ok=True)
            for wheel in self.find_links.glob(f"torch-{self.versions[framework].split('+')[0]}*.whl"):
                shutil.copy(wheel, folder / "wheels")
        return [self.docker, "build", "-q", "-t", self.tag(plain_name(framework, apt)), *options, str(folder)]

    def unlike(self, number: int) -> str:
        """The base with a layer that no other has: no step on it can come from a cache, while uv's cache, a mount that
        `--no-cache` would empty, stays."""
        folder = self.folder / "unlike"
        folder.mkdir(exist_ok=True)
        (folder / "unlike").write_text(f"{os.urandom(8).hex()}\n")
        (folder / "Dockerfile").write_text(f"FROM {self.base}\nCOPY unlike /etc/unlike\n")
        tag = self.tag(f"unlike-{number}")
        seconds([self.docker, "build", "-q", "-t", tag, str(folder)], self.env)
        return tag

    def size(self, name: str) -> int:
        argv = [self.docker, "image", "inspect", "--format", "{{.Size}}", self.tag(name)]
        return int(subprocess.run(argv, env=self.env, capture_output=True, text=True, check=True).stdout)

    def imported(self, name: str, framework: str) -> Callable[[], float]:
        """A fresh container that imports the framework: seconds inside it, as it says itself."""
        code = f"import time; t = time.perf_counter(); {IMPORTS[framework]}; print(time.perf_counter() - t)"
        argv = [self.docker, "run", "--rm", "--network", "none", self.tag(name), "python3", "-c", code]

        def work() -> float:
            done = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=True)
            return float(done.stdout.strip().splitlines()[-1])

        return work


def plain_name(framework: str, apt: str = STRICT) -> str:
    return f"plain-{framework}-{apt.replace(' ', '-')}"


def sizes(lab: Lab, framework: str) -> list[Row]:
    plains = {}
    for apt in APT:
        say(f"{framework}: the plain image, {apt}")
        seconds(lab.plain(framework, apt=apt), lab.env)
        plains[apt] = lab.size(plain_name(framework, apt))
    rows = []
    for name, bound in zip(("default", "minimal"), BOUNDS[framework], strict=True):
        say(f"{framework}: {name}")
        options = ("--minimal",) if name == "minimal" else ()
        seconds(lab.image(f"{framework}-{name}", framework, *options), lab.env)
        ours = lab.size(f"{framework}-{name}")
        against = [f"{ours / plain:.3f}× of {plain / 1e6:,.0f} MB {apt}" for apt, plain in plains.items()]
        measured = f"{ours / 1e6:,.0f} MB: {', '.join(against)}"
        figure = f"{framework} {lab.versions[framework]} image, unpacked, {name}"
        rows.append(Row(figure, measured, f"≤ {bound}×", ours <= bound * plains[STRICT]))
    say(f"{framework}: imports")
    names = (f"{framework}-default", f"{framework}-minimal", plain_name(framework))
    default, minimal, theirs = in_turn(RUNS, *(lab.imported(name, framework) for name in names))
    measured = f"default {spread(default)}, minimal {spread(minimal)}, plain {spread(theirs)}"
    ratios = [ratio_of_pairs(ours, theirs) for ours in (default, minimal)]
    measured += f": {ratios[0]:.2f}× and {ratios[1]:.2f}×"
    met = max(ratios) <= NOISE
    return [*rows, Row(f"`{IMPORTS[framework]}` in a started container", measured, "no slower", met)]


def rebuild(lab: Lab) -> list[Row]:
    """After a change in the user's own files."""
    app = lab.folder / "app"
    app.mkdir(exist_ok=True)
    (app / "main.py").write_text("print(0)\n")
    argv = lab.image("rebuild", "tensorflow", "--copy", str(app))
    seconds(argv, lab.env)
    taken = []
    said = ""
    for number in range(1, 4):
        (app / "main.py").write_text(f"print({number})\n")
        taken.append(seconds(argv, lab.env))
        done = subprocess.run([lab.docker, "run", "--rm", lab.tag("rebuild"), "python3", "app/main.py"], env=lab.env,
                              capture_output=True, text=True, check=True)  # fmt: skip
        said += done.stdout.strip()
    if said != "123":
        raise RuntimeError(f"the image does not have the changed file: {said}")
    # offline: uv may not ask the network for anything, and the engine has no step left that would
    return [Row("rebuild after a change in the user's own last layer", spread(taken), "≤ 5 s", median(taken) <= 5)]


def cold(lab: Lab) -> list[Row]:
    """No layer from a cache, packages in uv's; without the smoke test, which the plain Dockerfile has not. For each
    round a base that was never built on."""
    seconds(lab.image("cold", "tensorflow", "--no-verify"), lab.env)
    bases: list[str] = []

    def ours() -> float:
        bases.append(lab.unlike(len(bases)))
        argv = lab.image("cold", "tensorflow", "--no-verify", base=bases[-1])
        begun = time.perf_counter()
        done = subprocess.run(argv, env=lab.env, capture_output=True, text=True, check=True)
        taken = time.perf_counter() - begun
        steps = re.search(r"Build the environment · ok · (\d+) steps(?:, (\d+) from the cache)?", done.stderr)
        if steps is None or int(steps[2] or 0) > 1:  # the base itself is one
            raise RuntimeError(f"layers came from a cache:\n{done.stderr}")
        return taken

    def theirs(apt: str) -> Callable[[], float]:
        return lambda: seconds(lab.plain("tensorflow", apt=apt, base=bases[-1]), lab.env)

    taken, *plains = in_turn(3, ours, *(theirs(apt) for apt in APT))
    ratios = {apt: ratio_of_pairs(taken, plain) for apt, plain in zip(APT, plains, strict=True)}
    against = [f"{ratios[apt]:.2f}× of {spread(plain)} {apt}" for apt, plain in zip(APT, plains, strict=True)]
    measured = f"{spread(taken)}: {', '.join(against)}"
    return [Row("cold build with a warm package cache", measured, "≤ 1.3×", ratios[STRICT] <= 1.3)]


def levels(lab: Lab) -> list[Row]:
    """All of it, smoke test included. PyTorch's wheel runs on every level."""
    framework = "pytorch" if lab.find_links else "tensorflow"
    cpus = "x86-64-v2,x86-64-v3,x86-64-v4" if framework == "pytorch" else "generic,x86-64-v3,x86-64-v4"
    cache = lab.folder / "cache"

    def run(name: str, cpu: str) -> float:
        shutil.rmtree(cache, ignore_errors=True)  # no proof of an earlier run
        env = {**lab.env, "XDG_CACHE_HOME": str(cache)}
        return seconds(lab.image(name, framework, "--no-cache", cpu=cpu), env)

    three, one = in_turn(2, lambda: run("three", cpus), lambda: run("one", "x86-64-v3"))
    ratio = median([many / single for many, single in zip(three, one, strict=True)])
    measured = f"{ratio:.2f}× ({spread(three)} against {spread(one)}, {framework})"
    return [Row("three levels in one call, against one", measured, "≤ 1.6×", ratio <= 1.6)]


ROWS: dict[str, Callable[[Lab], list[Row]]] = {
    "tensorflow": lambda lab: sizes(lab, "tensorflow"),
    "pytorch": lambda lab: sizes(lab, "pytorch"),
    "rebuild": rebuild,
    "cold": cold,
    "levels": levels,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all where none is named")
    parser.add_argument("--base", default="debian:bookworm")
    parser.add_argument("--find-links", type=Path, help="folder with torch's CPU wheel")
    parser.add_argument("--docker", default="docker", help="the client that builds the plain Dockerfiles")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="provision-benchmark-") as folder:
        versions = {"tensorflow": "2.21.0", "pytorch": "2.13.0"}
        lab = Lab(asked.base, asked.find_links, versions, asked.docker, Path(folder))
        rows: list[Row] = []
        for name in asked.rows or [each for each in ROWS if each != "pytorch" or asked.find_links]:
            rows += ROWS[name](lab)
        show(rows)
        argv = [lab.docker, "image", "ls", "-q", "--filter", f"reference={lab.tag('*')}"]
        left = subprocess.run(argv, env=lab.env, capture_output=True, text=True, check=True).stdout.split()
        subprocess.run([lab.docker, "rmi", "-f", *left], env=lab.env, capture_output=True, check=False)


if __name__ == "__main__":
    main()
