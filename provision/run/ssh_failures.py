"""Why a host could not be reached: one table from what ssh, sudo or Ansible print to what it means and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from provision.model.report import Failure

EXIT_CODE = 4
TAIL_LINES = 5
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
BY_HAND = "`{ssh}` by hand shows the whole conversation with -v"


@dataclass(frozen=True, slots=True)
class Row:
    kind: str
    pattern: str
    """Named groups can be used in the texts, which also know {host}, {address}, {port}, {ssh} (the command by hand)
    and {said} (the matched line)."""
    what: str
    why: str
    hint: str


TABLE = (
    Row(
        "host_key_changed",
        r"REMOTE HOST IDENTIFICATION HAS CHANGED(?=[\s\S]*?Offending (?P<type>\S+) key in (?P<file>.+):(?P<line>\d+))"
        r"(?=(?:[\s\S]*?(?P<remove>ssh-keygen -f .+))?)",
        "{host} shows another host key than the one known for it",
        "line {line} of {file} has its {type} key, and the host now has a different one: it was installed anew, "
        "another machine has its address, or somebody sits between",
        "compare the fingerprint on the host's own console (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`); only "
        "if the host really has a new key: {remove}, then connect once with `{ssh}` and check it there",
    ),
    Row(
        "host_key_revoked",
        r"REVOKED HOST KEY|Host key \S+ is revoked",
        "{host} shows a host key that is marked as revoked",
        "{said}",
        "do not connect; ask whoever runs the host",
    ),
    Row(
        "host_key_unknown",
        r"No (?P<type>\S+) host key is known for (?P<known>\S+)|Host key verification failed|"
        r"authenticity of host .* can't be established",
        "the host key of {host} is not known here",
        "{said}; provision never accepts a key unseen, since that is when an attacker can step in",
        "read the fingerprint on the host's own console (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`), connect "
        "once with `{ssh}`, and answer yes if it shows the same. `ssh-keyscan {keyscan}` does not check anything: "
        "whoever answers is believed",
    ),
    Row(
        "name_unknown",
        r"Could not resolve hostname (?P<name>\S+?): (?P<reason>.+)",
        "the name {address} is not known",
        "ssh: could not resolve hostname {name}: {reason}",
        "check the spelling, the DNS of this machine, or give the address itself",
    ),
    Row(
        "too_many_auth_failures",
        r"Too many authentication failures",
        "{host} stopped listening after too many keys",
        "{said}: the agent offers all its keys, and the right one was not among the first",
        "name the key: `IdentityFile` with `IdentitiesOnly yes` for this host in ~/.ssh/config (`ssh-add -l` lists "
        "the agent's)",
    ),
    Row(
        "key_file",
        r"(?:UNPROTECTED PRIVATE KEY FILE|Load key \"[^\"]*\": .+|Identity file \S+ not accessible.*|"
        r"no such identity.*)(?=[\s\S]*Permission denied \()",
        "the private key for {host} cannot be used",
        "{said}",
        "the key must be there, readable by you alone (chmod 600), and without a passphrase or loaded with `ssh-add`",
    ),
    Row(
        "password_wanted",
        r"Permission denied \((?P<methods>[^)]*(?:password|keyboard-interactive)[^)]*)\)",
        "{host} accepted no key and wants a password",
        "{said}",
        "put a key there with `ssh-copy-id` (try `{ssh}`), load one that has a passphrase with `ssh-add`, or set "
        "ansible_password for this host in a vaulted inventory",
    ),
    Row(
        "no_sshpass",
        r"install the sshpass program",
        "logging in to {host} with a password needs sshpass on this machine",
        "{said}",
        "install it (Debian, Ubuntu: apt install sshpass), or use a key: `ssh-copy-id` puts it there",
    ),
    Row(
        "password_wrong",
        r"Invalid/incorrect (?:username/)?password",
        "{host} refused the password",
        "{said}",
        "correct ansible_password of this host in the inventory",
    ),
    Row(
        "key_refused",
        r"Permission denied \((?P<methods>[^)]*)\)",
        "{host} refused the key",
        "{said}",
        "check the user name, that the public key is in ~/.ssh/authorized_keys of that user there, and that the "
        "private one is in ~/.ssh, or loaded with `ssh-add` where it has a passphrase",
    ),
    Row(
        "refused",
        r"connect to (?:host|address) (?P<at>\S+) port (?P<on>\d+): Connection refused|Connection refused",
        "{host} refused the connection",
        "{said}: the machine is up, and nothing listens on that port",
        "start sshd there (`systemctl start ssh`), or give its port as host:port",
    ),
    Row(
        "no_route",
        r"No route to host|Network is unreachable|Network is down|Host is down",
        "there is no way to {host}",
        "{said}",
        "check the network of this machine, a VPN, and whether the host is switched on",
    ),
    Row(
        "timed_out",
        r"(?:Connection|Operation) timed out|port \d+ timed out|no answer within [\d.]+ s|"
        r"Timeout, server .* not responding|Connection to .* timed out",
        "{host} did not answer in time",
        "{said}",
        "check that it is switched on and that no firewall drops port {port}",
    ),
    Row(
        "no_common_algorithm",
        r"Unable to negotiate with .*|no matching (?:host key type|key exchange method|cipher|mac) found.*",
        "{host} and this machine have no SSH algorithm in common",
        "{said}",
        "update the older of the two, or allow the algorithm for this host in ~/.ssh/config",
    ),
    Row(
        "ssh_configuration",
        r"Bad owner or permissions on .+|Bad configuration option.*|terminating, \d+ bad configuration options|"
        r"command-line: line 0: .+|unknown option --? .+|unsupported option .+",
        "ssh does not accept its configuration",
        "{said}",
        "mend ~/.ssh/config, or the ansible_ssh_…args of this host in the inventory",
    ),
    Row(
        "no_ssh_client",
        r"^\S*: No such file or directory\s*\Z",
        "there is no ssh program on this machine",
        "{said}",
        "install the OpenSSH client (Debian, Ubuntu: apt install openssh-client)",
    ),
    Row(
        "sudo_not_allowed",
        r"is not in the sudoers file|is not allowed to (?:execute|run)|may not run sudo",
        "the user on {host} may not use sudo",
        "{said}",
        "log in as a user who may, or have an administrator allow this one",
    ),
    Row(
        "sudo_password_wrong",
        r"Incorrect (?:sudo|su|become) password|sudo: \d+ incorrect password attempt|Sorry, try again",
        "{host} refused the sudo password",
        "{said}",
        "run it again with --ask-become-pass (-K) and the password of the user on that host",
    ),
    Row(
        "sudo_password_wanted",
        r"Missing (?:sudo|su|become) password|sudo: a (?:password is required|terminal is required)|"
        r"waiting for privilege escalation prompt|interactive authentication is required",
        "{host} wants a password for sudo",
        "{said}",
        "run it again with --ask-become-pass (-K)",
    ),
    Row(
        "no_python",
        r"No python interpreters found.*|python[\d.]*['\"]? ?(?:was )?(?::|is)? ?not found.*|"
        r"python[\d.]*: (?:No such file or directory|inaccessible or not found)|need to set the interpreter.*|"
        r"env: .?python[\d.]*.?: No such file or directory|ansible-core requires a minimum of Python.*",
        "{host} has no Python that Ansible can use",
        "{said}",
        "install it there (Debian, Ubuntu: apt install python3), or name it by ansible_python_interpreter in an "
        "inventory",
    ),
    Row(
        "no_shell",
        r"This account is (?:currently )?not available|nologin|does not provide shell access|"
        r"not recognized as (?:an internal|the name)",
        "{host} let us in, but gives no shell",
        "{said}",
        "use an account with a POSIX shell",
    ),
    Row(
        "disk_full",
        r"No space left on device|Disk quota exceeded",
        "the disk of {host} is full",
        "{said}",
        "make room in the home folder and in /tmp there",
    ),
    Row(
        "not_writable",
        r"Read-only file system|Failed to create temporary directory",
        "{host} lets Ansible write nothing",
        "{said}",
        "Ansible needs a folder it can write to: the home there, or ansible_remote_tmp in an inventory",
    ),
    Row(
        "connection_lost",
        r"Connection (?:closed|reset) by .*|Connection reset by peer|Broken pipe|closed by remote host|"
        r"kex_exchange_identification: .+|Connection to .* closed",
        "{host} closed the connection",
        "{said}; a server does so when it is overloaded, shuts down or bans an address (fail2ban), and a jump host "
        "when it cannot reach the host",
        "try again in a minute; " + BY_HAND,
    ),
)
FALLBACK = Row("unreachable", "", "{host} cannot be reached", "{said}", BY_HAND)
BY_KIND = {row.kind: row for row in TABLE}
COMPILED = tuple((row, re.compile(row.pattern, re.MULTILINE | re.IGNORECASE)) for row in TABLE)


def explained(text: str, names: Mapping[str, str], *, with_password: bool = False) -> Failure:
    """``text`` is what ssh wrote on stderr, or Ansible's message; ``names``: host, address, port, ssh, keyscan.

    ``with_password`` where a password was given, which no text says.
    """
    text = CONTROL.sub("", text.replace("\\r\\n", "\n").replace("\\n", "\n").replace("\r", ""))
    for row, pattern in COMPILED:
        found = pattern.search(text)
        if found:
            row = BY_KIND["password_wrong"] if with_password and row.kind == "password_wanted" else row
            groups = {key: (value or "").strip() for key, value in found.groupdict().items()}
            return _failure(row, {**groups, **names, "said": _line_around(text, found)})
    return _failure(FALLBACK, {**names, "said": _tail(text) or "nothing was said about it"})


def _failure(row: Row, values: Mapping[str, str]) -> Failure:
    values = {**values, "remove": values.get("remove") or "take that line out"}
    what, why, hint = (part.format_map(values) for part in (row.what, row.why, row.hint))
    return Failure(kind=row.kind, what=what, why=why, hint=hint, exit_code=EXIT_CODE)


def _line_around(text: str, found: re.Match[str]) -> str:
    start = text.rfind("\n", 0, found.start()) + 1
    end = text.find("\n", found.start())
    return text[start : end if end >= 0 else len(text)].strip(" \t@").removesuffix(".")


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-TAIL_LINES:])
