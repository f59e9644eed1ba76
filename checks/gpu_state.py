#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""Does each GPU work under load, and what holds it back: clocks, power cap, PCIe link, heat?

Multiplies large matrices on every GPU for some seconds, in a child process with the framework, and asks the driver
meanwhile through NVML. What costs speed is a remark, not a failure: the figures are for whoever reads the rates beside
them. A GPU that stops answering under load is a failure. gpu_nvml.py and gpu_work.py must lie beside this script.
Changes nothing. Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

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
from typing import IO, Any

import gpu_nvml
import gpu_work

LOAD_S, EVERY_S = 5.0, 0.2
SIZE = 4096
READY = "ready"
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
    """What the child does: products on all GPUs in turn, so that each has work queued all the time."""
    import numpy

    work = gpu_work.WORKS[framework]("cuda")
    square = numpy.ones((SIZE, SIZE), numpy.float32)
    multiply = work.product("fp32")
    held = [work.put(square, index, "fp32") for index in range(len(work.devices()))]
    for one in held:
        work.wait(multiply(one, one))
    print(f"{READY} {len(held)}", flush=True)
    end = time.monotonic() + seconds
    while held and time.monotonic() < end:
        last = [[multiply(one, one) for _ in range(4)][-1] for one in held]
        for one in last:
            work.wait(one)


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
        state: dict[str, Any] = {"index": index, "name": None, "error": None, "samples": [], "throttle": {}}
        try:
            state["name"] = nvml.gpu(index).name()
        except gpu_nvml.Refused as refused:
            state["error"] = refused.words
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
        return states, None
    command = [
        sys.executable,
        __file__,
        "--inside",
        "--framework",
        options.framework,
        "--seconds",
        str(options.seconds),
    ]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        with subprocess.Popen(command, stdout=said, stderr=complained, env=environment) as child:
            end, ready = time.monotonic() + options.timeout, False
            while child.poll() is None and time.monotonic() < end:
                ready = ready or READY in text_of(said)
                if ready:
                    sample(nvml, states)
                time.sleep(EVERY_S)
            if child.poll() is None:
                child.kill()
        loaded = [line for line in text_of(said).splitlines() if line.startswith(READY)]
        why = (text_of(complained).strip().splitlines() or [f"exit status {child.returncode}"])[-1]
    if child.returncode != 0:
        return states, why
    return states, None if loaded and loaded[-1] != f"{READY} 0" else f"{options.framework} sees no GPU"


def text_of(file: IO[bytes]) -> str:
    """Without moving the place where the child writes on, which is the same one."""
    return os.pread(file.fileno(), 1 << 20, 0).decode("utf-8", "replace")


# --- judging ---------------------------------------------------------------------------------------------------------


def summary(state: dict[str, Any]) -> dict[str, Any]:
    """Medians of clocks and power, the highest temperature, the link and caps as last seen; throttle as shares."""
    samples = state["samples"]
    found: dict[str, Any] = {key: state[key] for key in ("index", "name", "error")}
    found["samples"] = len(samples)
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
    """What costs speed, in words."""
    found = []
    for reason, part in gpu["throttle"].items():
        found.append(f"{COSTLY[reason]} ({part:.0%} of the time)")
    limit, default = gpu.get("power_limit_w"), gpu.get("power_default_w")
    if limit and default and limit < default:
        found.append(f"its power cap is {limit:g} W, {default:g} W is its default")
    for key, words in LINK.items():
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
    what = f"under load {'; '.join(map(figures, found))}"
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
