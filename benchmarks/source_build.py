"""Source builds, measured: `python benchmarks/source_build.py [ROW ...] [--data DIR]` prints a Markdown table.

Run by hand on an x86-64 machine with Debian's bazel-bootstrap, bazel-rules-java, libeigen3-dev, gcc-12, clang-16,
nginx with its WebDAV module and libopenblas-dev. Every build goes through `provision up`. A "box" here is a home of its
own on this machine: its own environments, build folder and disk cache. The tree is tests/trees/tensorflow, which has
TensorFlow's shape; `--data` is a folder with MNIST's four IDX files (without it the digits are generated).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from harness.caches_http import cache_server  # noqa: E402
from harness.trees import tensorflow_tree  # noqa: E402
from measure import Row, clean_environment, in_turn, say, show  # noqa: E402

PROVISION = [sys.executable, "-m", "provision"]
VERSION = "2.15.1"
BAZEL = "/usr/bin/bazel-4"
PAIRS = 5
DATA: list[str] = []
"""Arguments for the smoke workload: --data DIR where it was given."""


class Box:
    """A machine as a build sees it: a home."""

    def __init__(self, folder: Path, name: str) -> None:
        self.home = folder / name
        self.home.mkdir()
        own = {"HOME": str(self.home), "XDG_DATA_HOME": f"{self.home}/data", "XDG_CACHE_HOME": f"{self.home}/cache"}
        uv_cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
        self.env = clean_environment(PYTHONPATH=str(ROOT), UV_CACHE_DIR=uv_cache, **own)

    def words(self, tree: Path, *more: str, name: str = "default") -> list[str]:
        return [
            *PROVISION, "up", "--framework", f"tensorflow=={VERSION}", "--origin", "source", "--source", str(tree),
            "--bazel", BAZEL, "--python", "3.11", "--keep", "build", "--no-verify", "--name", name, "--yes", "--json",
            *more,
        ]  # fmt: skip

    def build(self, tree: Path, *more: str, name: str = "default", **env: str) -> dict[str, Any]:
        """`provision up` with a source build; the report's build."""
        words = self.words(tree, *more, name=name)
        done = subprocess.run(words, env={**self.env, **env}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)["builds"][0]
        return found

    def environment(self, name: str = "default") -> Path:
        return self.home / "data" / "provision" / "envs" / name / "current"

    def samples_per_s(self, name: str) -> float:
        """The smoke workload once, in one of its environments."""
        python = self.environment(name) / "venv" / "bin" / "python"
        script = [str(ROOT / "checks" / "mnist.py"), "--framework", "tensorflow", "--device", "cpu", *DATA]
        done = subprocess.run([str(python), *script], env=self.env, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout)["data"]["samples_per_s"])


def fresh_box_builds(folder: Path, tree: Path, options: Sequence[str], login: Mapping[str, str]) -> dict[str, Any]:
    """A build on a box that has nothing. All have their home at one path, as the boxes of a lab do: it is in the keys
    of the actions, since configure writes the interpreter's path."""
    box = Box(folder, "home")
    try:
        return box.build(tree, *options, **login)
    finally:
        shutil.rmtree(box.home, ignore_errors=True)


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="provision-bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def matched() -> list[Row]:
    """The same tree with this CPU's flags, with x86-64-v3's, and with none: samples/s in turn."""
    with place() as folder:
        tree, box = tensorflow_tree(folder / "tree", VERSION), Box(folder, "box")
        for name, cpu in (("native", "native"), ("v3", "x86-64-v3"), ("generic", "generic")):
            box.build(tree, "--cpu", cpu, name=name)
        rates: dict[str, list[float]] = {name: [] for name in ("native", "v3", "generic")}
        for _ in range(PAIRS):
            for name, found in rates.items():
                found.append(box.samples_per_s(name))
    bounds = {"native": (3.1, "all flags of this CPU"), "v3": (2.2, "x86-64-v3")}
    rows = []
    for name, (bound, what) in bounds.items():
        ratios = [one / other for one, other in zip(rates[name], rates["generic"], strict=True)]
        middle = statistics.median(ratios)
        rows.append(
            Row(
                f"build with {what} against the generic build, samples/s",
                f"{middle:.2f}× ({min(ratios):.2f}–{max(ratios):.2f}; {statistics.median(rates[name]):,.0f} against "
                f"{statistics.median(rates['generic']):,.0f})",
                f"≥ {bound}×",
                middle >= bound,
            )
        )
    return rows


