"""One play on this machine: results, progress, secrets, and nothing left after a cancel."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from provision.model.host import LOCALHOST, Host
from provision.model.report import Progress
from provision.run import ansible, play_files
from provision.run.play_events import HostResult
from provision.run.reap import reap_here


def run(
    playbook: Path,
    variables: Mapping[str, Any] | None = None,
    hosts: tuple[Host, ...] = (LOCALHOST,),
    on_event: Callable[[Progress], None] = lambda _: None,
    cancel: threading.Event | None = None,
    **more: Any,
) -> ansible.PlayResult:
    return ansible.play(
        playbook,
        hosts,
        {host.name: variables or {} for host in hosts},
        on_event=on_event,
        cancel=cancel or threading.Event(),
        control_dir=str(playbook.parent / "cp"),
        **more,
    )


def only(result: ansible.PlayResult) -> HostResult:
    (found,) = result.results.values()
    return found


def processes_with(text: str, file: str) -> list[str]:
    """Pids whose /proc/PID/``file`` holds ``text``."""
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        if text.encode() in content and path.parent.name != str(os.getpid()):
            found.append(path.parent.name)
    return found


def test_results_progress_and_text_that_looks_like_a_template(runtime: Path, book: Callable[[str], Path]) -> None:
    events: list[Progress] = []
    result = run(
        book("""
    - name: Say it
      ansible.builtin.debug: {msg: "{{ provision_plan.text }}"}
    - name: Change it
      ansible.builtin.command: {cmd: "true"}
    - name: Leave it out
      ansible.builtin.command: {cmd: "true"}
      when: false
"""),
        {"provision_plan": {"text": "{{ undefined }} {% raw"}},
        on_event=events.append,
    )
    host = only(result)
    assert host.status == "ok"
    assert [(step.id, step.title, step.status) for step in host.steps] == [
        ("", "Say it", "ok"),
        ("", "Change it", "changed"),
        ("", "Leave it out", "skipped"),
    ]
    assert host.data["Say it"]["msg"] == "{{ undefined }} {% raw"
    assert [(event.kind, event.step) for event in events][:4] == [
        ("step", "Say it"),
        ("done", "Say it"),
        ("step", "Change it"),
        ("changed", "Change it"),
    ]
    assert not list(runtime.iterdir())


def test_two_hosts_fail_apart(runtime: Path, book: Callable[[str], Path]) -> None:
    hosts = (LOCALHOST, Host(name="me@here:22", connection="local", user="me", port=22))
    playbook = book("""
    - name: Only one
      ansible.builtin.assert: {that: "provision_good", fail_msg: "it is not good"}
    - name: After it
      ansible.builtin.ping:
""")
    result = ansible.play(
        playbook,
        hosts,
        {"localhost": {"provision_good": True}, "me@here:22": {"provision_good": False}},
        on_event=lambda _: None,
        cancel=threading.Event(),
        control_dir="/nowhere",
    )
    good, bad = result.results["localhost"], result.results["me@here:22"]
    assert (good.status, bad.status) == ("ok", "failed")
    assert len(good.steps) == 2
    assert bad.failure is not None
    assert bad.failure.what == "'Only one' failed"
    assert "it is not good" in bad.failure.why
    assert bad.failure.exit_code == 5


def test_a_playbook_that_cannot_start_says_why(runtime: Path, book: Callable[[str], Path]) -> None:
    host = only(run(book("    - no_such_module_anywhere: {}\n")))
    assert host.status == "failed"
    assert host.failure is not None
    assert "couldn't resolve module/action" in host.failure.why


def test_a_long_result_arrives_whole(runtime: Path, book: Callable[[str], Path]) -> None:
    host = only(run(book("""
    - name: Talk
      ansible.builtin.debug: {msg: "{{ 'x' * 1000000 }}"}
