"""Kernel modules: modprobe, rmmod, lsmod. The real kmod finds and reads them; /machine/proc/modules has the loaded."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.gpu_machine import nvml
from harness.gpu_machine.bus import bind, bound, unbind
from harness.gpu_machine.files import KERNEL, Refused, at, hook, log, machine, read, remove, write
from harness.gpu_machine.firmware import enrolled

KMOD = "/bin/kmod"
DKMS_KEY = Path("/var/lib/dkms/mok.pub")
DEBIANS = ("nvidia-current", "nvidia-current-open", "nvidia-tesla-470")
USES = {"nvidia": ("nvidia_uvm", "nvidia_modeset"), "nvidia_modeset": ("nvidia_drm",)}
NEEDS = {"nvidia_uvm": "nvidia", "nvidia_modeset": "nvidia", "nvidia_drm": "nvidia_modeset"}
PRE_TURING = ("Kepler", "Maxwell", "Pascal", "Volta")
ONLY_ASKING = {"--show-depends", "--dry-run", "--showconfig", "-D", "-n", "-c", "-V", "--version"}
VERSION_FILE = """\
NVRM version: NVIDIA UNIX {kind}  {version}  {build}Tue Sep 23 10:11:16 UTC 2025
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1)
"""
INFORMATION = """\
Model: \t\t NVIDIA {name}
IRQ:   \t\t 130
GPU UUID: \t {uuid}
Bus Location: \t {address}
"""


def loaded() -> dict[str, str]:
    """{name: taint}, newest first."""
    rows = (line.split() for line in read("/proc/modules").splitlines())
    return {row[0]: row[6] if len(row) > 6 else "" for row in rows}


def users(name: str, modules: Mapping[str, str]) -> list[str]:
    return [other for other in USES.get(name, ()) if other in modules]


def set_loaded(modules: Mapping[str, str]) -> None:
    lines = []
    for name, taint in modules.items():
        using = users(name, modules)
        names = "".join(f"{other}," for other in using) or "-"
        count = len(using) + (name == "nouveau")
        lines.append(f"{name} 1871872 {count} {names} Live 0x0000000000000000 {taint}".rstrip())
    write("/proc/modules", "".join(f"{line}\n" for line in lines))


def modinfo(name: str) -> dict[str, str]:
    """{field: value} of the module that is on disk for the running kernel, or {}."""
    argv = ["modinfo", name]  # kmod goes by the name it is called by
    said = subprocess.run(argv, executable=KMOD, capture_output=True, text=True, check=False).stdout
    return dict(re.findall(r"^(\w+): +(.*)$", said, re.MULTILINE))


def on_disk(name: str) -> dict[str, str]:
    """As modprobe finds it, Debian's own packages included: theirs is installed as nvidia-current."""
    names = (name, *(re.sub("^nvidia", own, name).replace("_", "-") for own in DEBIANS))
    return next((info for info in map(modinfo, names) if info), {})


def trusted(info: Mapping[str, str]) -> bool:
    """Whether Secure Boot's kernel takes it: signed, by a key that is enrolled."""
    return not machine()["secure_boot"] or (bool(info.get("signer")) and DKMS_KEY.exists() and enrolled(DKMS_KEY))


def driven(card: Mapping[str, Any], version: str, is_open: bool) -> bool:
    """Whether a module of this version and flavour takes this card (the driver installation guide's table)."""
    major, architecture = int(version.split(".")[0]), card["architecture"]
    if architecture in PRE_TURING:
        return not is_open and major <= (470 if architecture == "Kepler" else 580)
    return is_open and major >= 570 if architecture == "Blackwell" else True


def insert(name: str) -> None:
    """Load one module by its kernel name. Raises Refused with the kernel's reason, as modprobe words it."""
    name = name.replace("nvidia_current", "nvidia")
    if name in loaded():
        return
    if name == "nouveau":
        _insert_nouveau()
        return
    info = on_disk(name)
    if not info:
        raise Refused(f"modprobe: FATAL: Module {name} not found in directory /lib/modules/{KERNEL}")
    refuse = f"modprobe: ERROR: could not insert '{name}': "
    if info.get("vermagic", "").split(" ")[0] != KERNEL:
        log(f"{name}: version magic '{info.get('vermagic', '')}' should be '{KERNEL} '")
        raise Refused(f"{refuse}Exec format error")
    if not trusted(info):
        log("PKCS#7 signature not signed with a trusted key" if info.get("signer") else "module is not signed")
        raise Refused(f"{refuse}Key was rejected by service")
    if name == "nvidia":
        _insert_nvidia(info, refuse)
    elif name in NEEDS:
        insert(NEEDS[name])
    set_loaded({name: "(OE)" if info["license"].startswith("Dual") else "(POE)", **loaded()})
    if name == "nvidia_uvm":
        write("/dev/nvidia-uvm")
        write("/dev/nvidia-uvm-tools")
    write(f"/sys/module/{name}/refcnt", "0\n")


