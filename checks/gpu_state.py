#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""Does each GPU work under load, and what holds it back: clocks, power cap, PCIe link, heat?

Multiplies large matrices on every GPU that the framework sees for some seconds, in a child process, and asks the driver
meanwhile through NVML. What costs speed is a remark, not a failure: the figures are for whoever reads the rates beside
them. A GPU that had no load is named, with the reason, and its clocks and link are not judged. A GPU that stops
answering is a failure. gpu_nvml.py, gpu_visible.py and gpu_work.py must lie beside this script. Changes nothing. Exit 0
yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python gpu_state.py --framework pytorch
    python gpu_state.py --watch 10    # no load of its own: watch what runs already
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

import gpu_nvml
import gpu_visible
import gpu_work

LOAD_S, EVERY_S = 5.0, 0.2
SIZE = 4096
READY, OVER = "ready", "over"
COSTLY = {
    "sw_power_cap": "its power cap holds its clock down",
    "hw_slowdown": "the card itself slows down (heat or power)",
    "sync_boost": "it waits for slower GPUs of its boost group",
    "sw_thermal_slowdown": "the driver slows it down because it is hot",
    "hw_thermal_slowdown": "the card slows itself down because it is too hot: look at fans and air",
    "hw_power_brake_slowdown": "the power supply asks it to slow down: look at its power plugs and supply",
    "display_clocks_setting": "a display keeps its clock down",
}


LINK = {
    "pcie_width": "it has {now} of {most} PCIe lanes: its slot, a riser or a dirty contact gives no more",
    "pcie_generation": "its PCIe link is of generation {now}, and the card can do {most}",
}


def inside(framework: str, seconds: float) -> None:
    """What the child does: products on each GPU from a thread of its own, so that no fast one waits for a slow one."""
    work = gpu_work.WORKS[framework]("cuda")
    multiply = work.product("fp32")
    held = [work.random(SIZE, index, "fp32", 1) for index in range(len(work.devices()))]
    for one in held:
        work.wait(multiply(one, one))
    print(f"\n{READY} {json.dumps(gpu_visible.addresses(work.ordinals()))}", flush=True)
    end = time.monotonic() + seconds

    def load(one: Any) -> None:
        while time.monotonic() < end:
            work.wait([multiply(one, one) for _ in range(4)][-1])

    with ThreadPoolExecutor(max(1, len(held))) as threads:
        list(threads.map(load, held))
    print(OVER, flush=True)


def heard(said: str) -> tuple[list[str | None] | None, bool]:
    """From the child: the PCI addresses of the GPUs that it loads (None: not yet), and whether its load is over."""
    lines = said.splitlines()
    ready = [line.partition(" ")[2] for line in lines if line.startswith(f"{READY} [") and line.endswith("]")]
    return (json.loads(ready[0]) if ready else None), OVER in lines


def sample(nvml: gpu_nvml.Nvml, states: list[dict[str, Any]]) -> None:
    """One look at each GPU, added to what was seen of it before."""
    for state in states:
        try:
            gpu = nvml.gpu(state["index"])
        except gpu_nvml.Refused as refused:
            state["error"] = refused.words
            continue
        state["error"] = gpu.gone() or state["error"]
        seen = gpu.state()
        state["samples"].append({key: value for key, value in seen.items() if key != "throttle"})
        for reason in seen["throttle"] or ():
            state["throttle"][reason] = state["throttle"].get(reason, 0) + 1


def gpus(nvml: gpu_nvml.Nvml) -> list[dict[str, Any]]:
    found = []
    for index in range(nvml.count()):
        state: dict[str, Any] = {"index": index, "error": None, "idle": None, "samples": [], "throttle": {}}
        try:
            gpu = nvml.gpu(index)
            state["gpu"] = gpu_visible.Gpu(gpu.name(), gpu.uuid(), gpu.address(), gpu.slices())
        except gpu_nvml.Refused as refused:
            state.update(gpu=gpu_visible.Gpu(), error=refused.words)
        found.append(state)
    return found