""")))  # fmt: skip
    assert len(host.data["Talk"]["msg"]) == 1_000_000


def test_a_display_that_raises_ends_nothing(runtime: Path, book: Callable[[str], Path]) -> None:
    def raises(_: Progress) -> None:
        raise RuntimeError("a bug in the display")

    host = only(run(book("    - name: Ping\n      ansible.builtin.ping:\n"), on_event=raises))
    assert (host.status, len(host.steps)) == ("ok", 1)


def test_no_secret_and_no_environment_in_artefacts_argv_or_workers(
    runtime: Path, book: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_TOKEN", "hunter2-token")
    monkeypatch.setenv("LAB_PLAIN", "plain-value-of-the-environment")
    found: dict[str, Any] = {}

    def look(event: Progress) -> None:
        if event.kind != "step" or event.step != "Wait":
            return
        files = [path for path in runtime.rglob("*") if path.is_file()]
        found["files"] = {path.name: path.read_text(errors="replace") for path in files}
        found["modes"] = {path.name: path.stat().st_mode & 0o777 for path in runtime.rglob("*.json")}
        found["folders"] = [path.stat().st_mode & 0o777 for path in runtime.iterdir()]
        found["argv"] = processes_with("hunter2", "cmdline")
        found["environ"] = processes_with("hunter2-token", "environ")

    result = run(
        book("""
    - name: Wait
      ansible.builtin.command: {cmd: sleep 0.5}
    - name: Use it
      ansible.builtin.assert: {that: "lab_password == 'hunter2-password'"}
      no_log: true
"""),
        on_event=look,
        secrets={"lab_password": "hunter2-password"},
        become_password="hunter2-become",  # noqa: S106 - made up
    )
    assert only(result).status == "ok"
    assert found["folders"] == [0o700]
    assert found["modes"]["inventory.json"] == found["modes"]["extra.json"] == 0o600
    assert [name for name, text in found["files"].items() if "plain-value" in text] == []
    assert [name for name, text in found["files"].items() if "hunter2" in text] == ["extra.json"]
    assert found["argv"] == []
    assert found["environ"] == []
    assert "hunter2" not in json.dumps(only(result).data)
    assert not list(runtime.iterdir())


def test_cancelling_leaves_nothing_running(runtime: Path, book: Callable[[str], Path]) -> None:
    cancel = threading.Event()
    started = threading.Event()

    def cancel_soon(event: Progress) -> None:
        if event.step == "Sleep" and not started.is_set():
            started.set()
            threading.Timer(0.7, cancel.set).start()

    hosts = tuple(Host(name=f"box{number}", connection="local") for number in range(4))
    playbook = book("""
    - name: Sleep
      ansible.builtin.shell: {cmd: "trap '' HUP; sleep 61 & sleep 62"}
    - name: Never
      ansible.builtin.ping:
""")
    result = run(playbook, hosts=hosts, on_event=cancel_soon, cancel=cancel, run_id="rcancelled1")
    assert result.cancelled
    assert result.unreaped == ()
    assert {host.status for host in result.results.values()} == {"cancelled"}
    assert {host.running for host in result.results.values()} == {"Sleep"}
    assert processes_with("PROVISION_RUN=rcancelled1", "environ") == []
    assert not list(runtime.iterdir())


def test_cancelling_is_quick_at_any_moment(runtime: Path, book: Callable[[str], Path]) -> None:
    playbook = book("    - name: Sleep\n      ansible.builtin.command: {cmd: sleep 63}\n")
    for moment in (0.0, 0.2, 0.6, 1.0):
        cancel = threading.Event()
        threading.Timer(moment, cancel.set).start()
        run_id = f"rmoment{int(moment * 10)}"
        begun = time.monotonic()
        result = run(playbook, cancel=cancel, run_id=run_id)
        assert time.monotonic() - begun - moment < 3
        assert only(result).status == "cancelled"
        assert processes_with(f"PROVISION_RUN={run_id}", "environ") == []


def test_the_signal_handlers_stay_ours(runtime: Path, book: Callable[[str], Path]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(book("    - name: Ping\n      ansible.builtin.ping:\n"))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_check_mode_and_tags_reach_ansible(runtime: Path, book: Callable[[str], Path]) -> None:
    playbook = book("""
    - name: Make
      ansible.builtin.file: {path: "{{ provision_plan }}", state: directory}
    - name: Look
      ansible.builtin.ping:
      tags: verify
