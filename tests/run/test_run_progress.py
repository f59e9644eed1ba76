"""The side channel: lines of a progress file become events, and its failures stay its own."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from provision.model.host import LOCALHOST, Host
from provision.model.report import BuildProgress, Progress
from provision.run import progress


def test_a_line() -> None:
    line = json.dumps({"step": "environment", "text": "12/32 packages", "done_mib": 120, "total_mib": 320.5, "at": 1})
    assert progress.parsed("box", line) == Progress(
        host="box", kind="progress", step="Make the generation", text="12/32 packages", done_mib=120, total_mib=320.5
    )


@pytest.mark.parametrize("line", ['{"step": "envir', "[]", "7", "", '"text"', '{"step": null, "done_mib": "x"}'])
def test_a_broken_line_is_no_error(line: str) -> None:
    found = progress.parsed("box", line)
    assert found is None or found.done_mib is None


def wait_for(events: list[Progress], text: str) -> None:
    deadline = time.monotonic() + 5
    while not any(event.text == text for event in events):
        assert time.monotonic() < deadline, events
        time.sleep(0.02)


def test_a_local_file_that_comes_grows_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    events: list[Progress] = []
    file = tmp_path / "provision" / "run" / "r1.progress"
    with progress.watched([LOCALHOST], "r1", "/nowhere", events.append):
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"step": "uv", "text": "one"}) + "\n")
        wait_for(events, "one")
        with file.open("a") as more:
            more.write(json.dumps({"step": "uv", "text": "two"}) + "\n")
        wait_for(events, "two")
        file.unlink()
        time.sleep(0.4)
        file.write_text(json.dumps({"step": "uv", "text": "three"}) + "\n")
        wait_for(events, "three")
    assert [event.text for event in events] == ["one", "two", "three"]


def test_a_relative_data_home_is_not_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert progress.local_file("r1") == tmp_path / ".local/share/provision/run/r1.progress"


def test_a_host_that_cannot_be_reached_loses_progress_only() -> None:
    events: list[Progress] = []
    begun = time.monotonic()
    hosts = [Host(name="nowhere", connection="ssh", address="127.0.0.1", port=9), Host(name="c", connection="other")]
    with progress.watched(hosts, "r1", "/nowhere", events.append):
        time.sleep(0.2)
    assert time.monotonic() - begun < 10
    assert events == []
    assert threading.active_count() < 20


def test_a_line_of_a_build() -> None:
    build = {
        "done": 3041, "total": 14094, "cached": 120, "running": 8, "elapsed_s": 252.4, "remaining_s": None,
        "guess": False,
    }  # fmt: skip
    found = progress.parsed("box", json.dumps({"step": "source_build", "text": "Compiling x.cc", "build": build}))
    assert found == Progress(
        host="box", kind="progress", step="Build the wheel", text="Compiling x.cc", build=BuildProgress(**build)
    )


@pytest.mark.parametrize(
    "build", [None, 7, [], {}, {"done": "x", "elapsed_s": 1}, {"done": float("nan"), "elapsed_s": 1}, {"done": 1}]
)
def test_a_build_that_says_nothing_is_only_a_line(build: object) -> None:
    found = progress.parsed("box", json.dumps({"step": "source_build", "text": "t", "build": build}))
    assert found is not None
    assert (found.text, found.build) == ("t", None)


def test_what_a_build_does_not_say_is_not_known() -> None:
    found = progress.parsed("box", json.dumps({"build": {"done": 1, "elapsed_s": 2, "remaining_s": float("inf")}}))
    assert found is not None
    assert found.build == BuildProgress(
        done=1, total=None, cached=0, running=0, elapsed_s=2, remaining_s=None, guess=True
    )
