"""How an engine hands GPUs to a container: asked of its own answers, never tried out (a failed start leaves things)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from provision.errors import UsageError

if TYPE_CHECKING:
    from provision.run.images.engine import Engine

CDI_NAME = "nvidia.com/gpu=all"

TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"


def requests_of(info: Mapping[str, Any], text: str) -> list[dict[str, Any]]:
    """What a container's HostConfig.DeviceRequests has to be, as the SDK's DeviceRequest takes it.

    ``info``: GET /info. ``text``: the engine, for the message. The nvidia runtime comes first: it works with every
    engine since 19.03. Raises UsageError where the engine has neither it nor CDI devices.
    """
    runtimes = info.get("Runtimes") or {}
    if "nvidia" in runtimes:
        return [{"count": -1, "capabilities": [["gpu"]]}]
    if _cdi_devices(info):
        return [{"driver": "cdi", "device_ids": [CDI_NAME]}]
    if info.get("CDISpecDirs") and info.get("DiscoveredDevices") is None:
        # an engine with CDI that does not list its devices yet: it reads the specifications when a container starts
        return [{"driver": "cdi", "device_ids": [CDI_NAME]}]
    found = [f"runtimes {', '.join(sorted(runtimes)) or 'none'}"]
    folders = info.get("CDISpecDirs")
    found.append(f"no CDI device of nvidia.com in {', '.join(folders)}" if folders else "CDI is off")
    raise UsageError(
        what="--gpus without a GPU: this engine cannot hand one to a container",
        why=f"{text}: wanted the runtime nvidia or CDI devices of nvidia.com/gpu, found {'; '.join(found)}",
        hint="on the engine's machine, where `nvidia-smi` must work first: install nvidia-container-toolkit\n"
        f"({TOOLKIT}), then\n"
        "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker",
    )


def _cdi_devices(info: Mapping[str, Any]) -> bool:
    """DiscoveredDevices is a list of {"Source": "cdi", "ID": "nvidia.com/gpu=0"} where the engine has it."""
    return any(
        str(each.get("Source", "")).lower() == "cdi" and str(each.get("ID", "")).startswith("nvidia.com/gpu=")
        for each in info.get("DiscoveredDevices") or ()
    )


def device_requests(engine: Engine) -> list[dict[str, Any]]:
    """The requests for this engine. Raises UsageError where it has no way to hand over a GPU."""
    return requests_of(engine.client.info(), engine.text)


def there(engine: Engine) -> bool:
    """Whether the engine can hand GPUs to containers."""
    try:
        device_requests(engine)
    except UsageError:
        return False
    return True
