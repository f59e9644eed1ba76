"""Carries NVIDIA's part of a plan out on a GpuBox, in a process of its own: one that a test can kill.

    python -m harness.gpu_box_play REQUEST.json

REQUEST: {"inventory", "host": model Host, "setup": model NvidiaSetup}. Prints one JSON document: {"ready", "changed",
"steps", "failures", "driver"}. Ctrl-C stops it as it stops `provision up`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.fleet import REPOSITORY
from harness.gpu_box import GpuBox
from harness.gpu_packages_nvidia import KERNEL
from provision.model.data import from_data, to_data
from provision.model.host import Host
from provision.model.plan import Plan
from provision.model.report import Report
from provision.model.request import Request
from provision.model.setup import DriverSetup, NvidiaSetup, PackageSetup, Repository, SetupPackage
from provision.run.execute import Options, Target
from provision.run.nvidia import set_up
from provision.run.ssh import ControlDir

REPOSITORY_ID = "cuda-debian12-x86_64"
NVIDIA = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"
"""The mirror of the test stands for it: that variables of the inventory replace it is part of what is tested."""
KEY = "EB693B3035CD5710E231E123A4B469963BF863CC"
TOOLKIT_ID = "libnvidia-container-debian12-amd64"
TOOLKIT = "https://nvidia.github.io/libnvidia-container"
TOOLKIT_KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
TOOLKIT_PACKAGES = (
    "nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1",
)  # fmt: skip
KERNEL_PACKAGES = {"proprietary": "nvidia-kernel-dkms", "open": "nvidia-kernel-open-dkms"}
PLAY_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What the run said of its only host."""

    ready: bool
    """The driver is there and confirmed, or nothing was left to do."""
    changed: int
    failures: tuple[dict[str, Any], ...]
    driver: dict[str, Any] | None
    steps: tuple[dict[str, Any], ...]
    stderr: str = field(repr=False)

    @property
    def reboot_asked(self) -> bool:
        return [failure["kind"] for failure in self.failures] == ["reboot_needed"]

    @property
    def told(self) -> str:
        """Everything that the user reads of the failures."""
        return "\n".join(str(failure[name]) for failure in self.failures for name in ("what", "why", "hint"))


def driver_setup(
    *,
    action: Literal["install", "upgrade", "confirm"] = "install",
    branch: str = "580",
    module: Literal["open", "proprietary"] = "proprietary",
    secure_boot: bool = False,
) -> NvidiaSetup:
    """As the plan for Debian 12 from NVIDIA's repository has it."""
    names = (KERNEL_PACKAGES[module], "nvidia-driver-cuda", "nvidia-persistenced")
    packages = tuple(SetupPackage(name=name, repository=REPOSITORY_ID, version=f"{branch}.") for name in names)
    driver = DriverSetup(
        action=action, branch=branch, version=None, module=module, build="dkms", packages=packages,
        headers=(f"linux-headers-{KERNEL}", "dkms", "gcc", "make"), lock=f"{branch}.*", secure_boot=secure_boot,
    )  # fmt: skip
    repository = Repository(
        id=REPOSITORY_ID, manager="apt", url=NVIDIA, key_url=f"{NVIDIA}/3bf863cc.pub", fingerprint=KEY
    )
    return NvidiaSetup(
        manager="apt", distribution="debian 12", repositories=(repository,), driver=driver, persistenced=True
    )


def whole_setup() -> NvidiaSetup:
    """Driver, CUDA toolkit, cuDNN and container toolkit, as the plan for Debian 12 has them."""
    toolkit = Repository(
        id=TOOLKIT_ID, manager="apt", url=f"{TOOLKIT}/stable/deb/amd64", key_url=f"{TOOLKIT}/gpgkey",
        fingerprint=TOOLKIT_KEY,
    )  # fmt: skip
    driver = driver_setup()
    return replace(
        driver,
        repositories=(*driver.repositories, toolkit),
        cuda_toolkit=PackageSetup(version="12.6", packages=_packages(REPOSITORY_ID, "cuda-toolkit-12-6")),
        cudnn=PackageSetup(version="9", packages=_packages(REPOSITORY_ID, "cudnn9-cuda-12")),
        container_toolkit=PackageSetup(version="any", packages=_packages(TOOLKIT_ID, *TOOLKIT_PACKAGES)),
    )


def _packages(repository: str, *names: str) -> tuple[SetupPackage, ...]:
    return tuple(SetupPackage(name=name, repository=repository) for name in names)


@contextmanager
def started(box: GpuBox, setup: NvidiaSetup) -> Iterator[subprocess.Popen[str]]:
    """The run, while it runs; ended with the block. Its answer: ``answer(process)``."""
    request = box.fleet.folder / f"request-{box.name}.json"
    request.write_text(json.dumps(_request(box, setup)))
    environment = box.fleet.environment(PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests'}")
    with subprocess.Popen(
        [sys.executable, "-m", "harness.gpu_box_play", str(request)], env=environment, cwd=box.fleet.home,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=60)


def answer(process: subprocess.Popen[str]) -> Played:
    stdout, stderr = process.communicate(timeout=PLAY_S)
    assert process.returncode == 0, stderr
    data = json.loads(stdout)
    lists = {name: tuple(data[name]) for name in ("failures", "steps")}
    return Played(ready=data["ready"], changed=data["changed"], driver=data["driver"], stderr=stderr, **lists)


def play(box: GpuBox, setup: NvidiaSetup | None = None) -> Played:
    """One whole run."""
    with started(box, setup or driver_setup()) as process:
        return answer(process)


def _request(box: GpuBox, setup: NvidiaSetup) -> dict[str, Any]:
    host = Host(
        name=box.name, connection="ssh", address=box.address, port=box.port, user=box.user,
        variables=box.inventory_variables(),
    )  # fmt: skip
    return {"inventory": str(box.inventory()), "host": to_data(host), "setup": to_data(setup)}


def main(path: str) -> int:
    asked = json.loads(Path(path).read_text())
    host, setup = from_data(Host, asked["host"]), from_data(NvidiaSetup, asked["setup"])
    plan = Plan(host=host.name, request=Request(), stack=(), reasons=(), rejected=(), steps=(), nvidia=setup)
    cancel = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: cancel.set())
    options = Options(inventories=(Path(asked["inventory"]),))
    with ControlDir() as control_dir:
        ready, stopped = set_up(
            [Target(host=host, plan=plan)], options, on_event=lambda event: print(event, file=sys.stderr),  # noqa: T201
            cancel=cancel, control_dir=control_dir,
        )  # fmt: skip
    found: Any = ready.get(host.name) or stopped[host.name]
    failures = found.failures if isinstance(found, Report) else ()
    steps = [to_data(step) for step in found.steps]
    changed = sum(step["status"] == "changed" for step in steps)
    document = {
        "ready": host.name in ready, "changed": changed, "steps": steps,
        "failures": [to_data(failure) for failure in failures], "driver": to_data(found.driver),
    }  # fmt: skip
    print(json.dumps(document))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
