"""The lock, the progress file, and children that die with us."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible.module_utils.provision_failure import Failure, Interrupted
from ansible.module_utils.provision_lock import holder_text, locked
from ansible.module_utils.provision_process import run, stoppable
from ansible.module_utils.provision_progress import Progress, line
from playbook_target import PLAYBOOKS

# ── the lock ─────────────────────────────────────────────────────────────────────────────────────────────────────────

OWNER = {"pid": 123, "host": "box", "since": "2026-11-22T15:40:12Z", "controller": "me@laptop", "run_id": "r"}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (
            json.dumps(OWNER),
            "another provision run (pid 123 on box, since 2026-11-22T15:40:12Z, started by me@laptop) is working on "
            "environment lab",
        ),
        ('{"pid": 5}', "another provision run (pid 5) is working on environment lab"),
        ("", "another provision run is working on environment lab"),
        ("[1]", "another provision run is working on environment lab"),
        ("\x00", "another provision run is working on environment lab"),
    ],
)
def test_who_holds_the_lock(raw: str, text: str) -> None:
    assert holder_text(raw, "lab") == text


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    """A process that holds the lock, and a child of it that does as well."""
    code = f"""
import sys, time, subprocess
import ansible.module_utils
ansible.module_utils.__path__.append({str(PLAYBOOKS / "module_utils")!r})
from pathlib import Path
from ansible.module_utils.provision_lock import locked
with locked(Path({str(path)!r}), "lab", {OWNER!r}, 5, print, create=True) as handle:
    subprocess.Popen(["sleep", "{seconds}"], pass_fds=[handle], stdout=subprocess.DEVNULL)
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_run_waits_until_the_first_and_its_children_are_dead(tmp_path: Path) -> None:
    path = tmp_path / "env" / "lock"
    waited: list[str] = []
    with hold(path, 1.0) as holder:
        with pytest.raises(Failure) as caught, locked(path, "lab", OWNER, 0.3, waited.append):
            pass
        assert caught.value.kind == "locked"
        assert caught.value.what.startswith("another provision run (pid 123 on box, since 2026-11-22T15:40:12Z")
        assert caught.value.why == f"waited 0.3 s for {path}"
        assert "stop it" in caught.value.hint
        holder.kill()
        begun = time.monotonic()
        with locked(path, "lab", {"pid": 7}, 20, waited.append):
            assert json.loads(path.read_text()) == {"pid": 7}
        assert time.monotonic() - begun > 0.1, "the child of the dead holder has it still"
    assert path.read_text() == ""
    assert waited
    assert set(waited) == {holder_text(json.dumps(OWNER), "lab")}


def test_a_lock_file_that_was_removed_meanwhile_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "env" / "lock"
    path.parent.mkdir()
    first = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(first, fcntl.LOCK_EX)

    def remove(_: str) -> None:
        if path.exists():
            path.unlink()
            path.parent.rmdir()
            os.close(first)

    with pytest.raises(Failure, match="there is no environment lab"), locked(path, "lab", OWNER, 5, remove):
        pass
    assert not path.parent.exists()


# ── progress ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_line_of_progress() -> None:
    assert json.loads(line("environment", "downloading é", 12.34, 250.1, 1795362415.376)) == {
        "step": "environment",
        "text": "downloading é",
        "done_mib": 12.3,
        "total_mib": 250.1,
        "at": 1795362415.38,
    }


def test_progress_is_written_seldom_and_removed_at_the_end(tmp_path: Path) -> None:
    stale = tmp_path / "run" / "old.progress"
    stale.parent.mkdir()
    stale.write_text("")
    os.utime(stale, (0, 0))
    with Progress(tmp_path / "run", "run/../1", "environment") as progress:
        for number in range(50):
            progress.say("downloading", float(number), 50.0)
        progress.say("installing")
        (path,) = (tmp_path / "run").iterdir()
        assert path.name == "run____1.progress"
        texts = [json.loads(text)["text"] for text in path.read_text().splitlines()]
    assert texts == ["downloading", "installing"]
    assert list((tmp_path / "run").iterdir()) == []


def test_progress_that_cannot_be_written_is_not_a_failure(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with Progress(tmp_path / "run", "r", "environment") as progress:
        progress.say("downloading")


# ── children ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_is_heard_and_its_status_returned() -> None:
    heard: list[tuple[str, bytes]] = []
    status = run(["sh", "-c", "echo out; echo err >&2; exit 3"], env=os.environ, hear=lambda *one: heard.append(one))
    assert status == 3
    assert sorted(heard) == [("err", b"err\n"), ("out", b"out\n")]


def test_a_terminal_is_wide_and_high() -> None:
    heard = bytearray()
    status = run(["stty", "size"], env=os.environ, hear=lambda _, data: heard.extend(data), terminal=True)
    # stty looks at its standard input, which is none
    assert status != 0
    status = run(["sh", "-c", "stty size <&1"], env=os.environ, hear=lambda _, data: heard.extend(data), terminal=True)
    assert (status, heard.splitlines()[-1]) == (0, b"200 500")


def test_a_child_that_takes_too_long_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    argv = ["sh", "-c", f"(sleep 1; touch '{mark}') & sleep 60"]
    begun = time.monotonic()
    assert run(argv, env=os.environ, hear=lambda *_: None, timeout_s=0.3) == 124
    assert time.monotonic() - begun < 5
    time.sleep(1.2)
    assert not mark.exists()


def test_a_child_that_leaves_children_with_its_output_does_not_hold_us(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    status = run(["sh", "-c", f"(sleep 5; touch '{mark}') & echo hi"], env=os.environ, hear=lambda *_: None)
    assert status == 0
    assert not mark.exists(), "run waited for the child's child"
    time.sleep(5.3)
    assert not mark.exists(), "the child's child lived on"


def test_no_descriptor_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for terminal in (True, False):
        run(["true"], env=os.environ, hear=lambda *_: None, terminal=terminal)
        with pytest.raises(OSError, match="No such file"):
            run(["/no/such/program"], env=os.environ, hear=lambda *_: None, terminal=terminal)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_run_and_its_child(number: int, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def hear(_: str, data: bytes) -> None:
        pid_file.write_bytes(data)
        os.kill(os.getpid(), number)

    with pytest.raises(Interrupted), stoppable():
        run(["sh", "-c", "echo $$; sleep 60"], env=os.environ, hear=hear)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)
