"""NVIDIA's driver from Debian's own archive, as it is today: what the tables name can be had and goes together, and,
where it is asked for, the whole way from bare to the reboot.

The archive is the one that this machine gets its packages from. The second half downloads some 250 MB and compiles the
driver's true kernel module, which takes four cores three minutes and more: PROVISION_TEST_REAL_DRIVER=1 runs it, once
for each release of ours. There is no GPU: the card, nouveau and the loading of modules are played (harness.gpu_box).
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.boxes import Box
from harness.engine import LABEL, Engine, Unavailable
from harness.fleet import REPOSITORY
from harness.gpu_box import GpuBox
from harness.gpu_box_files import installer_sources
from harness.images import Distribution, Images
from harness.places import RUN

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.network, pytest.mark.slow]

PLAYBOOKS = REPOSITORY / "playbooks"
ANSIBLE_PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
RELEASES = {"bookworm": "12", "trixie": "13"}
ROWS = yaml.safe_load((PLAYBOOKS / "roles/nvidia_driver/vars/Debian.yml").read_text())["__nvidia_driver_sets"]
OWN = [
    (codename, row["id"], branch)
    for row in ROWS
    if row["repository"] == "distribution"
    for codename, release in RELEASES.items()
    if release in row["releases"]
    for branch in row["branches"]
]
KERNEL = """\
apt-get update -q >/dev/null
apt-cache show --no-all-versions linux-headers-$(dpkg --print-architecture) |
  sed -n 's/^Depends: linux-headers-\\([^ ]*\\).*/\\1/p'
"""
ASK = """\
import json, sys
sys.path.insert(0, "/opt/layer")
from ansible.module_utils.provision_driver_packages import exact, pin, wanted
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_packages import manager
asked = json.loads(sys.argv[1])
try:
    want, apt = wanted(asked["params"], asked["kernel"], "x86_64"), manager("apt")
    candidates = apt.candidates([*want.names, *want.headers], components=want.components)
    versions = exact(want, candidates)
    rows = [*versions.items(), *((name, "") for name in want.headers)]
    foreseen = apt.rehearse(rows, components=want.components, lock=pin(want, versions, candidates))
    print(json.dumps({"versions": versions, "new": foreseen.new, "removed": foreseen.removed}))
except Failure as failure:
    print(json.dumps({"failure": failure.result()}))
"""


@pytest.fixture(scope="module")
def bare(engine: Engine) -> Iterator[Callable[[str], Box]]:
    """bare(codename): a container of that release that has nothing but its archive, and the roles' package layer."""
    made: dict[str, Box] = {}
    with ExitStack() as undo:

        def make(codename: str) -> Box:
            if codename not in made:
                made[codename] = _bare(engine, codename, undo)
            return made[codename]

        yield make


def _bare(engine: Engine, codename: str, undo: ExitStack) -> Box:
    try:
        distribution = Distribution.debian(codename)
        tag = Images(engine.client).tag("ssh", codename)
    except Unavailable as reason:
        pytest.skip(str(reason))
    container = engine.client.containers.create(tag, ["sleep", "infinity"], labels={LABEL: RUN})
    undo.callback(container.remove, force=True, v=True)
    container.start()
    box = Box(container=container)
    for path in (PLAYBOOKS / "module_utils").glob("provision_*.py"):
        box.write(f"/opt/layer/ansible/module_utils/{path.name}", path.read_bytes())
    for name in ("ansible", "ansible/module_utils"):
        box.write(f"/opt/layer/{name}/__init__.py", b"")
    path, text = installer_sources(distribution)
    box.sh("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")
    box.write(path, text.encode())
    return box


def asked(box: Box, row: dict[str, Any], branch: str, release: str) -> dict[str, Any]:
    empty = dict.fromkeys(("version", "stream", "lock", "mirror", "key_url", "fingerprint", "next_kernel"), "")
    lists: dict[str, list[str]] = {"packages": [], "headers": [], "components": [], "set_repositories": []}
    named = {"sets": [row], "branch": branch, "release": release, "module": row["module"], "build": row["build"]}
    params = {**empty, **lists, **named, "distribution": "Debian"}
    words = json.dumps({"params": params, "kernel": box.sh(KERNEL).strip()})
    found: dict[str, Any] = json.loads(box.exec(["python3", "-c", ASK, words]).check())
    return found


