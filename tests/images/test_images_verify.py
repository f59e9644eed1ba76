"""Verifying images, without an engine: what an engine says of GPUs, what a check's end means, what a report says."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from provision.errors import UsageError
from provision.model.report import CheckOutcome, Report
from provision.render.report import image_report_text
from provision.run import checks
from provision.run.checks import Asked, Check
from provision.run.images import containers
from provision.run.images.containers import Ended, packed, user_of
from provision.run.images.finding import Found
from provision.run.images.gpus import requests_of
from provision.run.images.verify import outcome

ENGINE = "Docker Engine 20.10.24 at unix:///var/run/docker.sock"

# GET /info of engines, as far as GPUs go: 20.10 without, with the toolkit's runtime, and 28 with CDI.
NO_GPU = {"Runtimes": {"io.containerd.runc.v2": {"path": "runc"}, "runc": {"path": "runc"}}, "DefaultRuntime": "runc"}
RUNTIME = {"Runtimes": {"nvidia": {"path": "nvidia-container-runtime"}, "runc": {"path": "runc"}}}
CDI = {
    "Runtimes": {"runc": {"path": "runc"}},
    "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
    "DiscoveredDevices": [
        {"Source": "cdi", "ID": "nvidia.com/gpu=0"},
        {"Source": "cdi", "ID": "nvidia.com/gpu=all"},
    ],
}


def test_the_nvidia_runtime_is_asked_as_docker_run_gpus_all_does() -> None:
    assert requests_of(RUNTIME, ENGINE) == [{"count": -1, "capabilities": [["gpu"]]}]


def test_without_the_runtime_cdi_devices_are_asked_for() -> None:
    assert requests_of(CDI, ENGINE) == [{"driver": "cdi", "device_ids": ["nvidia.com/gpu=all"]}]


def test_an_engine_that_reads_cdi_and_lists_nothing_is_believed() -> None:
    info = {"Runtimes": {"runc": {}}, "CDISpecDirs": ["/etc/cdi"]}
    assert requests_of(info, ENGINE) == [{"driver": "cdi", "device_ids": ["nvidia.com/gpu=all"]}]


@pytest.mark.parametrize(
    ("info", "found"),
    [
        (NO_GPU, "found runtimes io.containerd.runc.v2, runc; CDI is off"),
        (
            {**CDI, "DiscoveredDevices": [{"Source": "cdi", "ID": "vendor.com/net=0"}]},
            "found runtimes runc; no CDI device of nvidia.com in /etc/cdi, /var/run/cdi",
        ),
        ({}, "found runtimes none; CDI is off"),
    ],
)
def test_gpus_without_a_gpu_says_what_is_missing_and_what_to_install(info: dict[str, Any], found: str) -> None:
    with pytest.raises(UsageError) as refused:
        requests_of(info, ENGINE)
    assert refused.value.what == "--gpus without a GPU: this engine cannot hand one to a container"
    assert refused.value.why.startswith(f"{ENGINE}: wanted the runtime nvidia or CDI devices of nvidia.com/gpu, ")
    assert refused.value.why.endswith(found)
    assert "install nvidia-container-toolkit" in refused.value.hint


# --- what a check's end means ----------------------------------------------------------------------------------------

CHECK = Check(id="mnist:tensorflow", argv=("mnist.py",), timeout_s=1800)


def ended(status: int | None, stdout: str = "", stderr: str = "") -> CheckOutcome:
    return outcome(CHECK, Ended(status=status, stdout=stdout, stderr=stderr, seconds=1.0))


def test_a_check_says_its_own_answer() -> None:
    said = json.dumps(
        {"id": "mnist:x", "status": "fail", "what": "it learns badly", "why": "w", "hint": "h", "data": {}}
    )
    found = ended(1, f"noise\n{said}\n", "warnings")
    assert (found.id, found.status, found.what, found.why, found.hint) == (
        "mnist:tensorflow", "fail", "it learns badly", "w", "h",
    )  # fmt: skip


def test_what_a_framework_said_in_the_container_is_named_by_the_table_of_known_failures() -> None:
    data = {"log": ["RuntimeError: No CUDA GPUs are available"]}
    said = json.dumps(
        {"status": "fail", "what": "no GPU", "why": "No CUDA GPUs are available", "hint": "h", "data": data}
    )
    found = ended(1, said)
    assert found.data is not None
    assert found.data["cause"] == "no-cuda-device"
    assert found.why.startswith("CUDA sees no GPU: no driver, a container without --gpus")
    assert "in a container --gpus all" in found.hint


@pytest.mark.parametrize(
    ("status", "what", "hint"),
    [
        (-4, "mnist:tensorflow was ended by SIGILL", "this engine's CPU lacks"),
        (-9, "mnist:tensorflow was ended by SIGKILL", "memory ran out"),
        (137, "mnist:tensorflow was killed (137)", "memory ran out"),
        (None, "mnist:tensorflow did not end within 1800 s and was stopped", "when the engine is idle"),
        (0, "mnist:tensorflow gave no answer", "a bug in the check"),
        (3, "mnist:tensorflow ended with status 3", ""),
    ],
)
def test_a_check_that_crashes_is_a_failed_check_with_its_reason(status: int | None, what: str, hint: str) -> None:
    found = ended(status, "", "Traceback\nlast words")
    assert (found.status, found.what, found.why) == ("fail", what, "Traceback\nlast words")
    assert hint in found.hint


# --- in the container ------------------------------------------------------------------------------------------------


def run_inside(out: Path, timeout_s: float, script: str) -> dict[str, Any]:
    inside = Path(containers.__file__).with_name("inside.py")
    command = [sys.executable, str(inside), "run", str(out), str(timeout_s), sys.executable, "-c", script]
    subprocess.run(command, check=True, timeout=60)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_a_program_is_run_and_its_end_written_down(tmp_path: Path) -> None:
    found = run_inside(tmp_path / "1.json", 30, "import sys; print('out'); print('err', file=sys.stderr); sys.exit(2)")
    assert (found["status"], found["stdout"], found["stderr"]) == (2, "out\n", "err\n")


def test_a_signal_is_told_from_an_exit_status(tmp_path: Path) -> None:
    assert run_inside(tmp_path / "1.json", 30, "import os; os.kill(os.getpid(), 4)")["status"] == -4


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = (
        f"import subprocess as s; p = s.Popen(['sleep', '600']); open({str(marker)!r}, 'w').write(str(p.pid)); p.wait()"
    )
    assert run_inside(tmp_path / "1.json", 2, script)["status"] is None
    state = Path(f"/proc/{marker.read_text()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_this_python_says_what_it_has() -> None:
    inside = Path(containers.__file__).with_name("inside.py")
    done = subprocess.run([sys.executable, str(inside), "look"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["python"] == sys.version.split()[0]
    assert found["executable"] == sys.executable


def test_files_are_packed_so_that_everybody_can_read_them_and_write_results() -> None:
    with tarfile.open(fileobj=io.BytesIO(packed({"checks/mnist.py": b"1", "inside.py": b"2"}))) as archive:
        modes = {member.name: (member.isdir(), oct(member.mode)) for member in archive}
    assert modes == {
        "out": (True, "0o1777"),
        "checks": (True, "0o755"),
        "checks/mnist.py": (False, "0o644"),
        "inside.py": (False, "0o644"),
    }


@pytest.mark.parametrize(
    ("own", "user"),
    [("", "65534:65534"), ("root", "65534:65534"), ("0:0", "65534:65534"), ("1000:1000", "1000:1000"), ("jo", "jo")],
)
def test_an_ordinary_user_is_kept_and_root_is_not(own: str, user: str) -> None:
    assert user_of({"User": own}) == user


# --- what is checked, and what is said -------------------------------------------------------------------------------


def found_in(**frameworks: str) -> Found:
    return Found(python="/usr/bin/python3", version="3.11.2", frameworks=frameworks, cuda="")


def test_what_a_framework_brings_along_is_not_checked_by_itself() -> None:
    assert found_in(tensorflow="2.21.0", keras="3.15.1", numpy="2.4.6").to_check() == ("tensorflow",)
    assert found_in(pytorch="2.13.0", keras="3.15.1", numpy="2.4.6").to_check() == ("pytorch", "keras")
    assert found_in(numpy="2.4.6").to_check() == ("numpy",)


def test_frameworks_that_nobody_planned_are_checked_as_planned_ones_are() -> None:
    asked = [Asked(framework="numpy", version="", device="cpu")]
    found = {check.id: check for check in checks.commands_for(asked, {}, mnist=False, quick_ops=True)}
    assert list(found) == [
        "memory_disk", "framework_import:numpy", "isa_baseline:numpy", "device_visible:numpy", "quick_ops:numpy",
        "blas", "mnist:numpy",
    ]  # fmt: skip
    assert "--version" not in found["framework_import:numpy"].argv
    untrained = checks.commands_for(asked, {}, mnist=False, train=False)
    assert "mnist:numpy" not in [check.id for check in untrained]
    assert set(checks.check_files(list(found.values()))) >= {"quick_ops.py", "quick_ops_numpy.py"}


def report(*answers: CheckOutcome) -> Report:
    return Report(
        ok=True, host="me/tf:v3", environment=None, changed=0, steps=(), checks=answers, smoke=None, failures=()
    )


def test_an_image_for_gpus_that_saw_none_is_not_called_proved() -> None:
    gpu = CheckOutcome(id="gpu", status="skip", what="not proved on a GPU", why="made for GPUs", hint="--gpus")
    text = image_report_text(report(gpu))
    assert text.endswith("verdict: what runs on a CPU works; NOT proved on a GPU\n  made for GPUs\n  hint: --gpus\n")


def test_an_image_that_learnt_is_called_proved_and_nothing_is_said_of_changes() -> None:
    text = image_report_text(report(CheckOutcome(id="mnist:numpy", status="pass", what="learnt")))
    assert text.endswith("\nverdict: proved to work\n")
    assert "changed" not in text


def test_an_image_whose_training_was_skipped_is_not_called_proved() -> None:
    text = image_report_text(report(CheckOutcome(id="mnist:pytorch", status="skip", what="NumPy is needed")))
    assert text.endswith("verdict: NOT proved by training, though no check failed\n  mnist:pytorch: NumPy is needed\n")