def _insert_nvidia(info: Mapping[str, str], refuse: str) -> None:
    version, is_open = info["version"], info["license"].startswith("Dual")
    cards = machine()["cards"]
    taken = [card for card in cards if bound(card) is None and driven(card, version, is_open)]
    for card in cards:
        if card not in taken:
            _log_refused(card, version, is_open)
    if not taken:
        log("NVRM: None of the NVIDIA devices were initialized.")
        raise Refused(f"{refuse}No such device")
    kind = "Open Kernel Module for x86_64" if is_open else "x86_64 Kernel Module"
    build = "Release Build  (dvs-builder@U22)  " if is_open else ""
    write("/proc/driver/nvidia/version", VERSION_FILE.format(kind=kind, version=version, build=build))
    write("/sys/module/nvidia/version", f"{version}\n")
    for number, card in enumerate(taken):
        bind(card, "nvidia")
        write(f"/proc/driver/nvidia/gpus/{card['address']}/information", INFORMATION.format(**card))
        write(f"/dev/nvidia{number}")
        if card.get("fails"):
            log(f"NVRM: GPU {card['address']}: RmInitAdapter failed! (0x24:0x72:1436)")
    write("/dev/nvidiactl")
    nvml.loaded(version, taken)


def _log_refused(card: Mapping[str, Any], version: str, is_open: bool) -> None:
    why = "it does not include the required GPU System Processor (GSP)" if is_open else "it is not supported"
    why = f"{bound(card)} has it" if bound(card) else why
    log(f"NVRM: The NVIDIA GPU {card['address']} (PCI ID: 10de:{card['device']:04x})")
    log(f"NVRM: installed in this system is not driven by NVIDIA {version} because {why}.")


def _insert_nouveau() -> None:
    for card in machine()["cards"]:
        if bound(card) is None and card["architecture"] != "Blackwell":
            bind(card, "nouveau")
    write("/sys/module/nouveau/refcnt", "1\n")
    write("/dev/dri/card0")
    set_loaded({"nouveau": "", **loaded()})


def take_out(name: str) -> None:
    """Unload one module. Raises Refused as rmmod words it."""
    modules = loaded()
    if name not in modules:
        raise Refused(f"rmmod: ERROR: Module {name} is not currently loaded")
    if using := users(name, modules):
        raise Refused(f"rmmod: ERROR: Module {name} is in use by: {' '.join(using)}")
    busy = at("/persistence").exists() or at("/gpu_in_use").exists()
    if name == "nouveau" or (name == "nvidia" and busy):
        raise Refused(f"rmmod: ERROR: Module {name} is in use")
    if name == "nvidia":
        remove("/proc/driver/nvidia")
        for file in at("/dev").glob("nvidia*"):
            file.unlink()
        unbind("nvidia")
        nvml.unloaded()
    remove(f"/sys/module/{name}")
    del modules[name]
    set_loaded(modules)


def modprobe(words: Sequence[str]) -> None:
    options = [word for word in words if word.startswith("-")]
    names = [word.replace("-", "_") for word in words if not word.startswith("-") and "=" not in word]
    letters = "".join(option[1:] for option in options if not option.startswith("--"))
    if set(options) & ONLY_ASKING:
        os.execv(KMOD, ["modprobe", *words])  # noqa: S606  # the real one's answer, status and all
    if hook("modprobe"):
        raise Refused(f"modprobe: ERROR: could not insert '{names[0]}': Operation not permitted")
    removing = "r" in letters or "--remove" in options
    for name in names if removing or "a" in letters or "--all" in options else names[:1]:
        if not removing:
            insert(name)
        elif name in loaded():
            take_out(name)


def rmmod(words: Sequence[str]) -> None:
    for word in words:
        if not word.startswith("-"):
            take_out(word.replace("-", "_"))


def lsmod(_: Sequence[str]) -> None:
    print("Module                  Size  Used by")  # noqa: T201
    for line in read("/proc/modules").splitlines():
        name, size, count, using = line.split()[:4]
        print(f"{name:<19} {size:>8}  {count} {using.strip('-,')}")  # noqa: T201
