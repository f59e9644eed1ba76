"""Reading hosts over a real sshd: all at once, and what goes wrong stays with its host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from sshd import ADDRESS, Sshd, free_port

from provision.catalog.load import chips
from provision.detect.host import host_facts
from provision.model.host import LOCALHOST, Host
from provision.model.report import Progress
from provision.run.observe import observe
from provision.run.ssh import run_script

MakeSshd = Callable[..., Sshd]


def refused(name: str) -> Host:
    return Host(name=name, connection="ssh", address=ADDRESS, port=free_port())


@pytest.mark.ssh
def test_a_host_over_ssh_has_the_readings_of_this_machine(sshd: MakeSshd, control_dir: str) -> None:
    server = sshd()
    remote, local = observe([server.host(), LOCALHOST], control_dir=control_dir)
    assert remote.failure is None
    assert local.failure is None
    assert remote.readings is not None
    assert local.readings is not None
    assert remote.readings.files.keys() - {"environments"} == local.readings.files.keys() - {"environments"}
    assert host_facts(remote.readings, chips(), host="box").cpu == host_facts(local.readings, chips(), host="box").cpu
    assert server.accepted() == 1  # one round trip, one login


@pytest.mark.ssh
def test_failures_stay_with_their_host_and_order_is_kept(sshd: MakeSshd, control_dir: str) -> None:
    server = sshd()
    unknown = sshd()
    unknown.known_hosts.write_text("")
    hosts = [refused("off"), server.host("good"), unknown.host("unknown"), server.host("again")]
    events: list[Progress] = []
    found = observe(hosts, control_dir=control_dir, on_event=events.append)
    assert [each.host.name for each in found] == ["off", "good", "unknown", "again"]
    assert [each.failure.kind if each.failure else None for each in found] == [
        "refused",
        None,
        "host_key_unknown",
        None,
    ]
    assert [each.readings is not None for each in found] == [False, True, False, True]
    ends = {event.host: (event.kind, event.text) for event in events if event.kind != "step"}
    assert ends["good"] == ("done", "")
    assert ends["off"] == ("failed", "off refused the connection")
    assert sum(event.kind == "step" for event in events) == 4


@pytest.mark.ssh
def test_a_noisy_login_does_not_break_the_frames(sshd: MakeSshd, control_dir: str) -> None:
    server = sshd("Banner /etc/os-release")
    noise = "echo Welcome to the box; printf '\\377\\376 no line end:'; echo complaint >&2\n"
    for name in (".bashrc", ".zshenv", ".profile"):
        (server.home / name).write_text(noise)
    heard = run_script(server.host(), "echo real", control_dir=control_dir)
    if "Welcome" not in heard.stdout:
        pytest.skip("the login shell of this user reads no file in its home when sshd starts it")
    assert heard.stdout.endswith("no line end:real\n")
    quiet, noisy = sshd().host("quiet"), server.host("noisy")
    first, second = observe([quiet, noisy], control_dir=control_dir)
    assert first.readings is not None
    assert second.readings is not None
    assert first.readings.files.keys() == second.readings.files.keys()
    assert first.readings.text("proc_cpuinfo") is not None


@pytest.mark.ssh
@pytest.mark.parametrize(
    ("forced", "why"),
    [
        ("echo 'git only, no shell here'", "asked for `sh -s`, it answered with status 0:\ngit only, no shell here"),
        ("exit 7", "asked for `sh -s`, it answered with status 7 and no text"),
        ("cat", "asked for `sh -s`, it answered with status 0:\nprovision_main() {\n:\nprintf '\\n'"),
    ],
)
def test_a_forced_command(sshd: MakeSshd, control_dir: str, forced: str, why: str) -> None:
    (found,) = observe([sshd(f"ForceCommand {forced}").host()], control_dir=control_dir)
    assert found.readings is None
    assert found.failure is not None
    assert (found.failure.kind, found.failure.exit_code) == ("no_shell", 4)
    assert found.failure.what == "box let us in, but did not run a shell for us"
    assert found.failure.why.startswith(why)
    assert "without a forced command (command= in its authorized_keys" in found.failure.hint


@pytest.mark.ssh
def test_an_account_without_a_shell(sshd: MakeSshd, control_dir: str) -> None:
    (found,) = observe([sshd("ForceCommand /usr/sbin/nologin").host()], control_dir=control_dir)
    assert found.failure is not None
    assert (found.failure.kind, found.failure.what) == ("no_shell", "box let us in, but gives no shell")
    assert found.failure.why == "This account is currently not available"
    assert found.failure.hint == "use an account with a POSIX shell"


@pytest.mark.ssh
def test_a_connection_that_breaks_in_the_middle(sshd: MakeSshd, control_dir: str) -> None:
    """The host's own shell is killed after the first readings."""
    script = "sed '/^ *memory$/i kill -9 $PPID; kill -9 0' | sh"
    (found,) = observe([sshd(f"ForceCommand {script}").host()], control_dir=control_dir)
    assert found.readings is None
    assert found.failure is not None
    assert found.failure.what == "box: the host was not read to the end"
    assert found.failure.kind == "connection_lost"
    assert found.failure.why.startswith("its output stops in the reading ")
    assert found.failure.hint.startswith("try again")


@pytest.mark.ssh
def test_ctrl_c_stops_all_hosts_at_once(sshd: MakeSshd, control_dir: str) -> None:
    server = sshd("ForceCommand sleep 20")
    cancel = threading.Event()
    threading.Timer(1, cancel.set).start()
    started = time.monotonic()
    found = observe([server.host(f"h{number}") for number in range(4)], control_dir=control_dir, cancel=cancel)
    assert time.monotonic() - started < 5
    for each in found:
        assert each.failure is not None
        assert (each.failure.kind, each.failure.exit_code) == ("interrupted", 130)
        assert each.failure.why == f"{each.host.name} was not read to the end; nothing was changed"
    assert observe([LOCALHOST], control_dir=control_dir, cancel=cancel)[0].failure is not None


def test_a_host_that_cannot_even_be_tried(control_dir: str) -> None:
    broken = Host(name="box", connection="ssh", address="b", variables={"ansible_ssh_args": "'"})
    (found,) = observe([broken], control_dir=control_dir)
    assert found.failure is not None
    assert (found.failure.what, found.failure.exit_code) == ("ansible_ssh_args of box cannot be read", 2)


def test_no_host_is_no_observation(control_dir: str) -> None:
    assert observe([], control_dir=control_dir) == ()