@pytest.mark.parametrize(("codename", "set_id", "branch"), OWN)
def test_every_set_of_debian_can_be_installed(
    bare: Callable[[str], Box], codename: str, set_id: str, branch: str
) -> None:
    (row,) = (row for row in ROWS if row["id"] == set_id)
    found = asked(bare(codename), row, branch, RELEASES[codename])
    assert "failure" not in found, found["failure"]
    assert set(found["versions"]) == set(row["packages"])
    assert found["removed"] == []
    assert any(name.startswith("linux-headers-") for name in found["new"]), "of the newest kernel"


real = pytest.mark.skipif(
    os.environ.get("PROVISION_TEST_REAL_DRIVER") != "1",
    reason="PROVISION_TEST_REAL_DRIVER=1 downloads and compiles Debian's true NVIDIA driver",
)


def up(box: GpuBox, branch: str, *more: str, code: int) -> dict[str, Any]:
    words = ["-i", str(box.inventory()), "--device", "cuda", "--driver", branch, "--yes", "--json", *more]
    done = box.fleet.provision("up", *words, timeout_s=3600)
    assert done.returncode == code, done.stdout[-4000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@real
@pytest.mark.parametrize(
    ("codename", "card", "branch", "module"),
    [
        ("bookworm", "GeForce GTX 960", "535", "proprietary"),
        ("trixie", "GeForce RTX 2080", "550", "proprietary"),
    ],
)
def test_from_bare_to_the_reboot_and_back(
    gpu_box: Callable[..., GpuBox], codename: str, card: str, branch: str, module: str
) -> None:
    box = gpu_box([card], archive=codename)
    words = ("--driver-module", module)
    first = up(box, branch, *words, code=5)
    assert [failure["kind"] for failure in first["failures"]] == ["reboot_needed"], first["failures"]
    version = first["driver"]["version"]
    assert (version.partition(".")[0], first["driver"]["module"]) == (branch, module)
    on_disk = box.modinfo("nvidia-current" if module == "proprietary" else "nvidia-current-open")
    assert (on_disk["version"], on_disk["vermagic"].split()[0]) == (version, box.kernel)
    assert re.search(rf"^nvidia-current\S*/{re.escape(version)}, {re.escape(box.kernel)}, \w+: installed", box.dkms())
    assert {"nvidia-driver", "libcuda1", f"linux-image-{box.kernel}"} <= set(box.holds())
    assert "blacklist nouveau" in box.initramfs()
    assert box.broken() == []

    again = up(box, branch, *words, code=5)
    assert ([failure["kind"] for failure in again["failures"]], again["changed"]) == (["reboot_needed"], 0)

    box.reboot()
    assert "nouveau" not in box.loaded()
    assert box.driver_version() == version, "played: the module that was built is the one that would be loaded"
    answer = up(box, branch, *words, code=5)
    assert [failure["kind"] for failure in answer["failures"]] == ["no_answer"], "its true nvidia-smi sees no driver"

    assert absent(box) == 0
    left = {name for name in box.installed() if re.search(r"nvidia|libcuda", name)}
    assert left <= {"libnvidia-egl-wayland1"}, "that one belongs to no driver"
    assert box.holds() == []
    assert "blacklist nouveau" not in box.initramfs()
    assert box.dkms() == ""


@real
def test_an_open_module_that_does_not_compile_is_taken_back(gpu_box: Callable[..., GpuBox]) -> None:
    """535.261.03 for 6.1.0-56: where Debian mends that, this belongs to the test above."""
    box = gpu_box(["GeForce RTX 2080"], archive="bookworm")
    said = up(box, "535", "--driver-module", "open", code=5)
    (failure,) = said["failures"]
    assert failure["kind"] == "module_build", failure
    assert "error: too few arguments to function" in failure["why"]
    assert "nothing of it was left behind" in failure["why"]
    assert "nvidia-driver" not in box.installed()
    assert box.broken() == []
    assert "blacklist nouveau" not in box.initramfs()


def absent(box: GpuBox) -> int:
    play = box.fleet.folder / "absent.yml"
    role = {"name": "nvidia_driver"}
    inputs = {"nvidia_driver_state": "absent", "nvidia_driver_machine_root": "{{ provision_machine_root }}"}
    task = {"name": "Absent", "ansible.builtin.include_role": role, "vars": inputs}
    play.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "become": True, "tasks": [task]}]))
    variables = {f"ANSIBLE_{name}": str(PLAYBOOKS / folder) for name, folder in (
        ("ROLES_PATH", "roles"), ("LIBRARY", "library"), ("MODULE_UTILS", "module_utils"),
    )}  # fmt: skip
    done = box.fleet.run([ANSIBLE_PLAYBOOK, "-i", str(box.inventory()), str(play)], timeout_s=1800, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.returncode
