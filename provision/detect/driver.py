"""The NVIDIA driver: whether it works, and if not, why not, in one plain sentence with the evidence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from provision.detect.gpus import driver_views
from provision.detect.pci import lists_devices, pci_gpus
from provision.detect.proc_driver import loaded_modules, module_flavour, module_version
from provision.detect.seen import DIED, HUNG, NvmlError, Seen
from provision.detect.text import natural, printable
from provision.model.facts import Driver, DriverState
from provision.model.readings import Readings

SMI_READINGS = (
    "nvidia_smi_q.xml", "nvidia_smi_q.txt", "nvidia_smi.txt", "nvidia_smi_query_gpu.csv", "nvidia_smi_L.txt",
)  # fmt: skip

# The words of nvidia-smi and of NVML's nvmlErrorString. Texts: facts collected from issue threads (CONTRIBUTING.md,
# "The readings"), and NVML's own error strings.
FAILURES: tuple[tuple[str, DriverState], ...] = (
    (r"Driver/library version mismatch", "mismatch"),
    (r"couldn't communicate with the NVIDIA driver|Driver Not Loaded", "not_loaded"),
    (r"No devices were found", "no_devices"),
    (r"couldn't find libnvidia-ml\.so|NVML Shared Library Not Found|libnvidia-ml\.so\S*: cannot open", "no_library"),
    (r"NVIDIA-SMI has failed|Failed to initialize NVML|Unable to determine the device handle|GPU is lost", "failed"),
    (r"Unknown Error|Insufficient Permissions|GPU access blocked|no answer within", "failed"),
)

# nvmlReturn_t: https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html
NVML_STATES: dict[int, DriverState] = {9: "not_loaded", 12: "no_library", 18: "mismatch"}

NOT_FOUND = 127
TIMED_OUT = 124


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that the state is concluded from."""

    views: tuple[tuple[str, Seen], ...]
    nvml_error: NvmlError | None
    failure: tuple[str, DriverState] | None
    """nvidia-smi's own words, and what they mean."""
    smi_missing: bool
    """Looked for, and not installed."""
    module: str | None
    """Version of the loaded module; "" where one is loaded whose version is not known."""
    modules: frozenset[str] | None
    bound: frozenset[str]
    """Kernel drivers that hold the GPUs."""
    installed: bool
    """`modinfo nvidia` knows a module for the running kernel."""
    has_gpu: bool
    bus_read: bool

    @property
    def nouveau(self) -> bool:
        return "nouveau" in self.bound or (self.modules is not None and "nouveau" in self.modules)


def driver_facts(readings: Readings) -> Driver:
    evidence = evidence_of(readings)
    state, detail = next(found for rule in RULES if (found := rule(evidence)) is not None)
    seen = [seen for _, seen in evidence.views]
    version = next((view.driver_version for view in seen if view.driver_version), None)
    return Driver(
        state=state,
        version=version or evidence.module or None,
        cuda_api_version=next((view.cuda_api_version for view in seen if view.cuda_api_version), None),
        module=module_flavour(readings),
        detail=detail,
    )


def evidence_of(readings: Readings) -> Evidence:
    gpus = pci_gpus(readings)
    modules = loaded_modules(readings)
    bound = frozenset(gpu.driver for gpu in gpus if gpu.driver)
    version = module_version(readings)
    loaded = version is not None or "nvidia" in bound or (modules is not None and "nvidia" in modules)
    return Evidence(
        views=driver_views(readings),
        nvml_error=_nvml_error(readings.text("nvml.json")),
        failure=smi_failure(readings),
        smi_missing=smi_missing(readings),
        module=(version or "") if loaded else None,
        modules=modules,
        bound=bound,
        installed="vermagic:" in (readings.text("modinfo_nvidia_vermagic") or ""),
        has_gpu=bool(gpus),
        bus_read=lists_devices(readings),
    )


def _nvml_error(text: str | None) -> NvmlError | None:
    if text is None:
        return None
    from provision.detect.nvml import read_nvml

    read = read_nvml(text)
    return read if isinstance(read, NvmlError) else None


def smi_failure(readings: Readings) -> tuple[str, DriverState] | None:
    """What nvidia-smi said of its failure, as a clause, and the meaning."""
    for name in SMI_READINGS:
        if natural(readings.text(f"{name}.status")) == TIMED_OUT:
            return "nvidia-smi gave no answer in time", "failed"
        text = readings.text(name) or ""
        # a failure is a line or two; a log of hundreds of lines may hold the same words as some field's value
        if not text.strip() or len(text) > 2000 or text.lstrip().startswith(("<?xml", "====", "+--")):
            continue
        for pattern, state in FAILURES:
            line = next((line for line in text.splitlines() if re.search(pattern, line)), None)
            if line is not None:
                return f'nvidia-smi says: "{printable(line)}"', state
    return None