def shared_cache() -> list[Row]:
    """A second box with the first one's remote cache; then other flags and another compiler against the same cache."""
    with place() as folder, cache_server(folder / "cache") as server:
        tree = tensorflow_tree(folder / "tree", VERSION)
        login = {
            "PROVISION_REMOTE_CACHE_USER": server.writer.name,
            "PROVISION_REMOTE_CACHE_PASSWORD": server.writer.password,
        }

        def built(cpu: str, compiler: str, jobs: int) -> dict[str, Any]:
            options = ("--cpu", cpu, "--compiler", compiler, "--jobs", str(jobs), "--remote-cache", server.url)
            return fresh_box_builds(folder, tree, options, login)

        first, second = built("x86-64-v3", "gcc-12", 2), built("x86-64-v3", "gcc-12", 2)
        flags, other = built("x86-64-v2", "gcc-12", 4), built("x86-64-v3", "clang-16", 4)
        again = built("x86-64-v2", "gcc-12", 4)
    share, quick = second["seconds"] / first["seconds"], again["seconds"] / flags["seconds"]
    compiled = first["compile_actions"]
    rebuilt = (flags["compile_actions"], other["compile_actions"])
    return [
        Row(
            "second box with the shared cache, same flags, 2 jobs",
            f"{second['compile_actions']} compile actions ({compiled} on the first), {share:.0%} of its time "
            f"({second['seconds']:.1f} s against {first['seconds']:.1f} s)",
            "0 compile actions, ≤ 15 %",
            second["compile_actions"] == 0 and share <= 0.15,
            f"with 4 jobs {quick:.0%} ({again['seconds']:.1f} s against {flags['seconds']:.1f} s)",
        ),
        Row(
            "other flags, and another compiler, against the same cache",
            f"{rebuilt[0]} and {rebuilt[1]} of {compiled} compile actions run",
            "all of them",
            rebuilt == (compiled, compiled),
        ),
    ]


