"""A small C++ workspace that Bazel builds without a network in seconds, and the context that an engine builds it in."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import provision_build_toolchain as toolchain
from ansible.module_utils.provision_build_context import Context, clean_environment
from harness.trees import TREES

BAZEL = "/usr/bin/bazel-4"
"""Debian's bazel-bootstrap 4.2.3, which says no number; /usr/bin/bazel is a wrapper around it."""
FILES = {
    "WORKSPACE": """workspace(name = "small")
local_repository(name = "rules_cc", path = "third_party/rules_cc")
local_repository(name = "rules_java", path = "third_party/rules_java")
""",
    ".bazelrc": "build --announce_rc\nbuild --experimental_repository_disable_download\n",
    "src/BUILD": """cc_library(name = "a", srcs = ["a.cc"], hdrs = ["a.h"])
cc_library(name = "b", srcs = ["b.cc"], deps = [":a"])
cc_binary(name = "app", srcs = ["main.cc"], deps = [":a", ":b"])
genrule(name = "wheel", srcs = [":app"], outs = ["demo-1.0-py3-none-any.whl"], cmd = "cp $< $@")
cc_library(name = "broken", srcs = ["broken.cc"])
genrule(name = "slow", srcs = [":app"], outs = ["slow.whl"], cmd = "sleep 60; touch $@")
""",
    "src/a.h": "int a(int);\n",
    "src/a.cc": '#include "src/a.h"\nint a(int x) { return x + 1; }\n',
    "src/b.cc": '#include "src/a.h"\nint b(int x) { return a(x) * 2; }\n',
    "src/main.cc": "int b(int);\nint main() { return b(1) == 4 ? 0 : 1; }\n",
    "src/broken.cc": '#include "nowhere.h"\nint f() { return 1; }\n',
    "third_party/BUILD": "",
    "BUILD": "",
}
COMPILES = 3
ACTIONS = 5
"""Commands of //src:wheel: three compiles, one link, one genrule."""


def needs_bazel() -> None:
    """Skip where Debian's Bazel is missing, but not in CI, which installs it."""
    if not Path(BAZEL).exists():
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop("bazel-bootstrap is not installed (Debian: bazel-bootstrap bazel-rules-java)")


def workspace(folder: Path, files: Mapping[str, str] | None = None, strategy: str = "standalone") -> Path:
    """The workspace in ``folder``, with ``files`` over its own. TensorFlow's .bazelrc says standalone."""
    for name in ("rules_cc", "rules_java"):
        shutil.copytree(TREES / "tensorflow" / "third_party" / name, folder / "third_party" / name)
    for name, text in {**FILES, **(files or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with (folder / ".bazelrc").open("a", encoding="utf-8") as file:
        file.write(f"build --spawn_strategy={strategy}\n")
    return folder


def build_data(**changes: Any) -> dict[str, Any]:
    """to_data of a Build of that workspace."""
    return {
        "framework": "demo", "version": "1.0", "engine": "bazel", "compiler": compiler("/usr/bin/gcc-12"),
        "copts": [], "environment": {}, "configure": None,
        "needs": {"memory_mib_per_job": 256, "disk_mib": 10, "tmp_mib": 10, "tools": []},
        "bazel": {"version": None, "options": ["-c", "opt"], "target": "//src:wheel", "wheel_argv": [],
                  "wheel_folder": "{wheels}"},
        **changes,
    }  # fmt: skip


def compiler(path: str, family: str = "gcc") -> dict[str, str]:
    return {"family": family, "version": "", "path": path}


class Said:
    """Hears the progress."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.builds: list[Mapping[str, Any]] = []

    def __call__(self, text: str, build: Mapping[str, Any] | None = None) -> None:
        self.texts.append(text)
        if build is not None:
            self.builds.append(build)


def context(box: Path, tree: Path, build: dict[str, Any] | None = None, **settings: Any) -> Context:
    """What the flow gives an engine on a box whose folders are below ``box``."""
    made = build or build_data()
    folders = {name: box / name for name in ("folder", "build", "scratch", "wheels")}
    shutil.rmtree(folders["wheels"], ignore_errors=True)
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    environment = clean_environment(os.environ)
    environment.update(HOME=str(box), PATH="/usr/bin:/bin")
    if made["compiler"]:
        environment.update(CC=made["compiler"]["path"], CXX=toolchain.companion(made["compiler"]["path"]))
    environment.update(made["environment"])
    silo = toolchain.silo(toolchain.identity(made["compiler"]), [copt["option"] for copt in made["copts"]])
    values = {
        "python": sys.executable, "site": str(box / "site"), "tree": str(tree), "wheels": str(folders["wheels"]),
        "jobs": "2",
    }  # fmt: skip
    return Context(
        build=made, settings={"bazel": BAZEL, **settings}, key="k", silo=silo, folder=folders["folder"],
        build_folder=folders["build"], scratch=folders["scratch"], tree=tree, wheels=folders["wheels"],
        python=Path("/usr/bin/python3"), site=box / "site", jobs=2, environment=environment, uv=Path("uv"),
        uv_environment={}, report=Said(), values=values,
    )  # fmt: skip