""")
    made = playbook.parent / "made"
    assert only(run(playbook, {"provision_plan": str(made)}, check=True)).steps[0].status == "changed"
    assert not made.exists()
    tagged = only(run(playbook, {"provision_plan": str(made)}, tags=["verify"]))
    assert [step.title for step in tagged.steps] == ["Look"]


def test_the_users_inventory_is_used_as_it_is(runtime: Path, book: Callable[[str], Path]) -> None:
    playbook = book("    - name: Say\n      ansible.builtin.debug: {msg: '{{ lab }} {{ rack }}'}\n")
    inventory = playbook.parent / "hosts.ini"
    inventory.write_text("[lab]\nbox ansible_connection=local rack=7\n[lab:vars]\nlab=physics\n")
    box = Host(name="box", connection="local", variables={"ansible_connection": "local"})
    result = run(playbook, hosts=(box,), inventory_sources=[str(inventory)])
    assert only(result).data["Say"]["msg"] == "physics 7"


def test_a_folder_of_a_killed_run_is_removed_by_the_next(runtime: Path) -> None:
    stale = runtime / "provision-999999999-left"
    stale.mkdir()
    alive = runtime / f"provision-{os.getppid()}-other"
    alive.mkdir()
    with play_files.private_folder() as folder:
        assert folder.parent == runtime
        assert not stale.exists()
        assert alive.exists()
    assert not folder.exists()


def test_names_that_are_not_plain_get_a_plain_one() -> None:
    names = ["localhost", "me@box:2222", "me_box_2222", "gpu-01.lab", "a b; rm -rf /"]
    given = play_files.aliases([Host(name=name, connection="ssh") for name in names])
    assert given == {
        "localhost": "localhost",
        "me@box:2222": "me_box_2222",
        "me_box_2222": "me_box_2222_2",
        "gpu-01.lab": "gpu-01.lab",
        "a b; rm -rf /": "a_b__rm_-rf__",
    }


def test_how_a_host_is_reached_is_in_our_inventory() -> None:
    host = Host(name="a", connection="ssh", address="10.0.0.1", port=2222, user="me")
    assert play_files.inventory([host], {"a": "a"})["provision_targets"]["hosts"]["a"] == {
        "ansible_connection": "ssh",
        "ansible_host": "10.0.0.1",
        "ansible_port": 2222,
        "ansible_user": "me",
        "ansible_python_interpreter": "auto_silent",
    }


def test_what_the_inventory_says_about_a_connection_stands() -> None:
    host = Host(name="a", connection="ssh", address="10.0.0.1", variables={"ansible_host": "{{ base }}.1"})
    data = play_files.inventory([host], {"a": "a"})
    assert "ansible_host" not in data["provision_targets"]["hosts"]["a"]


def test_host_keys_are_checked_whatever_the_inventory_says(tmp_path: Path) -> None:
    lax = Host(name="a", connection="ssh", variables={"ansible_ssh_args": "-C -o StrictHostKeyChecking=no"})
    variables = play_files.inventory([lax], {"a": "a"})["provision_targets"]["hosts"]["a"]
    assert variables["ansible_ssh_args"].endswith("-o StrictHostKeyChecking=yes -C -o StrictHostKeyChecking=no")
    assert play_files.settings(tmp_path, "/cp", {})["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert play_files.own_variables() == {"ansible_host_key_checking": True, "ansible_ssh_host_key_checking": True}


@pytest.mark.parametrize("name", ["GITHUB_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "UV_INDEX_LAB_PASSWORD"])
def test_variables_that_hold_secrets_are_kept_back(name: str) -> None:
    assert play_files.secret_names({name: "x", "PATH": "/bin", "ANSIBLE_VAULT_PASSWORD_FILE": "f"}) == (name,)


def test_reaping_nothing_is_fine() -> None:
    assert reap_here("rnosuchrun")