def killed() -> list[Row]:
    """A build stopped when half of its actions are done, and started again."""
    with place() as folder:
        tree = tensorflow_tree(folder / "tree", VERSION)
        options = ("--cpu", "x86-64-v3")
        whole = Box(folder, "whole").build(tree, *options)["compile_actions"]
        box = Box(folder, "killed")
        process = subprocess.Popen(
            box.words(tree, *options), env=box.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        done = _until_half(box, process)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        again = box.build(tree, *options)["compile_actions"]
    share = again / whole
    return [
        Row(
            f"a build stopped after {done} actions, started again", f"{again} of {whole} compile actions ({share:.0%})",
            "≤ 60 %", share <= 0.6,
        )
    ]  # fmt: skip


def _until_half(box: Box, process: subprocess.Popen[bytes]) -> str:
    """Waits for "[41 / 82]" in the build's log; what it said then."""
    while process.poll() is None:
        for log in box.home.glob("data/provision/builds/*/log.txt"):
            found = re.findall(r"\[([\d,]+) / ([\d,]+)\]", log.read_text(errors="replace"))
            if found:
                done, total = (int(text.replace(",", "")) for text in found[-1])
                if total > 30 and done >= total / 2:
                    return f"{done} of {total}"
        time.sleep(0.05)
    raise RuntimeError("the build ended before it was half done")


def overhead() -> list[Row]:
    """The product around `bazel build`: both warm, the same command line, each in a tree of its own, in turn."""
    with place() as folder:
        tree, box = tensorflow_tree(folder / "tree", VERSION), Box(folder, "box")
        box.build(tree)
        (log,) = box.home.glob("data/provision/builds/*/log.txt")
        line = next(line for line in log.read_text().splitlines() if line.startswith("$ ") and " build " in line)
        by_hand = re.sub(r"--output_user_root=\S+", f"--output_user_root={folder}/hand-root", line[2:])
        (workspace,) = (path for path in box.home.glob("cache/provision/build/trees/[!.]*") if path.is_dir())
        own = shutil.copytree(workspace, folder / "hand", symlinks=True)

        def hand() -> float:
            begun = time.perf_counter()
            subprocess.run(["sh", "-c", by_hand], cwd=own, env=box.env, capture_output=True, check=True)
            taken = time.perf_counter() - begun
            stop = re.sub(r" build .*", " shutdown", by_hand)  # the product's server ends with its build, too
            subprocess.run(["sh", "-c", stop], cwd=own, env=box.env, capture_output=True, check=True)
            return taken

        hand()
        ours, theirs = in_turn(3, lambda: _again(box, tree), hand)
    extra = statistics.median(one - other for one, other in zip(ours, theirs, strict=True))
    return [
        Row(
            "the product around a warm `bazel build`",
            f"{extra:.1f} s ({statistics.median(ours):.1f} s against {statistics.median(theirs):.1f} s)",
            "≤ 10 s",
            extra <= 10,
        )
    ]


def _again(box: Box, tree: Path) -> float:
    """Seconds of a whole `provision up --until build` whose wheel is gone, while Bazel's own work is still there."""
    for record in box.home.glob("data/provision/builds/*/build.json"):
        record.unlink()
    begun = time.perf_counter()
    words = box.words(tree, "--until", "build", name="again")
    subprocess.run(words, env=box.env, capture_output=True, check=True)
    return time.perf_counter() - begun


def numpy() -> list[Row]:
    """NumPy's source distribution with this CPU's flags against the stock wheel: `up` decides, `bench` measures."""
    with place() as folder:
        box = Box(folder, "box")
        words = [*PROVISION, "up", "--framework", "numpy==2.3.5", "--python", "3.11", "--yes", "--json"]
        source = [*words, "--origin", "source", "--blas", "openblas", "--name", "source"]
        decided = _json(source, box.env)["comparisons"][0]
        _json([*words, "--no-verify", "--name", "wheel"], box.env)
        _json([*source, "--keep", "build", "--name", "built", "--no-verify"], box.env)
        bench = [*PROVISION, "bench", "matmul", "--name", "built", "--against", "wheel", "--json"]
        products = _json(bench, box.env)
    return [
        Row(
            "NumPy from source (distribution's OpenBLAS), MNIST perceptron, against the stock wheel",
            f"{decided['ratio']:.2f}× ({decided['lowest']:.2f}–{decided['highest']:.2f}); kept: {decided['kept']}",
            "never kept when slower", decided["kept"] == ("build" if decided["ratio"] > 1 else "wheel"),
            json.dumps(products)[:600],
        )
    ]  # fmt: skip


def _json(words: Sequence[str], env: Mapping[str, str]) -> Any:
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout)


ROWS: dict[str, Callable[[], list[Row]]] = {
    "matched": matched,
    "shared-cache": shared_cache,
    "killed": killed,
    "overhead": overhead,
    "numpy": numpy,
}


def main(words: Sequence[str]) -> None:
    names = list(words)
    if "--data" in names:
        at = names.index("--data")
        DATA[:] = names[at : at + 2]
        del names[at : at + 2]
    rows = []
    for name in names or tuple(ROWS):
        say(f"measuring: {name}")
        rows += ROWS[name]()
        say("\n".join(f"  {row.figure}: {row.measured}" for row in rows[-2:]))
    show(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
