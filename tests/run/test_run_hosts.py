from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from provision.errors import UsageError
from provision.model.host import LOCALHOST, Host
from provision.run.hosts import parse_host, parse_hosts
from provision.run.ssh import arguments


def ssh(name: str, address: str, port: int | None = None, user: str | None = None) -> Host:
    return Host(name=name, connection="ssh", address=address, port=port, user=user)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("localhost", LOCALHOST),
        ("box", ssh("box", "box")),
        ("me@box", ssh("me@box", "box", user="me")),
        ("me@box:2222", ssh("me@box:2222", "box", 2222, "me")),
        ("me@localhost", ssh("me@localhost", "localhost", user="me")),
        ("my_gpu-box+1.lab.example.org", ssh("my_gpu-box+1.lab.example.org", "my_gpu-box+1.lab.example.org")),
        ("10.0.0.7:65535", ssh("10.0.0.7:65535", "10.0.0.7", 65535)),
        ("::1", ssh("::1", "::1")),
        ("me@[::1]", ssh("me@[::1]", "::1", user="me")),
        ("[fe80::1%eth0]:22", ssh("[fe80::1%eth0]:22", "fe80::1%eth0", 22)),
        ("first.last@box", ssh("first.last@box", "box", user="first.last")),
    ],
)
def test_a_host_as_people_type_it(text: str, host: Host) -> None:
    assert parse_host(text) == host


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-oProxyCommand=touch x", "'-oProxyCommand=touch x' begins with a dash, which ssh would read as an option"),
        ("me@-oProxyCommand=x", "'-oProxyCommand=x' begins with a dash, which ssh would read as an option"),
        ("-l@box", "'-l' is not a user name"),
        ("box;reboot", "'box;reboot' contains ';', which no host name does"),
        ("$(id)@box", "'$(id)' is not a user name"),
        ("a b", "'a b' contains ' ', which no host name does"),
        ("box\n", "'box\\n' contains '\\n', which no host name does"),
        ("bo\x1b[2Jx", "'bo\\x1b[2Jx' contains '\\x1b' '[', which no host name does"),
        ("`id`", "'`id`' contains '`', which no host name does"),
        ("böx", "'böx' contains 'ö', which no host name does"),
        (".box", "'.box' begins with '.'"),
        ("a" * 256, f"{'a' * 256!r} is too long"),
        ("", "the host's name is empty"),
        ("me@", "the host's name is empty"),
        ("@box", "'' is not a user name"),
        ("box:", "'' is not a port between 1 and 65535"),
        ("box:0", "'0' is not a port between 1 and 65535"),
        ("box:65536", "'65536' is not a port between 1 and 65535"),
        ("box:²", "'²' is not a port between 1 and 65535"),
        ("[box]", "'box' is not an IPv6 address"),
        ("[::1%;id]", "'::1%;id' is not an IPv6 address"),
        ("[::1]x", "'[::1]x' contains '[' ']', which no host name does"),
    ],
)
def test_what_is_no_host_is_refused_with_its_reason(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_host(text)
    error = caught.value
    assert error.what == f"{text!r} is not a host"
    assert error.why.startswith(why) or (text == "[::1]x" and "which no host name does" in error.why)
    assert error.hint == "write user@host, host:port, or [::1]:port"


@given(st.text() | st.text(alphabet="-@:[]%.a1 oProxyCommand=;$\n", max_size=20))
@example("-oProxyCommand=x")
@example("me@-oProxyCommand=x")
@example("[::1%-o]")
def test_nothing_typed_ever_becomes_an_option_or_a_second_word(text: str) -> None:
    try:
        (host,) = parse_hosts([text], inventories=(), limit=None)
    except UsageError as error:
        assert error.what
        assert error.why
        return
    if host.connection == "local":
        assert text.lower() == "localhost"
        return
    argv = arguments(host, "/run/x")
    assert argv[-2] == "--"
    assert argv[-1] == host.address
    assert not argv[-1].startswith("-")
    assert argv[-1].isascii()
    assert not set(argv[-1]) & set(" \t\n;|&$`'\"\\<>(){}*?!~#/")
    if host.user is not None:
        assert argv[argv.index("-l") + 1] == host.user
        assert not host.user.startswith("-")
    assert ("-p" in argv) == (host.port is not None)


def test_no_argument_is_this_machine() -> None:
    assert parse_hosts([], inventories=(), limit=None) == (LOCALHOST,)


def test_a_host_given_twice_is_one() -> None:
    found = parse_hosts(["me@box", "b", "me@BOX", "me@[::1]", "me@::1", "me@box:22"], inventories=(), limit=None)
    assert [host.name for host in found] == ["me@box", "b", "me@[::1]", "me@box:22"]


def test_a_limit_needs_an_inventory() -> None:
    with pytest.raises(UsageError) as caught:
        parse_hosts([], inventories=(), limit="gpu-*")
    assert caught.value.what == "--limit needs an inventory"
    assert caught.value.why == "'gpu-*' chooses among the hosts of an inventory, and none is given"
    assert caught.value.hint == "add -i INVENTORY, or name the hosts themselves"


def test_hosts_and_a_limit_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hosts(["a", "b"], inventories=(tmp_path,), limit="gpu-*")
    assert caught.value.what == "hosts and --limit contradict each other"
    assert caught.value.why == "both choose among the inventory's hosts: a, b and gpu-*"
    assert caught.value.hint == "give one of them"


def test_names_of_the_inventory_mean_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "hosts.ini"
    file.write_text("[lab]\ngpu-[01:02] ansible_host=10.0.0.7 ansible_user=me\n[other]\ngpu-03\n")
    found = parse_hosts(["gpu-03", "lab", "gpu-01", "you@elsewhere"], inventories=(file,), limit=None)
    assert [host.name for host in found] == ["gpu-03", "gpu-01", "gpu-02", "you@elsewhere"]
    assert [(host.address, host.user) for host in found[1:]] == [
        ("10.0.0.7", "me"),
        ("10.0.0.7", "me"),
        ("elsewhere", "you"),
    ]
    everybody = parse_hosts([], inventories=(file,), limit=None)
    assert [host.name for host in everybody] == ["gpu-01", "gpu-02", "gpu-03"]
