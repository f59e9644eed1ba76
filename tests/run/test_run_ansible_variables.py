"""What the playbook is told reaches each host as it is, whatever the user's inventory says."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provision import assets
from provision.model.host import LOCALHOST, Host
from provision.run import ansible, play_files

LEFT_OUT = {"provision_uv_sha256": "", "provision_wheels": [], "provision_uv_environment": {}}


def test_what_every_host_shares_is_written_once() -> None:
    hosts = [Host(name="me@a", connection="ssh"), Host(name="b", connection="ssh")]
    variables = {"me@a": {"same": "{{ text }}", "own": 1, "only": "{{ x }}"}, "b": {"same": "{{ text }}", "own": 2}}
    given = play_files.given(hosts, variables, {"me@a": "me_a", "b": "b"}, {"provision_run_id": "r1"})
    assert given.pop("provision_by_host") == {
        "me_a": {"own": 1, "only": {"__ansible_unsafe": "{{ x }}"}},
        "b": {"own": 2},
    }
    assert given == {
        "same": {"__ansible_unsafe": "{{ text }}"},
        "own": "{{ provision_by_host[inventory_hostname].own }}",
        "only": "{{ provision_by_host[inventory_hostname].only }}",
        "provision_run_id": "r1",
        "provision_uv_sha256": {"__ansible_unsafe": ""},
        "provision_uv_environment": {},
        "provision_wheels": [],
    }


def test_the_values_of_a_host_reach_it_as_they_are(runtime: Path, book: Callable[[str], Path]) -> None:
    hosts = (LOCALHOST, Host(name="me@here:22", connection="local", user="me", port=22))
    here = {"provision_plan": {"text": "{{ a }} {% b", "list": [1, None, True]}, "provision_generation": 3}
    there = {"provision_plan": {"text": "c"}, "provision_generation": None, "provision_only": "{{ d }}"}
    result = ansible.play(
        book("""
    - name: Say
      ansible.builtin.debug:
        msg:
          - "{{ provision_plan }}"
          - "{{ provision_generation | default(9) }}"
          - "{{ provision_generation | default(9, true) }}"
          - "{{ provision_only | default('nothing') }}"
"""),
        hosts,
        {hosts[0].name: here, hosts[1].name: there},
        on_event=lambda _: None,
        cancel=threading.Event(),
        control_dir="/nowhere",
    )
    said = [result.results[host.name].data["Say"]["msg"] for host in hosts]
    assert said == [[here["provision_plan"], 3, 3, "nothing"], [there["provision_plan"], None, 9, "{{ d }}"]]


def taken(playbook: Path) -> list[str]:
    """The variables of ours that a playbook reads."""
    return sorted(set(re.findall(r"\bprovision_(?!targets\b|environment:|change\.)\w+", playbook.read_text())))


def test_the_users_variables_change_none_of_ours(runtime: Path, book: Callable[[str], Path]) -> None:
    names = taken(assets.folder("playbooks") / "site.yml")
    assert {"provision_plan", "provision_generation", "provision_run_id", "provision_uv_sha256"} <= set(names)
    theirs: dict[str, Any] = {name: f"theirs {name}" for name in [*names, "provision_by_host"]}
    playbook = book("".join(f"    - name: {n}\n      ansible.builtin.debug: {{var: {n}}}\n" for n in names))
    folder = playbook.parent / "lab"
    for place in ("host_vars/n1.json", "group_vars/all.json", "group_vars/provision_targets.json"):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(json.dumps(theirs))
    (folder / "hosts.json").write_text(
        json.dumps({"all": {"hosts": {"n1": {"ansible_connection": "local", **theirs}, "n2": theirs}, "vars": theirs}})
    )
    hosts = (
        Host(name="n1", connection="local", variables={"ansible_connection": "local", **theirs}),
        Host(name="n2", connection="local"),
    )
    # as in a run that only verifies: `prepare` gives nothing. Half of it differs from host to host
    left_out = {*play_files.LEFT_OUT, "provision_run_id"}
    ours = {
        host.name: {name: f"ours {number * (index % 2)}" for index, name in enumerate(names) if name not in left_out}
        for number, host in enumerate(hosts)
    }
    result = ansible.play(
        playbook,
        hosts,
        ours,
        inventory_sources=[str(folder / "hosts.json")],
        on_event=lambda _: None,
        cancel=threading.Event(),
        control_dir="/nowhere",
        run_id="rours",
    )
    for host in hosts:
        seen = {name: result.results[host.name].data[name][name] for name in names}
        assert seen == {**ours[host.name], "provision_run_id": "rours", **LEFT_OUT}


def test_hosts_that_were_not_asked_about_are_left_alone(
    runtime: Path, book: Callable[[str], Path], tmp_path: Path
) -> None:
    inventory = tmp_path / "hosts.json"
    stranger = {"stranger": {"ansible_connection": "local"}}
    inventory.write_text(json.dumps({"provision_targets": {"hosts": stranger}}))
    mark = tmp_path / "was-here"
    ansible.play(
        book(f"""
    - name: Leave a mark
      ansible.builtin.command: touch {mark}-{{{{ inventory_hostname }}}}
"""),
        (LOCALHOST,),
        {LOCALHOST.name: {}},
        inventory_sources=[str(inventory)],
        on_event=lambda _: None,
        cancel=threading.Event(),
        control_dir="/nowhere",
    )
    assert [path.name for path in tmp_path.glob("was-here-*")] == ["was-here-localhost"]
