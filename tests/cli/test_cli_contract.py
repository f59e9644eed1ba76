"""What scripts rely on, tried on the real program: exit codes, one JSON document, Ctrl-C, output that goes away."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.contract import REPORT_KEYS

from provision.cli.detect_command import _folder_name
from provision.errors import UsageError
from provision.run.files import write_atomically

PROVISION = [sys.executable, "-m", "provision"]
DUMP = Path(__file__).resolve().parents[1] / "hosts" / "debian12-intelvm-nogpu-nodriver"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": root, "XDG_DATA_HOME": str(tmp_path / "data")}


@pytest.fixture
def provision(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.run(
            [*PROVISION, *words], env=environment, stdin=subprocess.DEVNULL, text=True, check=False, **options
        )

    return run


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["plan", "--nosuch"], 2, "No such option: --nosuch"),
        (["up", "--device", "gpu"], 2, "'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["apply"], 2, "Missing argument 'PLAN'"),
        (["plan", "-f", "tensroflow"], 2, "unknown framework 'tensroflow'"),
        (["plan", "--from", "/nonexistent"], 2, "there is no folder /nonexistent"),
        (["plan", "--from", str(DUMP), "--device", "cuda"], 3, "no NVIDIA GPU here"),
        (["detect", "me@127.0.0.1:1"], 4, "refused"),
        (["up", "--device", "cpu"], 2, "this would change the host, and nobody can be asked"),
        (["verify"], 2, "there is no environment called default"),
        (["image", "build"], 2, "the image has no name"),
        (["up", "--device", "cpu", "--yes", "-K"], 2, "the sudo password cannot be asked for"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_has_its_code_and_is_told_in_text_and_in_json(provision, words, code, said):
    text = provision(*words)
    assert (text.returncode, said in text.stderr) == (code, True), text.stderr
    document = provision(*words, "--json")
    assert document.returncode == code
    failed = json.loads(document.stdout)
    assert failed.keys() == REPORT_KEYS
    assert failed["ok"] is False
    assert said in failed["failures"][0]["what"]
    assert failed["failures"][0]["exit_code"] == code


def test_a_plan_that_is_damaged_on_the_host_is_said(provision, tmp_path):
    environment = tmp_path / "data" / "provision" / "envs" / "default"
    (environment / "generations" / "1").mkdir(parents=True)
    (environment / "current").symlink_to("generations/1")
    (environment / "generations" / "1" / "plan.json").write_text("{")
    done = provision("verify")
    assert done.returncode == 5
    assert "the plan of environment default cannot be read" in done.stderr
    assert "plan.json is missing, or no JSON" in done.stderr


def test_several_hosts_are_an_array_with_those_that_failed_in_their_place(provision):
    done = provision("detect", "localhost", "me@127.0.0.1:1", "--json")
    here, refused = json.loads(done.stdout)
    assert done.returncode == 4
    assert here["host"] == "localhost"
    assert refused["host"] == "me@127.0.0.1:1"
    assert refused["failures"][0]["what"]


def test_a_reader_that_goes_away_is_no_error(environment):
    line = '"$0" -m provision plan --device cpu | head -n 1; echo ${PIPESTATUS[0]}'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "plan for localhost, environment default\n0\n"
    assert done.stderr == ""


def test_a_full_disk_below_stdout_is_said(provision):
    with Path("/dev/full").open("w") as full:
        done = provision("detect", stdout=full)
    assert done.returncode == 2
    assert done.stderr == "error: the answer cannot be written to stdout\n  No space left on device\n"


def test_letters_that_the_terminal_lacks_are_no_bug(environment):
    words = [*PROVISION, "plan", "--device", "cpu", "--json"]
    ascii_only = {**environment, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, env=ascii_only, capture_output=True, check=True)
    assert json.loads(done.stdout.decode("ascii"))["schema"] == 1


def test_ctrl_c_at_the_question_changes_nothing(environment, tmp_path):
    process, terminal = on_terminal(environment, "up", "--device", "cpu", "-f", "numpy==2.4.6")
    said = read_until(terminal, "[y/N]")
    process.send_signal(signal.SIGINT)
    said += read_until(terminal, "nothing was changed")
    assert process.wait(timeout=120) == 130, said
    assert not (tmp_path / "data" / "provision" / "envs").exists()


def test_no_is_an_answer(environment):
    process, terminal = on_terminal(environment, "up", "--device", "cpu", "-f", "numpy==2.4.6")
    read_until(terminal, "[y/N]")
    os.write(terminal, b"n\n")
    read_until(terminal, "nothing was changed")
    assert process.wait(timeout=120) == 130


def test_ctrl_c_while_a_host_is_read_says_so(environment):
    silent = SilentServer()
    process = subprocess.Popen(
        [*PROVISION, "detect", f"me@127.0.0.1:{silent.port}"],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    silent.accepted()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    silent.close()
    assert process.returncode == 130
    assert "interrupted" in said


def test_a_hang_up_that_nohup_ignores_stops_nothing(environment):
    words = ["nohup", *PROVISION, "detect", "--json"]
    process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    time.sleep(0.05)  # nohup has set it by then, and the program has not begun
    for _ in range(10):
        process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    document, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert json.loads(document)["host"] == "localhost"


def test_a_plan_is_saved_through_a_link_and_to_a_device(provision, tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real.json")
    provision("plan", "--from", str(DUMP), "-o", str(link))
    assert link.is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["host"] == DUMP.name
    assert provision("plan", "--from", str(DUMP), "-o", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(UsageError) as stop:
        write_atomically(tmp_path / "none" / "plan.json", "{}")
    assert stop.value.what == f"cannot write {tmp_path}/none/plan.json"
    assert stop.value.why == "No such file or directory"


def test_a_dump_never_leaves_its_folder():
    taken: set[str] = set()
    names = [_folder_name(host, taken) for host in ("../../etc", "me@box:22", "me@box_22", "..")]
    assert names == ["_.._etc", "me@box_22", "me@box_22_2", "host"]


class SilentServer:
    """Takes connections and never says a word."""

    def __init__(self) -> None:
        import socket

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._connections: list[Any] = []

    def accepted(self) -> None:
        self._socket.settimeout(20)
        self._connections.append(self._socket.accept()[0])

    def close(self) -> None:
        for connection in (*self._connections, self._socket):
            connection.close()


def on_terminal(environment: dict[str, str], *words: str) -> tuple[subprocess.Popen[bytes], int]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*PROVISION, *words], env={**environment, "TERM": "dumb"}, stdin=theirs, stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read_until(terminal: int, words: str) -> str:
    said = ""
    deadline = time.monotonic() + 120  # it does not hang: no more is asked
    while words not in said and time.monotonic() < deadline:
        try:
            said += os.read(terminal, 4096).decode(errors="replace")
        except OSError:  # the other end closed
            break
    assert words in said, said
    return said
