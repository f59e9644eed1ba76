#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Does the installed wheel hold kernels for every GPU of this machine?

Native code (SASS, sm_90) runs on the same major compute capability and an equal or higher minor; PTX (compute_90) is
compiled at the first start for an equal or higher capability, which takes minutes and is a remark, not a failure.
The framework is loaded in a child process of this interpreter. Changes nothing.
Exit 0 yes, 1 no, 2 cannot tell (no GPU, a CPU wheel, no list in the wheel); one JSON line on stdout.

    python native_kernels.py --framework pytorch --device cuda
    python native_kernels.py --framework jax --arch-list sm_80,sm_90,compute_120 --capability 8.6
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from typing import Any

FRAMEWORKS = ("tensorflow", "keras", "pytorch", "jax", "numpy")


def look_at_pytorch() -> dict[str, Any]:
    import torch

    # device_count() may ask NVML, which sees GPUs that CUDA cannot start: with too old a driver, say
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [
        {"name": torch.cuda.get_device_name(index), "capability": list(torch.cuda.get_device_capability(index))}
        for index in range(count)
    ]
    # get_arch_list() is empty where no GPU is visible; the build's own list needs no GPU
    archs = torch._C._cuda_getArchFlags() if torch.version.cuda else None
    return {"version": torch.__version__, "archs": (archs or "").split(), "gpus": gpus, "cuda": torch.version.cuda}


def look_at_tensorflow() -> dict[str, Any]:
    import tensorflow as tf

    gpus = []
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        capability = details.get("compute_capability")
        gpus.append({"name": details.get("device_name", device.name), "capability": capability and list(capability)})
    build = tf.sysconfig.get_build_info()
    # 'cuda_compute_capabilities': ['sm_60', 'sm_70', 'sm_80', 'sm_89', 'compute_90']
    archs = list(build.get("cuda_compute_capabilities") or [])
    return {"version": tf.__version__, "archs": archs, "gpus": gpus, "cuda": build.get("cuda_version")}


def look_at_jax() -> dict[str, Any]:
    import jax

    try:
        devices = jax.devices("gpu")
    except RuntimeError:
        devices = []
    gpus = []
    for device in devices:
        capability = re.fullmatch(r"(\d+)\.(\d+)", str(getattr(device, "compute_capability", "")))
        numbers = [int(number) for number in capability.groups()] if capability else None
        gpus.append({"name": device.device_kind, "capability": numbers})
    return {"version": jax.__version__, "archs": [], "gpus": gpus, "cuda": None}


def look_at_keras() -> dict[str, Any]:
    import keras

    backend = keras.backend.backend()
    return {**LOOKS[{"torch": "pytorch"}.get(backend, backend)](), "backend": backend}


LOOKS = {
    "pytorch": look_at_pytorch,
    "tensorflow": look_at_tensorflow,
    "jax": look_at_jax,
    "keras": look_at_keras,
}


CODES = {"sm": "sass", "compute": "ptx", "none": None}
"""How a GPU is served: native code, or PTX that its driver compiles first."""


def kernels_for(archs: list[str], capability: tuple[int, int]) -> str | None:
    """The entry of ``archs`` that serves ``capability``: native code before PTX; None where nothing does.

    ``sm_90a`` serves 9.0 alone, ``sm_100f`` its family: the same major and an equal or higher minor.
    """
    native: list[tuple[tuple[int, int], str]] = []
    ptx: list[tuple[tuple[int, int], str]] = []
    for arch in archs:
        found = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
        if not found:
            continue
        built = (int(found.group(2)), int(found.group(3)))
        if found.group(4) == "a":
            fits = built == capability
        elif found.group(1) == "sm" or found.group(4) == "f":
            fits = built[0] == capability[0] and built[1] <= capability[1]
        else:
            fits = built <= capability
        if fits:
            (native if found.group(1) == "sm" else ptx).append((built, arch))
    return max(native or ptx)[1] if native or ptx else None


