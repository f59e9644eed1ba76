"""Running check scripts: what they see, and what their answers mean."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_process import TIMED_OUT

# What a user may have set that changes how frameworks behave. Checks have to see it: some of them report it.
PINS = (
    "OPENBLAS_", "GOTO_", "BLIS_", "MKL_", "OMP_", "KMP_", "GOMP_", "VECLIB_", "NUMEXPR_", "NPY_", "ATEN_", "ONEDNN_",
    "DNNL_", "TF_", "XLA_", "JAX_", "KERAS_", "TORCH_", "PYTORCH_", "CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_",
    "LD_", "GLIBC_TUNABLES", "MALLOC_",
)  # fmt: skip
PLAIN = (
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "PROVISION_RUN",
)
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STATUSES = {0: "pass", 1: "fail", 2: "skip"}
TAIL_LINES = 15
SIGNAL_HINTS = {
    "SIGILL": "the program has an instruction that this processor lacks: a wheel built for newer processors, or a "
    "variable such as OPENBLAS_CORETYPE that names one",
    "SIGKILL": "nearly always the kernel, because memory ran out: close other programs, or add memory or swap",
    "SIGSEGV": "a library crashed: driver and wheels that do not fit each other are the usual cause",
    "SIGBUS": "a file under the program went away or the disk (or /dev/shm) is full",
}


def check_variables(ambient: Mapping[str, str], plan: Mapping[str, str], venv: Path, home: str) -> dict[str, str]:
    """What a check sees: what `activate` gives a user of a clean login, with the user's own pins."""
    found = {name: value for name, value in ambient.items() if name in PLAIN or name.startswith(PINS)}
    found.setdefault("HOME", home)
    found.setdefault("LANG", "C.UTF-8")
    found.update(plan)
    found["PATH"] = f"{venv / 'bin'}:{SYSTEM_PATH}"
    found.update({"VIRTUAL_ENV": str(venv), "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"})
    return found


def plan_variables(plan: Any) -> dict[str, str]:
    """The variables that a saved plan sets; none where the plan cannot be read."""
    try:
        return {str(key): str(value) for entry in plan["stack"] for key, value in entry["environment"].items()}
    except (KeyError, TypeError, AttributeError):
        return {}


def check_argv(python: Path, scripts: Path, argv: Sequence[str], data: Path) -> list[str]:
    """The whole command: the environment's Python, the script's file, its arguments with {data} filled in."""
    first, *rest = argv
    return [str(python), str(scripts / first), *(item.replace("{data}", str(data)) for item in rest)]


@dataclass
class Heard:
    """The output of one check."""

    out: bytearray = field(default_factory=bytearray)
    err: bytearray = field(default_factory=bytearray)

    def hear(self, stream: str, data: bytes) -> None:
        kept = self.out if stream == "out" else self.err
        kept += data
        del kept[: -(1 << 20)]

    def answer(self) -> dict[str, Any] | None:
        """The last line of stdout that is a JSON object."""
        for line in reversed(self.out.decode("utf-8", "replace").splitlines()):
            if line.lstrip().startswith("{"):
                try:
                    value = json.loads(line)
                except ValueError:
                    continue
                if isinstance(value, dict):
                    return value
        return None

    def tail(self) -> str:
        """The last lines that it printed, on stderr first."""
        text = self.err.decode("utf-8", "replace").strip() or self.out.decode("utf-8", "replace").strip()
        return "\n".join(text.splitlines()[-TAIL_LINES:])


def outcome(check: str, status: int, heard: Heard, seconds: float, timeout_s: float) -> dict[str, Any]:
    """What a check that ended with ``status`` (negative: a signal) has found."""
    answer = heard.answer()
    if status in STATUSES and answer is not None:
        return {
            "id": check,
            "status": STATUSES[status],
            **{key: str(answer.get(key) or "") for key in ("what", "why", "hint")},
            "data": answer.get("data"),
            "seconds": round(seconds, 2),
        }
    what, hint = _broken(check, status, timeout_s)
    why = heard.tail() or "it printed nothing"
    broken = {"id": check, "status": "fail", "what": what, "why": why, "hint": hint, "data": None}
    return {**broken, "seconds": round(seconds, 2)}


def gated(command: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The answer of a check that is not run because the one that it ``needs`` has failed; None where it may run."""
    needs = command.get("needs") or ""
    failed = [answer for answer in answers if needs and answer["id"] == needs and answer["status"] == "fail"]
    if not failed:
        return None
    why = {"what": f"not run: {failed[0]['what']}", "why": failed[0]["why"], "hint": failed[0]["hint"]}
    return {"id": command["id"], "status": "skip", **why, "data": None, "seconds": 0.0}


def _broken(check: str, status: int, timeout_s: float) -> tuple[str, str]:
    if status == TIMED_OUT:
        return (
            f"{check} did not end within {timeout_s:g} s and was stopped",
            "run `provision verify` when the machine is idle",
        )
    if status < 0:
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        return f"{check} was ended by {name}", SIGNAL_HINTS.get(name, "")
    if status in STATUSES:
        return f"{check} gave no answer", "this is a bug in the check; its last output is above"
    return f"{check} ended with status {status}", ""


def script_names(scripts: Mapping[str, str]) -> list[str]:
    """Names that are not plain file names."""
    return [name for name in scripts if "/" in name or name in ("", ".", "..")]
