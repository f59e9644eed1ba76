"""Texts that ssh, sudo and Ansible print (recorded), and what each is taken for. Live ones: test_run_ssh.py."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.model.host import Host
from provision.run.ssh import explain_ssh_failure
from provision.run.ssh_failures import FALLBACK, TABLE

BOX = Host(name="me@box:2222", connection="ssh", address="box", port=2222, user="me")
TEXTS = [
    # ssh's own
    ("ssh: connect to host box port 2222: No route to host", "no_route"),
    ("ssh: connect to host box port 2222: Network is unreachable", "no_route"),
    ("ssh: connect to host box port 2222: Connection timed out", "timed_out"),
    ("ssh: connect to host box port 2222: Operation timed out", "timed_out"),  # macOS
    ("Connection timed out during banner exchange\nConnection to 10.0.0.7 port 2222 timed out", "timed_out"),
    ("Timeout, server box not responding.", "timed_out"),
    ("ssh: Could not resolve hostname box: Temporary failure in name resolution", "name_unknown"),
    ("ssh: Could not resolve hostname box: nodename nor servname provided, or not known", "name_unknown"),
    ("Connection closed by 10.0.0.7 port 2222", "connection_lost"),
    ("kex_exchange_identification: read: Connection reset by peer", "connection_lost"),
    ("kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
     "connection_lost"),
    ("client_loop: send disconnect: Broken pipe", "connection_lost"),
    ("Unable to negotiate with 10.0.0.7 port 22: no matching host key type found. Their offer: ssh-rsa",
     "no_common_algorithm"),
    ("Bad owner or permissions on /home/me/.ssh/config", "ssh_configuration"),
    ("/home/me/.ssh/config: line 3: Bad configuration option: foo\n"
     "/home/me/.ssh/config: terminating, 1 bad configuration options", "ssh_configuration"),
    ("Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures\n"
     "Disconnected from 10.0.0.7 port 22", "too_many_auth_failures"),
    ("me@box: Permission denied (publickey,password,keyboard-interactive).", "password_wanted"),
    ("me@box: Permission denied (publickey,gssapi-with-mic).", "key_refused"),
    ("This account is currently not available.", "no_shell"),
    ("'sh' is not recognized as an internal or external command,", "no_shell"),
    ("Host key verification failed.", "host_key_unknown"),
    ("The authenticity of host 'box (10.0.0.7)' can't be established.\nED25519 key fingerprint is SHA256:x.\n"
     "Host key verification failed.", "host_key_unknown"),
    ("@@@@\n@       WARNING: REVOKED HOST KEY DETECTED!               @\n@@@@\nHost key verification failed.",
     "host_key_revoked"),
    # Ansible's
    ("Failed to connect to the host via ssh: me@box: Permission denied (publickey).", "key_refused"),
    ("Task failed: Data could not be sent to remote host \"box\". Make sure this host can be reached over ssh: "
     "ssh: connect to host box port 22: Connection refused\\r\\n", "refused"),
    ("Invalid/incorrect password: Permission denied, please try again.", "password_wrong"),
    ("to use the password_mechanism=sshpass, you must install the sshpass program", "no_sshpass"),
    ("Task failed: Incorrect sudo password", "sudo_password_wrong"),
    ("Task failed: Missing sudo password", "sudo_password_wanted"),
    ("sudo: a password is required", "sudo_password_wanted"),
    ("Timeout (12s) waiting for privilege escalation prompt: ", "sudo_password_wanted"),
    ("me is not in the sudoers file.", "sudo_not_allowed"),
    ("The module failed to execute correctly, you probably need to set the interpreter.\n"
     "/bin/sh: 1: /usr/bin/python3: not found", "no_python"),
    ("The module interpreter '/usr/bin/python3' was not found.", "no_python"),
    ("Task failed: No python interpreters found for host 'box' (tried ['python3.13', 'python3.12'])", "no_python"),
    ("/usr/bin/env: 'python3': No such file or directory", "no_python"),
    ("ansible-core requires a minimum of Python version 3.9. Current version: 3.6.8", "no_python"),
    ("mkdir: cannot create directory: Read-only file system", "not_writable"),
    ("Failed to create temporary directory. In some cases, you may have been able to authenticate", "not_writable"),
    ("echo: write error: No space left on device", "disk_full"),
    ("the moon is in the way", "unreachable"),
    ("", "unreachable"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind"), TEXTS)
def test_what_a_text_means(text: str, kind: str) -> None:
    failure = explain_ssh_failure(BOX, text)
    assert failure.kind == kind
    assert failure.exit_code == 4
    assert "box" in failure.what or kind in ("ssh_configuration", "no_ssh_client")
    assert failure.hint
    said = re.sub(r"^.*: ", "", text.splitlines()[-1]) if kind == "unreachable" and text else ""
    assert said in failure.why
    assert failure.why


def test_every_kind_has_a_text() -> None:
    live = {"host_key_changed", "key_file", "no_ssh_client"}
    assert {row.kind for row in (*TABLE, FALLBACK)} == {kind for _, kind in TEXTS} | live


def test_a_changed_key_without_a_command_to_remove_it() -> None:
    text = "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nOffending RSA key in /home/me/.ssh/known_hosts:7\n"
    failure = explain_ssh_failure(BOX, text)
    assert failure.kind == "host_key_changed"
    assert "line 7 of /home/me/.ssh/known_hosts has its RSA key" in failure.why
    assert "take that line out" in failure.hint


def test_what_is_said_on_the_way_does_not_hide_the_reason() -> None:
    text = "Warning: Identity file /k not accessible: No such file.\nssh: connect to host b port 2: Connection refused"
    assert explain_ssh_failure(BOX, text).kind == "refused"


def test_escapes_of_a_terminal_are_taken_out() -> None:
    failure = explain_ssh_failure(BOX, "\x1b[31mred\x1b[0m \x07bell\x1b]0;title\x07")
    assert failure.why == "red bell]0;title"


def test_the_command_by_hand_is_one_that_works() -> None:
    variables = {"ansible_ssh_common_args": "-J 'jump host'"}
    host = Host(name="box", connection="ssh", address="10.0.0.7", port=22, user="me", variables=variables)
    hint = explain_ssh_failure(host, "what?").hint
    assert hint == "`ssh -p 22 -J 'jump host' me@10.0.0.7` by hand shows the whole conversation with -v"
    broken = Host(name="box", connection="ssh", address="b", variables={"ansible_ssh_args": "'"})
    assert explain_ssh_failure(broken, "what?").hint.startswith("`ssh box` by hand")


def test_a_wrong_password_is_not_taken_for_a_missing_one() -> None:
    variables = {"ansible_password": "hush"}
    host = Host(name="box", connection="other", address="10.0.0.7", user="me", variables=variables)
    failure = explain_ssh_failure(host, "me@10.0.0.7: Permission denied (publickey,password).")
    assert (failure.kind, failure.what) == ("password_wrong", "box refused the password")
    assert failure.why == "me@10.0.0.7: Permission denied (publickey,password)"
    assert failure.hint == "correct ansible_password of this host in the inventory"


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    failure = explain_ssh_failure(BOX, text)
    assert failure.kind
    assert failure.what
    assert failure.why
    assert not re.search(r"[\x00-\x08\x1b\x7f]", failure.why)
