"""The folder form of readings: one file a reading, named as CONTRIBUTING.md lists them."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from provision.errors import UsageError
from provision.model.readings import Readings

LARGEST_BYTES = 16 * 1024 * 1024
"""Of one reading; a 256-way /proc/cpuinfo has half a megabyte."""

NAMES = frozenset(
    """
    proc_cpuinfo proc_meminfo proc_version proc_modules os_release etc_issue etc_debian_version etc_redhat_release
    etc_lsb_release etc_nv_tegra_release lsb_release_a uname_a lscpu numactl_H sysctl lspci lspci_nn lspci_v lspci_vv
    lspci_tv lspci_d10de_v lspci_nnDvvv_10de lspci_vnn_10de nvidia_smi.txt nvidia_smi_q.txt nvidia_smi_q.xml
    nvidia_smi_L.txt nvidia_smi_version.txt nvidia_smi_query_gpu.csv nvidia_smi_query_gpu_gom.csv
    proc_driver_nvidia_version modinfo_nvidia_vermagic dmesg_nvidia nvcc_version cudnn_version mokutil_sb_state
    efi_secure_boot deviceQuery.txt sys_bus_pci_devices pci_ids nvml.json glibc pythons compilers container
    user_environment nproc sys_cpu_topology sw_vers sys_pci_links packages_nvidia package_holds apt_policy apt_lists
    dnf_candidates dkms_status dkms_make_log modinfo_nvidia kernel_headers nvidia_nouveau_conf nvidia_libraries
    dev_nvidia driver_installs provision_nvidia_record boot_id disk_free display nvidia_persistenced
    unattended_upgrades reboot_required mok_state docker_nvidia nvidia_ctk_version boot_kernels
    """.split()  # noqa: SIM905
)
_PATTERNS = re.compile(
    r"proc_driver_nvidia_gpus_[0-9a-f.-]+_information|sys_class_dmi_id_\w+|sys_devices_soc0_\w+|\w[\w.]*\.status"
)

_HINT = "give a folder that `provision detect --dump DIR` wrote, or one with files such as proc_cpuinfo and lspci_nn"


def is_reading(name: str) -> bool:
    return name in NAMES or _PATTERNS.fullmatch(name) is not None


def read_dump(path: Path) -> Readings:
    """Every reading in the folder ``path``. Other files (SOURCE, facts.json) are passed over; cut ones are as they are.

    Raises UsageError for a folder that is missing, empty, without any reading, or with a reading that is no text.
    """
    if not path.is_dir():
        what = f"{path} is not a folder" if path.exists() else f"there is no folder {path}"
        raise UsageError(what=what, why="readings are a folder with one file each", hint=_HINT)
    entries = sorted(entry for entry in path.iterdir() if entry.is_file())
    found = [entry for entry in entries if is_reading(entry.name)]
    if not found:
        names = ", ".join(entry.name for entry in entries[:5])
        why = f"it holds {names}{' …' if len(entries) > 5 else ''}: no reading is called so" if names else "it is empty"
        raise UsageError(what=f"the folder {path} holds no readings", why=why, hint=_HINT)
    return Readings({entry.name: _text(entry) for entry in found})


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise UsageError(
                what=f"the reading {path.name} in {path.parent} is too large",
                why=f"{path.stat().st_size} bytes; at most {LARGEST_BYTES} are read",
                hint=_HINT,
            )
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            what=f"the reading {path.name} in {path.parent} cannot be read", why=str(error.strerror), hint=_HINT
        ) from None
    if b"\0" in data:
        raise UsageError(
            what=f"the reading {path.name} in {path.parent} is not text",
            why=f"byte {data.index(0)} is zero: this is a binary file",
            hint=_HINT,
        )
    return data.decode("utf-8", errors="replace")  # a text that was cut inside a letter is still a reading


def write_dump(path: Path, readings: Readings) -> None:
    """Write ``readings`` into the folder ``path``: all of it or nothing, in place of a dump that was there.

    Masking is the caller's (``provision.detect.mask.masked``). Raises UsageError where ``path`` is a folder with
    anything else in it, a file, or cannot be written.
    """
    _refuse_other(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            fresh.chmod(0o755)
            for name, text in sorted(readings.files.items()):
                (fresh / name).write_text(text, encoding="utf-8", errors="replace")
            _replace(path, fresh)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise UsageError(
            what=f"the readings cannot be written to {path}",
            why=f"{error.filename or path}: {error.strerror}",
            hint="give a folder that you may write to",
        ) from None


def _refuse_other(path: Path) -> None:
    if path.is_dir():
        others = sorted(entry.name for entry in path.iterdir() if entry.is_dir() or not is_reading(entry.name))
        if others:
            raise UsageError(
                what=f"the folder {path} is in use for something else",
                why=f"it holds {', '.join(others[:3])}, which no dump has",
                hint="give an empty or a new folder",
            )
    elif path.exists():
        raise UsageError(what=f"{path} is a file", why="a dump is a folder", hint="give an empty or a new folder")


def _replace(path: Path, fresh: Path) -> None:
    """``fresh`` takes the place of ``path``; the old folder goes only when the new one stands."""
    if not path.is_dir():
        fresh.rename(path)
        return
    old = fresh.with_name(fresh.name + "-old")
    path.rename(old)
    try:
        fresh.rename(path)
    except OSError:
        old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
