"""A Debian container with package sources of its own, all made in the test, and our package layer in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.boxes import Box
from harness.gpu_packages import Deb, Key, build, publish_flat, publish_suite
from playbook_target import PLAYBOOKS

ASK = """\
import json, sys
sys.path.insert(0, "/opt/layer")
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils import provision_packages, provision_repository
asked = json.loads(sys.argv[1])
try:
    if asked["of"] == "repository":
        found = getattr(provision_repository, asked["method"])(*asked["words"], **asked["named"])
    else:
        heard = []
        manager = provision_packages.manager("apt", lock_wait_s=asked["lock_wait_s"], hear=heard.append)
        found = getattr(manager, asked["method"])(*asked["words"], **asked["named"])
        found = {"said": found, "heard": heard}
    print(json.dumps({"found": found}))
except Failure as failure:
    print(json.dumps({"failure": failure.result()}))
"""
FOLDERS = "/etc /var/lib/apt /var/lib/dpkg /var/cache/apt /usr/share/keyrings"


class Refused(Exception):
    """What the layer raised, as its reader gets it."""

    def __init__(self, failure: Mapping[str, str]) -> None:
        super().__init__(failure["msg"])
        self.kind, self.what, self.why, self.hint = (failure[name] for name in ("kind", "what", "why", "hint"))


class AptBox:
    """``debian``: what the distribution's archive has; ``nvidia``: what the other repository has."""

    def __init__(self, box: Box, folder: Path, key: Key, other: Key) -> None:
        self.box, self.key, self.other = box, key, other
        self._folder, self._made = folder, 0
        self.debian: list[Deb] = []
        self.nvidia: list[Deb] = []
        self.repository: dict[str, Any] = {
            "id": "cuda-debian12-x86_64",
            "manager": "apt",
            "url": "file:///repo/nvidia",
            "suite": "/",
            "components": [],
            "key_url": "file:///repo/key.pub",
            "fingerprint": other.fingerprint,
        }
        for path in (PLAYBOOKS / "module_utils").glob("provision_*.py"):
            box.write(f"/opt/layer/ansible/module_utils/{path.name}", path.read_bytes())
        for name in ("ansible", "ansible/module_utils"):
            box.write(f"/opt/layer/{name}/__init__.py", b"")
        box.write("/opt/ask.py", ASK.encode())
        box.sh("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* /var/lib/apt/lists/*")
        box.write("/usr/share/keyrings/made.gpg", key.binary)
        box.write(
            "/etc/apt/sources.list", b"deb [signed-by=/usr/share/keyrings/made.gpg] file:///repo/debian bookworm main\n"
        )

    def publish(self, debian: Sequence[Deb] = (), nvidia: Sequence[Deb] = ()) -> None:
        """Both repositories hold these, signed, and the box sees them."""
        self._made += 1
        folder = self._folder / f"published-{self._made}"
        folder.mkdir()
        (folder / "debs").mkdir()
        debs = [(deb.component, build(deb, folder / "debs")) for deb in debian]
        publish_suite(folder / "repo" / "debian", debs, self.key, codename="bookworm", version="12")
        paths = [build(deb, folder / "debs") for deb in nvidia]
        publish_flat(folder / "repo" / "nvidia", paths, self.other, origin="NVIDIA")
        (folder / "repo" / "key.pub").write_bytes(self.other.armored)
        self.box.sh("rm -rf /repo")
        self.box.copy(folder / "repo", "/repo")

    def ask(self, method: str, *words: Any, lock_wait_s: float = 30.0, **named: Any) -> Any:
        """A method of the manager. Raises Refused."""
        asked = {"of": "manager", "method": method, "words": words, "named": named, "lock_wait_s": lock_wait_s}
        answer = self._answer(asked)
        self.heard: list[str] = answer["heard"]
        return answer["said"]

    def repo(self, method: str, *words: Any, **named: Any) -> Any:
        """A function of provision_repository. Raises Refused."""
        return self._answer({"of": "repository", "method": method, "words": words, "named": named})

    def _answer(self, asked: Mapping[str, Any]) -> Any:
        answer = json.loads(self.box.exec(["python3", "/opt/ask.py", json.dumps(asked)]).check())
        if "failure" in answer:
            raise Refused(answer["failure"])
        return answer["found"]

    def state(self) -> list[str]:
        """Every file that packages and their configuration are made of, with its sum."""
        listed = self.box.sh(f"find {FOLDERS} -type f -exec sha256sum {{}} + | sort -k2; find {FOLDERS} | sort")
        return listed.splitlines()

    def installed(self) -> dict[str, str]:
        said = self.box.sh("dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n' 'demo*' || true")
        rows = [line.split() for line in said.splitlines()]
        return {name: version for state, name, version in rows if state.startswith(("ii", "hi"))}


def demo(version: str = "1.0", name: str = "demo", **more: Any) -> Deb:
    """A tiny package."""
    files = more.pop("files", {f"/usr/share/{name}/version": f"{version}\n".encode()})
    return Deb(name=name, version=f"{version}-1", files=files, **more)