def smi_missing(readings: Readings) -> bool:
    return any(natural(readings.text(f"{name}.status")) == NOT_FOUND for name in SMI_READINGS)


# --- the rules, in order: the first that knows decides --------------------------------------------------------------

Found = tuple[DriverState, str]
Rule = Callable[[Evidence], "Found | None"]


def _working(evidence: Evidence) -> Found | None:
    view = next(((name, seen) for name, seen in evidence.views if seen.gpus), None)
    if view is None:
        return None
    name, _ = view
    most = max(len(seen.gpus) for _, seen in evidence.views)  # a cut log lists fewer than the table beside it
    count = f"{most} GPU{'s' if most > 1 else ''}"
    version = next((other.driver_version for _, other in evidence.views if other.driver_version), None)
    tool = "NVML" if name == "nvml.json" else "deviceQuery" if name.startswith("device") else "nvidia-smi"
    silent = next((seen.silent for _, seen in evidence.views if seen.silent), ())
    return "working", f"{tool} lists {count}" + (f" with driver {version}" if version else "") + _silent(silent)


def _silent(words: tuple[str, ...]) -> str:
    if not words:
        return ""
    return f'; of {len(words)} more it says "{printable(words[0])}"'


def _none_answers(evidence: Evidence) -> Found | None:
    """The driver lists GPUs, and not one of them answers."""
    words = next((seen.silent for _, seen in evidence.views if seen.silent), ())
    return ("failed", f'NVML says of every GPU: "{printable(words[0])}"') if words else None


def _nouveau(evidence: Evidence) -> Found | None:
    if not evidence.nouveau or evidence.module is not None:
        return None
    how = "drives the GPU" if "nouveau" in evidence.bound else "is loaded"
    told = f"; {evidence.failure[0]}" if evidence.failure else ""
    return "nouveau", f"the nouveau kernel module {how}, NVIDIA's is not loaded{told}"


def _smi_failed(evidence: Evidence) -> Found | None:
    if evidence.failure is None:
        return None
    message, state = evidence.failure
    module = f"; the loaded module is {evidence.module}" if evidence.module else ""
    return state, f"{message}{module}"


def _nvml_failed(evidence: Evidence) -> Found | None:
    error = evidence.nvml_error
    if error is None or (error.value == 12 and evidence.module is None):
        return None
    if error.value in (DIED, HUNG):
        return "failed", printable(error.message)
    return NVML_STATES.get(error.value, "failed"), f'NVML says: "{printable(error.message)}" ({error.value})'


def _no_gpu_answered(evidence: Evidence) -> Found | None:
    """A log or a document without a GPU in it: the driver spoke, and has none."""
    name = next((name for name, seen in evidence.views if seen.driver_version and not seen.broken), None)
    if name is None or name == "nvidia_smi_version.txt" or name.endswith(".csv"):
        return None
    return "no_devices", "the driver answers, and lists no GPU"


def _no_library(evidence: Evidence) -> Found | None:
    if evidence.module is None or not evidence.smi_missing:
        return None
    return "no_library", f"{_module(evidence)} is loaded, and neither nvidia-smi nor NVML is there"


def _module_alone(evidence: Evidence) -> Found | None:
    if evidence.module is None:
        return None
    return "unknown", f"{_module(evidence)} is loaded, and nvidia-smi was not run"


def _module(evidence: Evidence) -> str:
    return f"NVIDIA's kernel module {evidence.module}".rstrip()


def _installed(evidence: Evidence) -> Found | None:
    if not evidence.installed or evidence.modules is None:
        return None
    return "not_loaded", "NVIDIA's kernel module is installed for this kernel, and not loaded"


def _absent(evidence: Evidence) -> Found | None:
    if evidence.modules is None and not evidence.smi_missing and (evidence.has_gpu or not evidence.bus_read):
        return None
    nothing = "no NVIDIA kernel module is loaded" if evidence.modules is not None else "there is no trace of a driver"
    smi = " and nvidia-smi is not installed" if evidence.smi_missing else ""
    gpu = "" if evidence.has_gpu else ("; no NVIDIA GPU is on the PCI bus" if evidence.bus_read else "")
    return "absent", f"{nothing}{smi}{gpu}"


def _unknown(_: Evidence) -> Found | None:
    return "unknown", "no reading tells whether an NVIDIA driver is there"


RULES: tuple[Rule, ...] = (
    _working, _none_answers, _nouveau, _smi_failed, _nvml_failed, _no_gpu_answered, _no_library, _module_alone,
    _installed, _absent, _unknown,
)  # fmt: skip