def judge_gpus(framework: str, found: dict[str, Any]) -> dict[str, Any]:
    archs, none, native, compiled = found["archs"], [], [], []
    for gpu in found["gpus"]:
        if not gpu["capability"]:
            continue
        major, minor = gpu["capability"]
        gpu["kernels"] = kernels_for(archs, (major, minor))
        gpu["code"] = CODES[(gpu["kernels"] or "none").partition("_")[0]]
        label = f"{gpu['name']} (compute capability {major}.{minor})"
        if gpu["code"] is None:
            none.append(label)
        elif gpu["code"] == "ptx":
            compiled.append(f"{label} from {gpu['kernels']}")
        else:
            native.append(f"{label}: {gpu['kernels']}")
    data = {"framework": framework, **found}
    if none:
        hint = "install a release or CUDA variant whose list has it; `provision plan` names one"
        why = f"the wheel holds {' '.join(archs)}, and none of these runs there"
        return answer("fail", f"{framework} has no kernels for {', '.join(none)}", why, hint, data)
    unknown = [gpu["name"] for gpu in found["gpus"] if not gpu["capability"]]
    if unknown:
        return answer("skip", f"the compute capability of {', '.join(unknown)} is not known", data=data)
    if compiled:
        why = f"PTX, compiled by the driver at the first start, which takes minutes: {', '.join(compiled)}"
        why += f"\nnative code: {', '.join(native) or 'for none'}"
        return answer("pass", f"{framework} has PTX for every GPU, native code not for all", why, "", data)
    why = f"{', '.join(native)}; the wheel holds {' '.join(archs)}"
    return answer("pass", f"{framework} has native kernels for every GPU", why, "", data)


def look_apart(options: argparse.Namespace) -> tuple[dict[str, Any] | None, str]:
    """What the child found, or None and its last words."""
    command = [sys.executable, __file__, "--inside", "--framework", options.framework]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # else JAX takes most of the GPU's memory
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=options.timeout
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {options.timeout:g} s"
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"version"')]
    if lines:
        return json.loads(lines[-1]), ""
    return None, (child.stderr.strip().splitlines() or [f"exit status {child.returncode}"])[-1]


def judge(options: argparse.Namespace) -> dict[str, Any]:
    framework = options.framework
    data: dict[str, Any] = {"framework": framework}
    if options.device == "cpu" or framework == "numpy":
        return answer("skip", "kernels for GPUs do not matter here", f"{framework} is to run on the CPU", "", data)
    archs = [arch for arch in (options.arch_list or "").replace(" ", ",").split(",") if arch]
    given = [tuple(int(number) for number in text.split(".")) for text in options.capability or []]
    found: dict[str, Any] = {"version": None, "archs": archs, "gpus": [], "cuda": None}
    if not (archs and given):
        seen, why = look_apart(options)
        if seen is None:
            return answer("skip", f"{framework} cannot be loaded", why, "run framework_import.py", data)
        found = {**seen, "archs": archs or seen["archs"]}
    if given:
        found["gpus"] = [{"name": "GPU", "capability": list(capability)} for capability in given]
    if not found["gpus"]:
        hint = "device_visible.py says why"
        return answer("skip", f"{framework} sees no GPU", "", hint, {**data, **found})
    if not found["archs"]:
        why = "the wheel does not list what it was compiled for; give --arch-list from the plan"
        return answer("skip", f"the kernels of {framework} are not known", why, "", {**data, **found})
    return judge_gpus(framework, found)


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    check = f"native_kernels:{data['framework']}" if data else "native_kernels"
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", required=True, choices=FRAMEWORKS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--arch-list", metavar="sm_80,…", help="judge this list rather than the wheel's own")
    parser.add_argument("--capability", action="append", metavar="X.Y", help="judge this GPU, not those of the machine")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for loading it (300)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print("\n" + json.dumps(LOOKS[options.framework]()), flush=True)
        return 0
    result = judge(options)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
