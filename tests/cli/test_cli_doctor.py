"""`provision doctor` as a user types it: hosts from dumps, logs from files and standard input, exit codes, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from provision.model.doctor import DoctorFinding, DoctorReport
from provision.render.doctor import doctor_text

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "doctor"
LOST = ROOT / "tests" / "hosts" / "made-debian11-broadwell-p4-gtx1060-lost-470"
HEALTHY = ROOT / "tests" / "hosts" / "debian12-intelvm-nogpu-nodriver"


def doctor(*words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "provision", "doctor", *words]
    return subprocess.run(argv, input=given, capture_output=True, cwd=ROOT, check=False, timeout=120)


def test_a_broken_host_is_told_with_evidence_cause_and_remedy(golden: Callable[[Path, str], None]) -> None:
    done = doctor("--from", str(LOST))
    assert done.returncode == 6
    golden(GOLDEN / "lost.txt", done.stdout.decode())


def test_a_healthy_host_leaves_with_nothing_wrong() -> None:
    done = doctor("--from", str(HEALTHY))
    assert done.returncode == 0
    assert b"no known failure shows" in done.stdout


def test_json_is_one_document_with_every_key() -> None:
    done = doctor("--from", str(LOST), "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 6
    assert found.keys() == {"schema", "ok", "host", "findings", "looked_at", "not_read"}
    (finding,) = [each for each in found["findings"] if each["severity"] == "error"]
    assert finding.keys() == {"id", "severity", "what", "evidence", "where", "cause", "remedy", "source"}
    assert finding["id"] == "gpu-fell-off-the-bus"


def test_a_log_is_looked_at_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(b"epoch 1\r\nRuntimeError: CUDA error: device-side assert triggered\r\n\xff\xfe\x00")
    from_file = doctor("--log", str(log))
    assert from_file.returncode == 6
    assert b"train.log" in from_file.stdout
    assert b"an index was out of range on the GPU" in from_file.stdout
    piped = doctor("--log", "-", "--json", given=log.read_bytes())
    assert [each["id"] for each in json.loads(piped.stdout)["findings"]] == ["device-assert"]
    assert doctor("--log", "-", given=b"epoch 1: loss 0.3\n").returncode == 0


def test_a_long_log_is_read_at_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from provision.run import doctor as reading

    monkeypatch.setattr(reading, "HALF", 1024 * 1024)
    log = tmp_path / "long.log"
    log.write_text("No devices were found\n" + "noise\n" * 1_000_000 + "nvcc: command not found\n")
    read = reading.read_log(log)
    assert read.text.startswith("No devices were found")
    assert read.text.endswith("nvcc: command not found\n")
    assert read.cut == "3 MiB in the middle of long.log: it is longer than is read"


def test_an_endless_log_comes_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from provision.run import doctor as reading

    monkeypatch.setattr(reading, "HALF", 1024 * 1024)
    monkeypatch.setattr(reading, "MOST_BYTES", 16 * 1024 * 1024)
    read = reading.read_log(Path("/dev/zero"))
    assert len(read.text) <= 3 * 1024 * 1024
    assert read.cut.endswith("it is longer than is read, and whatever comes after 17 MiB")


def test_a_log_of_windows_shells_is_read(tmp_path: Path) -> None:
    log = tmp_path / "wsl.log"
    log.write_bytes("Torch not compiled with CUDA enabled\r\n".encode("utf-16"))
    assert doctor("--log", str(log)).returncode == 6


def test_several_hosts_are_one_answer_each_and_one_code(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all:\n  hosts:\n    gone: {ansible_host: 127.0.0.1, ansible_port: 1}\n"
                         "    here: {ansible_connection: local}\n")  # fmt: skip
    done = doctor("-i", str(inventory), "--json")
    answers = json.loads(done.stdout)
    assert done.returncode == 4
    assert sorted(each["host"] for each in answers) == ["gone", "here"]
    limited = doctor("-i", str(inventory), "--limit", "here", "--json")
    assert json.loads(limited.stdout)["host"] == "here"
    assert limited.returncode == (0 if json.loads(limited.stdout)["ok"] else 6)


def test_the_cpu_is_read_with_another_library_here() -> None:
    from dataclasses import replace

    from provision.catalog.load import chips
    from provision.detect import host_facts
    from provision.run.doctor import cpu_cross_check
    from provision.run.dump import read_dump

    cpu = host_facts(read_dump(HEALTHY), chips(), host="x").cpu
    (shown,) = cpu_cross_check(replace(cpu, model_name="Z80", family=1, model=2))
    assert shown.id == "cpu-readings-differ"
    assert shown.evidence.startswith("model name: 'Z80' in /proc/cpuinfo, ")
    assert "family: 1 in /proc/cpuinfo" in shown.evidence


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--log", "/nonexistent"), b"the log /nonexistent cannot be read"),
        (("--log", "x", "me@box"), b"--log and hosts contradict each other"),
        (("--log", "x", "--limit", "a"), b"--log and hosts contradict each other"),
        (("--from", "/nonexistent"), b"there is no folder /nonexistent"),
    ],
)
def test_wrong_usage_is_said_so(words: tuple[str, ...], said: bytes) -> None:
    done = doctor(*words)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_host_that_cannot_be_reached_is_that() -> None:
    assert doctor("me@127.0.0.1:1").returncode == 4


def test_remarks_alone_are_told_and_nothing_is_wrong() -> None:
    remark = DoctorFinding(
        id="power-cap", severity="info", what="a GPU's power cap is below its default", evidence="200 W of 350 W",
        where="nvidia-smi", cause="somebody lowered it", remedy="sudo nvidia-smi -pl 350", source=("general",),
    )  # fmt: skip
    report = DoctorReport(ok=True, host="box", findings=(remark,), looked_at=("a", "b"), not_read=("the kernel log",))
    text = doctor_text(report)
    assert "info: a GPU's power cap is below its default (power-cap)\n  evidence: nvidia-smi: 200 W of 350 W\n" in text
    end = "no known failure shows (2 readings; 1 info)\n  not looked at: the kernel log\n"
    assert text.endswith(end)
