"""Builds for the tests of playbooks/: a plan's data, a source archive, and the module's work in its own process."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from playbook_target import PLAYBOOKS, PYTHON, Target
from playbook_wheels import wheel

DRIVER = """
import json, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
from pathlib import Path
from ansible.module_utils.provision_build import present
from ansible.module_utils.provision_failure import Failure, Interrupted
from ansible.module_utils.provision_layout import Layout
from ansible.module_utils.provision_process import stoppable
from ansible.module_utils.provision_progress import Progress
layout = Layout(Path(sys.argv[2]))
params = json.loads(sys.argv[3])
try:
    with stoppable(), Progress(layout.runs, params["run_id"], "source_build") as progress:
        result = present(layout, params, progress, False)
    print(json.dumps(result))
except Failure as failure:
    print(json.dumps({"failed": True, **failure.result()}))
except Interrupted as stop:
    print(json.dumps({"failed": True, "kind": "interrupted", "why": str(stop)}))
"""


def archive(place: Path, files: Mapping[str, str | bytes], name: str = "source.tar.gz", folder: str = "source") -> Path:
    """As the controller packs a source: everything below one folder."""
    path = place / name
    with tarfile.open(path, "w:gz") as tar:
        for file, text in files.items():
            data = text.encode() if isinstance(text, str) else text
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size, member.mode, member.mtime = len(data), 0o755, 315619200
            tar.addfile(member, io.BytesIO(data))
    return path


def build(**changes: Any) -> dict[str, Any]:
    """to_data of a Build that is made by a shell script in the tree."""
    needs = {"memory_mib_per_job": 64, "disk_mib": 10, "tmp_mib": 10, "tools": [], "headers": [], "network": False}
    return {
        "framework": "demo", "version": "1.0", "device": "cpu", "engine": "setuptools",
        "source": {"kind": "tree", "location": "/src", "ref": None, "sha256": None, "version": None, "bazel": None},
        "python": PYTHON, "distributions": ["demo", "demo-cpu"], "compiler": None, "cpu": "native", "copts": [],
        "expect": [], "allow": [], "runs_here": True, "environment": {}, "build_requirements": [], "configure": None,
        "bazel": None, "argv": ["sh", "build.sh", "{wheels}"], "config_settings": [],
        "needs": {**needs, **changes.pop("needs", {})}, "blas": None, "shared_tools": False, **changes,
    }  # fmt: skip


class Builds:
    """Calls the module's work on a target with uv in it."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder = target, folder
        self.cache = folder / "build cache"
        folder.mkdir(exist_ok=True)

    def shipped(self, files: Mapping[str, str | bytes]) -> dict[str, Any]:
        """The archive where the role would have put it: the parameters that name it."""
        path = archive(self.folder, files)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        place = self.target.layout.sources / sha256[:16] / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
        return {"archive": str(place.relative_to(self.target.root)), "archive_sha256": sha256}

    def script(self, text: str, name: str = "demo", version: str = "1.0") -> dict[str, Any]:
        """A tree whose build.sh runs ``text`` and then puts a wheel into its first argument."""
        made = wheel(self.folder, name, version, {f"{name}/__init__.py": ""})
        files = {
            "build.sh": f'set -e\n{text}\ncp prebuilt/*.whl "$1"\n',
            f"prebuilt/{made.path.name}": made.path.read_bytes(),
        }
        made.path.unlink()
        return self.shipped(files)

    def params(self, build: Mapping[str, Any], shipped: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
        return {
            "build": build, "archive": "", "archive_sha256": "", "uv_version": "here",
            "uv_environment": settings.pop("uv_environment", {}), "run_id": settings.pop("run_id", "run-1"),
            "controller": "me@laptop", "lock_timeout_s": settings.pop("lock_timeout_s", 30.0),
            "settings": {"build_folder": str(self.cache), **settings}, **shipped,
        }  # fmt: skip

    def start(self, params: Mapping[str, Any]) -> subprocess.Popen[str]:
        """The module's work, marked as a run is."""
        argv = [sys.executable, "-c", DRIVER, str(PLAYBOOKS / "module_utils"), str(self.target.root)]
        environment = {**os.environ, "PROVISION_RUN": str(self.target.root)}
        return subprocess.Popen(
            [*argv, json.dumps(params)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment, start_new_session=True,
        )  # fmt: skip

    def made(self, params: Mapping[str, Any]) -> dict[str, Any]:
        with self.start(params) as process:
            return answer(process)

    @property
    def folders(self) -> list[Path]:
        return sorted(path for path in self.target.layout.builds.iterdir() if path.is_dir())


def answer(process: subprocess.Popen[str], timeout_s: float = 60) -> dict[str, Any]:
    out, err = process.communicate(timeout=timeout_s)
    assert err == "", err
    assert out, process.returncode
    result: dict[str, Any] = json.loads(out)
    return result


def until(done: Callable[[], Any], process: subprocess.Popen[str] | None = None, timeout_s: float = 20) -> None:
    """Wait for ``done``; ``process`` must not end before."""
    deadline = time.monotonic() + timeout_s
    while not done():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