def watch(nvml: gpu_nvml.Nvml, options: argparse.Namespace) -> tuple[list[dict[str, Any]], str | None]:
    """What was seen of each GPU, and why there was no load (None: there was one)."""
    states = gpus(nvml)
    if options.watch:
        end = time.monotonic() + options.watch
        while time.monotonic() < end:
            sample(nvml, states)
            time.sleep(EVERY_S)
        for state in states:
            used = [one["utilization_percent"] for one in state["samples"]]
            state["idle"] = "nothing computed on it" if used and set(used) == {0} else None
        return states, None
    environment = child_environment(dict(os.environ))
    loaded, why = load_apart(options, environment, lambda: sample(nvml, states))
    if why is None:
        reasons = idle_reasons([state["gpu"] for state in states], loaded, environment, options.framework)
        for state, reason in zip(states, reasons):
            state["idle"] = reason
    return states, why


def child_environment(environment: dict[str, str]) -> dict[str, str]:
    made = {**environment, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if "CUDA_VISIBLE_DEVICES" not in environment:  # its numbers are of the order in force when they were chosen
        made.setdefault("CUDA_DEVICE_ORDER", gpu_visible.BUS_ORDER)
    return made


def load_apart(
    options: argparse.Namespace, environment: dict[str, str], look: Callable[[], None]
) -> tuple[list[str | None], str | None]:
    """PCI addresses of the GPUs that a child loaded while ``look`` was called, or why it loaded none."""
    command = [sys.executable, __file__, "--inside", "--framework", options.framework]
    command += ["--seconds", str(options.seconds)]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        with subprocess.Popen(command, stdout=said, stderr=complained, env=environment) as child:
            end = time.monotonic() + options.timeout
            while child.poll() is None and time.monotonic() < end:
                loaded, over = heard(text_of(said))
                if loaded and not over:
                    look()
                time.sleep(EVERY_S)
            if child.poll() is None:
                child.kill()
        loaded, _ = heard(text_of(said))
        why = (text_of(complained).strip().splitlines() or [f"exit status {child.returncode}"])[-1]
    if child.returncode != 0:
        return [], why
    return (loaded, None) if loaded else ([], f"{options.framework} sees no GPU")


def idle_reasons(
    gpus: Sequence[gpu_visible.Gpu], loaded: list[str | None], environment: dict[str, str], framework: str
) -> list[str | None]:
    """Of each GPU, why it had no load; None where it had. ``loaded``: addresses as CUDA told them, None where not."""
    asked = environment.get("CUDA_VISIBLE_DEVICES")
    shown = gpu_visible.visible(gpus, asked, environment.get("CUDA_DEVICE_ORDER"))
    hides = "CUDA shows one MIG device, and nothing beside it" if asked is None else f"CUDA_VISIBLE_DEVICES={asked}"
    reasons: list[str | None] = []
    for place, gpu in enumerate(gpus):
        is_shown = None if shown is None else place in shown
        told = None not in loaded and gpu.address is not None
        computed = gpu.address in loaded if told else is_shown  # where CUDA tells nothing, what the variables say
        if computed:
            reasons.append(None)
        elif computed is None:
            reasons.append("it is not known whether it had any")
        else:
            reasons.append(hides if is_shown is False else f"{framework} does not use it")
    return reasons


def text_of(file: IO[bytes]) -> str:
    """Without moving the place where the child writes on, which is the same one."""
    return os.pread(file.fileno(), 1 << 20, 0).decode("utf-8", "replace")


# --- judging ---------------------------------------------------------------------------------------------------------


def summary(state: dict[str, Any]) -> dict[str, Any]:
    """Medians of clocks and power, the highest temperature, the link and caps as last seen; throttle as shares."""
    samples = state["samples"]
    gpu = state["gpu"]
    found: dict[str, Any] = {"index": state["index"], "name": gpu.name, "address": gpu.address, "error": state["error"]}
    found.update(under_load=state["idle"] is None, idle=state["idle"], samples=len(samples))
    for key in samples[-1] if samples else ():
        values = sorted(one[key] for one in samples if one[key] is not None)
        if not values:
            found[key] = None
        elif key in {"clock_sm_mhz", "clock_memory_mhz", "power_w"}:
            found[key] = values[len(values) // 2]
        else:  # the link speeds up under load and the chip warms up
            found[key] = values[-1]
    count = max(1, len(samples))
    found["throttle"] = {reason: round(times / count, 2) for reason, times in state["throttle"].items()}
    return found


def remarks(gpu: dict[str, Any]) -> list[str]:
    """What costs speed, in words. Without load a GPU lowers its clocks and its link by itself: its cap alone counts."""
    found = []
    if not gpu["under_load"]:
        found.append(f"not under load: {gpu['idle']}")
    for reason, part in gpu["throttle"].items() if gpu["under_load"] else ():
        found.append(f"{COSTLY[reason]} ({part:.0%} of the time)")
    limit, default = gpu.get("power_limit_w"), gpu.get("power_default_w")
    if limit and default and limit < default:
        found.append(f"its power cap is {limit:g} W, {default:g} W is its default")
    for key, words in LINK.items() if gpu["under_load"] else ():
        now, most = gpu.get(key), gpu.get(f"{key}_max")
        if now and most and now < most:
            found.append(words.format(now=now, most=most))
    return [f"GPU {gpu['index']}: {text}" for text in found]


def figures(gpu: dict[str, Any]) -> str:
    """NVIDIA L4: 1590 of 2040 MHz, 71 of 72 W, 64 degrees, PCIe generation 4 x16."""
    parts = []
    if gpu.get("clock_sm_mhz"):
        most = f" of {gpu['clock_sm_max_mhz']}" if gpu.get("clock_sm_max_mhz") else ""
        parts.append(f"{gpu['clock_sm_mhz']}{most} MHz")
    if gpu.get("power_w"):
        cap = f" of {gpu['power_limit_w']:g}" if gpu.get("power_limit_w") else ""
        parts.append(f"{gpu['power_w']:g}{cap} W")
    if gpu.get("temperature_c") is not None:
        parts.append(f"{gpu['temperature_c']} degrees")
    if gpu.get("pcie_generation") and gpu.get("pcie_width"):
        parts.append(f"PCIe generation {gpu['pcie_generation']} x{gpu['pcie_width']}")
    return f"{gpu['name']}: {', '.join(parts) or 'it tells nothing'}"


def judge(states: list[dict[str, Any]], unloaded: str | None) -> dict[str, Any]:
    found = [summary(state) for state in states]
    data = {"gpus": found}
    gone = [f"GPU {gpu['index']}: {gpu['error']}" for gpu in found if gpu["error"]]
    if gone:
        hint = "`dmesg | grep Xid` says why; power off and on; then look at power plugs, slot and cooling"
        return answer("fail", "a GPU does not answer", "; ".join(gone), hint, data)
    if unloaded is not None:
        return answer("skip", "the GPUs were not put under load", unloaded, "run device_visible.py", data)
    if not any(gpu["samples"] for gpu in found):
        return answer("skip", "the load ended before it could be watched", "", "--seconds 20", data)
    notes = [note for gpu in found for note in remarks(gpu)]
    loaded = [gpu for gpu in found if gpu["under_load"]]
    if not loaded:
        return answer("skip", "no GPU was under load", "; ".join(notes), "start the load first, or --framework", data)
    what = f"under load {'; '.join(map(figures, loaded))}"
    return answer("pass", what, "; ".join(notes) or "nothing holds them back", "", data)


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    return {"id": "gpu_state", "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--framework", choices=gpu_work.FRAMEWORKS, help="makes the load")
    what.add_argument("--watch", type=float, metavar="S", help="watch this many seconds, without a load")
    parser.add_argument("--seconds", type=float, default=LOAD_S, metavar="S", help=f"of load ({LOAD_S:g})")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for all of it (300)")
    parser.add_argument("--library", default=gpu_nvml.LIBRARY, metavar="FILE", help=f"NVML ({gpu_nvml.LIBRARY})")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options.framework, options.seconds)
        return 0
    try:
        with gpu_nvml.Nvml(options.library) as nvml:
            result = judge(*watch(nvml, options))
    except gpu_nvml.Refused as refused:
        result = answer("skip", "the driver does not answer", f"NVML: {refused.words}", "run gpu_driver.py")
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
