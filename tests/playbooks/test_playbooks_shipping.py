"""Files that come from this machine: what a run leaves where it is stopped, and what the next one removes."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_shipping import ship
from playbook_site import Site
from playbook_target import Target, kill_marked, marked


def wanted(source: Path) -> dict[str, Any]:
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    return {"src": str(source), "dest": "bin/tool", "sha256": sha256, "mode": "0755", "staged": None, "local": True}


def aged(path: Path, age_s: float) -> None:
    os.utime(path, (time.time() - age_s,) * 2)


def test_a_copy_that_is_stopped_leaves_nothing(target: Target, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 30)  # takes a second to copy and to read again
    mark = str(target.root)
    site = Site(target, tmp_path)
    variables = site.variables(
        target.plan(""), provision_run_id=mark, provision_uv_binary=str(large), provision_uv_sha256="0" * 64
    )
    play = threading.Thread(target=site.play, args=("site.yml", {"one": variables}))
    play.start()
    deadline = time.monotonic() + 30
    while not list(target.layout.incoming.glob("here-*/*")):
        assert play.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    kill_marked(mark, signal.SIGTERM)
    play.join(20)
    result = site.result("Bring the uv program")
    assert (result["kind"], result["why"]) == ("interrupted", "SIGTERM")
    assert result["what"] == "stopped while putting a file in its place"
    assert list(target.layout.incoming.iterdir()) == []
    assert marked(mark) == []


@pytest.mark.parametrize("there", [False, True], ids=["missing", "there already"])
def test_what_killed_runs_left_is_removed_after_an_hour(target: Target, tmp_path: Path, there: bool) -> None:
    source = tmp_path / "tool"
    source.write_text("#!/bin/sh")
    if there:
        ship(target.layout, [wanted(source)], False)
    incoming = target.layout.incoming
    for name, folder_s, file_s in (("here-old", 4000, 4000), ("here-slow", 4000, 10), ("here-new", 10, 10)):
        folder = incoming / name
        folder.mkdir(parents=True)
        (folder / "uv").write_text("half")
        aged(folder / "uv", file_s)
        aged(folder, folder_s)
    arriving = incoming / "Ab3dE6"  # over SSH: one file may take longer than an hour
    arriving.mkdir()
    aged(arriving, 4000)
    left = ["Ab3dE6", "here-new", "here-slow"]
    assert ship(target.layout, [wanted(source)], True)["changed"] is not there
    assert len(list(incoming.iterdir())) == 4
    assert ship(target.layout, [wanted(source)], False)["changed"] is not there
    assert sorted(path.name for path in incoming.iterdir()) == left
    assert (target.root / "bin" / "tool").read_text() == "#!/bin/sh"
