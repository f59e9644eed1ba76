"""ssh against a real sshd on loopback: what arrives, what is refused, what is left behind."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sshd import ADDRESS, Sshd, free_port, make_key

from provision.errors import StepFailed, UsageError
from provision.model.host import LOCALHOST, Host
from provision.model.report import Failure
from provision.run import command
from provision.run.ssh import (
    LONGEST_FOLDER,
    ControlDir,
    arguments,
    called,
    close_masters,
    explain_ssh_failure,
    run_script,
    start_script,
    whole,
)

MakeSshd = Callable[..., Sshd]
SCRIPT = 'printf "<%s>" "$@"; cat; echo " $#"; echo story >&2; exit 3'
WORDS = ("a b", "-n", "$(id)", "it's", "", 'q"`\\', "über\nzwei")


def failed(host: Host, control_dir: str) -> Failure:
    done = run_script(host, "true", control_dir=control_dir, timeout_s=15)
    assert done.status == 255, done
    return explain_ssh_failure(host, done.stderr)


def test_arguments_of_a_plain_host() -> None:
    host = Host(name="me@[::1]:2222", connection="ssh", address="::1", port=2222, user="me")
    argv = arguments(host, "/run/pv-1")
    assert argv[0] == "ssh"
    assert argv[-6:] == ("-l", "me", "-p", "2222", "--", "::1")
    settings = argv[argv.index("-o") + 1 : -6 : 2]
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "ControlMaster=auto", "ControlPersist=60s"} <= set(settings)
    assert {"ControlPath=/run/pv-1/%C", "ConnectTimeout=10"} <= set(settings)


def test_arguments_of_a_host_of_an_inventory() -> None:
    variables = {
        "ansible_ssh_executable": "/opt/ssh",
        "ansible_ssh_private_key_file": "~/keys/lab",
        "ansible_ssh_args": "-C",
        "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -J 'jump host'",
        "ansible_ssh_extra_args": "-v",
        "ansible_timeout": 42,
    }
    argv = arguments(Host(name="b", connection="ssh", address="b.lab", variables=variables), "/run/pv-1")
    assert argv[0] == "/opt/ssh"
    assert "ConnectTimeout=42" in argv
    key = str(Path("~/keys/lab").expanduser())
    tail = ("-i", key, "-C", "-o", "StrictHostKeyChecking=no", "-J", "jump host", "-v", "--", "b.lab")
    assert argv[-len(tail) :] == tail
    assert argv.index("StrictHostKeyChecking=yes") < argv.index("StrictHostKeyChecking=no")  # ssh takes the first


def test_arguments_with_quotes_that_do_not_close() -> None:
    host = Host(name="b", connection="ssh", address="b", variables={"ansible_ssh_common_args": "-J 'jump"})
    with pytest.raises(UsageError) as caught:
        arguments(host, "/run/pv-1")
    assert caught.value.what == "ansible_ssh_common_args of b cannot be read"
    assert caught.value.why == "No closing quotation in -J 'jump"
    assert caught.value.hint == "correct the quotes in the inventory"


def test_a_script_that_arrives_in_part_does_not_run(tmp_path: Path) -> None:
    script = "".join(f"touch {shlex.quote(str(tmp_path))}/{number}\n" for number in range(50))
    sent = whole(script) + called(())
    for length in (20, len(sent) // 2, len(whole(script)) - 3, len(whole(script))):
        command.run(["sh", "-s"], stdin=sent[:length])
        assert list(tmp_path.iterdir()) == []
    assert command.run(["sh", "-s"], stdin=sent).ok
    assert len(list(tmp_path.iterdir())) == 50


def test_a_script_on_this_machine(control_dir: str) -> None:
    done = run_script(LOCALHOST, SCRIPT, *WORDS, control_dir=control_dir)
    assert (done.status, done.stdout) == (3, "".join(f"<{word}>" for word in WORDS) + " 7\n")


@pytest.mark.ssh
def test_a_script_gets_its_words_and_gives_back_all(sshd: MakeSshd, control_dir: str) -> None:
    done = run_script(sshd().host(), SCRIPT, *WORDS, control_dir=control_dir, timeout_s=20)
    assert done.stdout == "".join(f"<{word}>" for word in WORDS) + " 7\n"
    assert (done.status, done.stderr) == (3, "story\n")


@pytest.mark.ssh
def test_one_connection_serves_all_and_is_closed_at_the_end(sshd: MakeSshd) -> None:
    server = sshd()
    with ControlDir() as control_dir:
        for _ in range(3):
            assert run_script(server.host(), "true", control_dir=control_dir, timeout_s=20).ok
        assert server.accepted() == 1
        (control_socket,) = Path(control_dir).iterdir()
        assert stat.S_IMODE(Path(control_dir).stat().st_mode) == 0o700
    assert not control_socket.exists()
    assert not Path(control_dir).exists()
    assert no_process_has(control_dir)
    with ControlDir() as control_dir:
        assert run_script(server.host(), "true", control_dir=control_dir, timeout_s=20).ok
        assert server.accepted() == 2
        close_masters(control_dir)
        assert list(Path(control_dir).iterdir()) == []


@pytest.mark.ssh
def test_what_a_killed_run_left_is_closed_by_the_next(sshd: MakeSshd, tmp_path: Path) -> None:
    parent = Path(f"/tmp/pvt{os.getpid()}")
    parent.mkdir(mode=0o700)
    try:
        server = sshd()
        killed = ControlDir([str(parent)])
        alive = ControlDir([str(parent)])
        for each in (killed, alive):
            assert run_script(server.host(), "true", control_dir=each.__enter__(), timeout_s=20).ok
        os.close(killed._lock)  # as the kernel does for a process that is killed
        with ControlDir([str(parent)]):
            assert Path(killed.path).exists()  # it may be one that is just being made
        for each in (killed, alive):
            os.utime(each.path, (0, 0))
        with ControlDir([str(parent)]) as control_dir:
            assert sorted(map(str, parent.iterdir())) == sorted([alive.path, control_dir])
        assert no_process_has(killed.path)
        assert not no_process_has(alive.path)
        alive.__exit__(None, None, None)
    finally:
        parent.rmdir()


def no_process_has(control_dir: str) -> bool:
    """ssh masters call themselves after their socket. They may take a moment to end."""
    deadline = time.monotonic() + 3
    while command.run(["pgrep", "-f", f"ssh: {control_dir}/"]).ok:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_control_dir_is_short_even_where_tmpdir_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("d" * 100)
    spaced = Path("/tmp/a b")
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with ControlDir([str(spaced), "relative", "/nowhere"]) as control_dir:
        assert len(control_dir) <= LONGEST_FOLDER
        assert fcntl.flock is not None
        with socket.socket(socket.AF_UNIX) as control:  # the longest name that ssh makes on its way
            control.bind(f"{control_dir}/{'c' * 40}.{'x' * 16}")


def test_no_folder_is_short_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.run.ssh.os.access", lambda *_: False)
    with pytest.raises(UsageError) as caught:
        ControlDir().__enter__()
    assert caught.value.what == "there is no folder for the sockets of SSH connections"
    assert "none is writable and has at most 33 plain characters" in caught.value.why
    assert caught.value.hint == "set TMPDIR to a folder with a short path that you may write to"


@pytest.mark.ssh
def test_a_stream_is_read_as_it_grows_and_ends_there_too(sshd: MakeSshd, tmp_path: Path, control_dir: str) -> None:
    alive = tmp_path / "alive"
    script = 'while :; do echo "line $1"; date +%s%N >"$2"; sleep 0.05; done'
    with start_script(sshd().host(), script, "it's", str(alive), control_dir=control_dir) as process:
        assert [process.stdout.readline() for _ in range(3)] == ["line it's\n"] * 3
    assert_stands_still(alive)


@pytest.mark.ssh
def test_a_silent_stream_ends_when_this_process_does(sshd: MakeSshd, tmp_path: Path, control_dir: str) -> None:
    """The remote end prints nothing, so no broken pipe tells it: the end of its standard input does."""
    alive = tmp_path / "alive"
    script = 'echo started; while :; do date +%s%N >"$1"; sleep 0.05; done'
    process = start_script(sshd().host(), script, str(alive), control_dir=control_dir)
    assert process.stdout.readline() == "started\n"
    process.kill()
    assert process.wait(5) == -9
    assert_stands_still(alive)
    process.__exit__(None, None, None)


@pytest.mark.ssh
def test_a_stream_ends_with_its_script(sshd: MakeSshd, control_dir: str) -> None:
    with start_script(sshd().host(), "echo one; echo two; exit 4", control_dir=control_dir) as process:
        assert list(process.stdout) == ["one\n", "two\n"]
        assert process.wait(5) == 4


def assert_stands_still(file: Path) -> None:
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        before = file.read_text()
        time.sleep(0.3)
        if file.read_text() == before:
            return
    raise AssertionError("it runs on after 3 s")


def test_a_stream_needs_ssh(control_dir: str) -> None:
    with pytest.raises(UsageError) as caught:
        start_script(Host(name="box", connection="other"), "true", control_dir=control_dir)
    assert caught.value.what == "box is reached only through Ansible"
    assert caught.value.why == "which does not stream output"


def test_a_program_that_is_not_there_cannot_be_started() -> None:
    with pytest.raises(StepFailed) as caught:
        command.start(["no-such-program"])
    assert (caught.value.what, caught.value.why) == ("cannot start no-such-program", "No such file or directory")


@pytest.mark.ssh
def test_an_unknown_key_is_refused_and_not_learnt(sshd: MakeSshd, control_dir: str) -> None:
    server = sshd()
    server.known_hosts.write_text("")
    host = server.host(ansible_ssh_extra_args="-o StrictHostKeyChecking=no")  # an inventory cannot switch it off
    failure = failed(host, control_dir)
    assert (failure.kind, failure.exit_code) == ("host_key_unknown", 4)
    assert failure.what == "the host key of box is not known here"
    assert failure.why.startswith(f"No ED25519 host key is known for [{ADDRESS}]:{server.port}")
    assert "provision never accepts a key unseen" in failure.why
    assert "`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`" in failure.hint
    assert f"connect once with `ssh -p {server.port} -i {server.key} -F none " in failure.hint
    assert f"`ssh-keyscan -p {server.port} {ADDRESS}` does not check anything" in failure.hint
    assert server.known_hosts.read_text() == ""
    assert server.accepted() == 0


@pytest.mark.ssh
def test_a_changed_key_names_the_line_and_its_remedy(sshd: MakeSshd, control_dir: str) -> None:
    server = sshd()
    server.stop()
    make_key(server.folder / "host_key")
    server.start()
    failure = failed(server.host(), control_dir)
    assert failure.kind == "host_key_changed"
    assert failure.what == "box shows another host key than the one known for it"
    assert failure.why.startswith(
        f"line 1 of {server.known_hosts} has its ED25519 key, and the host now has a different"
    )
    assert f'ssh-keygen -f "{server.known_hosts}" -R "[{ADDRESS}]:{server.port}"' in failure.hint.replace("'", '"')
    assert server.accepted() == 0


@pytest.mark.ssh
def test_a_key_that_the_host_does_not_want(sshd: MakeSshd, tmp_path: Path, control_dir: str) -> None:
    server = sshd()
    host = server.host(ansible_ssh_private_key_file=str(make_key(tmp_path / "other")))
    failure = failed(host, control_dir)
    assert (failure.kind, failure.what) == ("key_refused", "box refused the key")
    assert failure.why.endswith("Permission denied (publickey)")
    assert "~/.ssh/authorized_keys" in failure.hint


@pytest.mark.ssh
def test_a_key_file_that_is_not_there_or_no_key(sshd: MakeSshd, tmp_path: Path, control_dir: str) -> None:
    server = sshd()
    failure = failed(server.host(ansible_ssh_private_key_file=str(tmp_path / "gone")), control_dir)
    assert failure.kind == "key_file"
    assert failure.what == "the private key for box cannot be used"
    assert failure.why == f"Warning: Identity file {tmp_path}/gone not accessible: No such file or directory"
    open_key = make_key(tmp_path / "open")
    open_key.chmod(0o644)
    (server.folder / "authorized_keys").write_text(open_key.with_suffix(".pub").read_text())
    failure = failed(server.host(ansible_ssh_private_key_file=str(open_key)), control_dir)
    assert failure.kind == "key_file"
    assert "chmod 600" in failure.hint


@pytest.mark.ssh
def test_a_host_that_wants_a_password(sshd: MakeSshd, tmp_path: Path, control_dir: str) -> None:
    server = sshd("PasswordAuthentication yes", "PermitRootLogin yes")
    failure = failed(server.host(ansible_ssh_private_key_file=str(make_key(tmp_path / "other"))), control_dir)
    assert (failure.kind, failure.what) == ("password_wanted", "box accepted no key and wants a password")
    assert failure.why.endswith("Permission denied (publickey,password)")
    assert "ssh-copy-id" in failure.hint


@pytest.mark.ssh
def test_too_many_keys(sshd: MakeSshd, tmp_path: Path, control_dir: str) -> None:
    server = sshd("MaxAuthTries 1")
    wrong = make_key(tmp_path / "wrong")
    host = server.host(ansible_ssh_private_key_file=str(wrong), ansible_ssh_extra_args=f"-i {server.key}")
    failure = failed(host, control_dir)
    assert failure.kind == "too_many_auth_failures"
    assert failure.what == "box stopped listening after too many keys"
    assert "IdentitiesOnly" in failure.hint


def test_a_port_where_nothing_listens(control_dir: str) -> None:
    failure = failed(Host(name="box", connection="ssh", address=ADDRESS, port=free_port()), control_dir)
    assert (failure.kind, failure.what) == ("refused", "box refused the connection")
    assert "Connection refused: the machine is up, and nothing listens on that port" in failure.why
    assert "systemctl start ssh" in failure.hint


def test_a_name_that_nobody_knows(control_dir: str) -> None:
    failure = failed(Host(name="me@nosuch.invalid", connection="ssh", address="nosuch.invalid"), control_dir)
    assert (failure.kind, failure.what) == ("name_unknown", "the name nosuch.invalid is not known")
    assert failure.why.startswith("ssh: could not resolve hostname nosuch.invalid: ")
    assert failure.hint.startswith("check the spelling")


def test_a_server_that_never_answers(control_dir: str) -> None:
    with socket.create_server((ADDRESS, 0)) as silent:
        variables = {"ansible_timeout": 1}
        port = silent.getsockname()[1]
        host = Host(name="box", connection="ssh", address=ADDRESS, port=port, variables=variables)
        failure = failed(host, control_dir)
        assert (failure.kind, failure.what) == ("timed_out", "box did not answer in time")
        assert f"no firewall drops port {port}" in failure.hint
        done = run_script(replaced_timeout(host), "true", control_dir=control_dir, timeout_s=0.5)
    assert done.status == command.TIMED_OUT
    failure = explain_ssh_failure(host, done.stderr)
    assert (failure.kind, failure.why) == ("timed_out", "ssh: no answer within 0.5 s")


def replaced_timeout(host: Host) -> Host:
    return Host(name=host.name, connection="ssh", address=host.address, port=host.port)


def test_a_server_that_is_none(control_dir: str) -> None:
    with socket.create_server((ADDRESS, 0)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        failure = failed(Host(name="b", connection="ssh", address=ADDRESS, port=server.getsockname()[1]), control_dir)
    assert (failure.kind, failure.what) == ("connection_lost", "b closed the connection")
    assert "kex_exchange_identification" in failure.why
    assert "fail2ban" in failure.why


def test_there_is_no_ssh_here(control_dir: str) -> None:
    host = Host(name="b", connection="ssh", address="b", variables={"ansible_ssh_executable": "/nowhere/ssh"})
    done = run_script(host, "true", control_dir=control_dir)
    assert done.status == 127
    failure = explain_ssh_failure(host, done.stderr)
    assert (failure.kind, failure.why) == ("no_ssh_client", "/nowhere/ssh: No such file or directory")
    assert "apt install openssh-client" in failure.hint


@pytest.mark.ssh
@pytest.mark.parametrize("connected", [False, True])
def test_cancel_and_timeout_end_what_waits(sshd: MakeSshd, control_dir: str, connected: bool) -> None:
    """Through a master that is there already, or made on the way: it keeps the pipes of its clients open."""
    host = sshd().host()
    if connected:
        assert run_script(host, "true", control_dir=control_dir).ok
    cancel = threading.Event()
    threading.Timer(1, cancel.set).start()
    started = time.monotonic()
    done = run_script(host, "echo begun; sleep 8", control_dir=control_dir, cancel=cancel)
    assert (done.status, done.stdout) == (command.CANCELLED, "begun\n")
    done = run_script(host, "echo begun; sleep 8", control_dir=control_dir, timeout_s=1)
    assert (done.status, done.stdout) == (command.TIMED_OUT, "begun\n")
    assert time.monotonic() - started < 6
