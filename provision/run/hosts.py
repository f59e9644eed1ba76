"""Which hosts a command line means: addresses typed by hand, names of an inventory, or this machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from provision.errors import UsageError
from provision.model.host import LOCALHOST, Host

# Letters, digits and what aliases in ~/.ssh/config hold as a rule; nothing that a shell or an option parser reads.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,254}")
USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,254}\$?")
BRACKETED = re.compile(r"\[(?P<host>[^\[\]]*)\](?::(?P<port>.*))?")
SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
FORMS = "write user@host, host:port, or [::1]:port"


def parse_hosts(arguments: Sequence[str], *, inventories: Sequence[Path], limit: str | None) -> tuple[Host, ...]:
    """The hosts meant, each once, in the order given. No argument and no inventory is this machine.

    A name that occurs in the inventory (a host or a group) means what the inventory says; any other is an address or
    an alias of ~/.ssh/config. Raises UsageError.
    """
    if not inventories:
        if limit is not None:
            raise UsageError(
                what="--limit needs an inventory",
                why=f"{limit!r} chooses among the hosts of an inventory, and none is given",
                hint="add -i INVENTORY, or name the hosts themselves",
            )
        return merged([parse_host(text) for text in arguments]) or (LOCALHOST,)
    if arguments and limit is not None:
        raise UsageError(
            what="hosts and --limit contradict each other",
            why=f"both choose among the inventory's hosts: {', '.join(arguments)} and {limit}",
            hint="give one of them",
        )
    from provision.run.inventory import read_inventory

    inventory = read_inventory(inventories, limit=limit)
    if not arguments:
        return inventory.hosts
    found: list[Host] = []
    for text in arguments:
        found += inventory.named(text) or [parse_host(text)]
    return merged(found)


def merged(hosts: Sequence[Host]) -> tuple[Host, ...]:
    """Each host once: two names are one host where user, address and port are the same."""
    kept: dict[tuple[object, ...], Host] = {}
    for host in hosts:
        key = (host.name,) if host.variables else (host.connection, host.user, host.address.lower(), host.port)
        kept.setdefault(key, host)
    return tuple(kept.values())


def parse_host(text: str) -> Host:
    """``[user@]host[:port]``, an IPv6 address in brackets or alone. Raises UsageError."""
    if text.lower() == LOCALHOST.name:
        return LOCALHOST
    user, at, rest = text.rpartition("@")
    if at and not USER.fullmatch(user):
        raise _refused(text, f"{user!r} is not a user name")
    address, port = _address_and_port(text, rest)
    return Host(name=text, connection="ssh", address=address, port=port, user=user or None)


def _address_and_port(text: str, rest: str) -> tuple[str, int | None]:
    if _is_ipv6(rest):
        return rest, None
    bracketed = BRACKETED.fullmatch(rest)
    if bracketed:
        if not _is_ipv6(bracketed["host"]):
            raise _refused(text, f"{bracketed['host']!r} is not an IPv6 address")
        return bracketed["host"], _port(text, bracketed["port"])
    address, colon, port = rest.partition(":")
    return checked_address(address, text), _port(text, port if colon else None)


def checked_address(address: str, text: str) -> str:
    """``address`` where it can be given to ssh. Raises UsageError that quotes ``text``."""
    if not address:
        raise _refused(text, "the host's name is empty")
    if not NAME.fullmatch(address) and not _is_ipv6(address):
        raise _refused(text, f"{address!r} {_objection(address)}")
    return address


def _objection(address: str) -> str:
    if address.startswith("-"):
        return "begins with a dash, which ssh would read as an option"
    wrong = sorted({letter for letter in address if not NAME.fullmatch("a" + letter)})
    if not wrong:
        return "is too long" if len(address) > 255 else f"begins with {address[0]!r}"
    return f"contains {' '.join(repr(letter) for letter in wrong)}, which no host name does"


def _port(text: str, port: str | None) -> int | None:
    if port is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise _refused(text, f"{port!r} is not a port between 1 and 65535")
    return int(port)


def _is_ipv6(text: str) -> bool:
    address, percent, scope = text.partition("%")
    if percent and not SCOPE.fullmatch(scope):
        return False
    with suppress(ValueError):
        return ipaddress.ip_address(address).version == 6
    return False


def _refused(text: str, why: str) -> UsageError:
    return UsageError(what=f"{text!r} is not a host", why=why, hint=FORMS)


def machine_root(host: Host) -> str:
    """The folder that stands for / in its readings; empty but for test hosts, whose hardware is made of files."""
    return str(host.variables.get("provision_machine_root") or "")
