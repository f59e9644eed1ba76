#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: a password file (htpasswd) with exactly these users."""

from __future__ import annotations

import ctypes
import ctypes.util
import grp
import os
import pwd
import re
import secrets
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: build_cache_users
short_description: A password file holds exactly these users
description:
  - Passwords are hashed on the target with bcrypt, by the C library that the server itself checks them with. A password
    never is on a command line.
  - A user whose password fits the hash that is there keeps its line, so a second run changes nothing.
options:
  path:
    description: The file.
    type: path
    required: true
  users:
    description: Each with I(name) and I(password). An empty password keeps the one that is there.
    type: list
    elements: dict
    required: true
  owner:
    description: Its owner.
    type: str
    default: root
  group:
    description: Its group, which may read it.
    type: str
    required: true
"""


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
COST = 5
"""1.7 ms for each request on a 2025 server core. The server does nothing else meanwhile, and a build asks ten thousand
times: htpasswd's own default, not one for log-in pages."""
LONGEST = 72
"""bcrypt ignores what comes after."""
MODE = 0o640
ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class Refused(Exception):
    """Three parts: what, why, hint."""

    def __init__(self, what, why="", hint=""):
        super().__init__(what)
        self.what, self.why, self.hint = what, why, hint


def crypt(password, setting):
    """crypt(3). Python's own module of that name is gone in 3.13."""
    function = _library().crypt
    function.restype = ctypes.c_char_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    made = function(password.encode(), setting.encode())
    return (made or b"*").decode("ascii", "replace")


def _library():
    for name in ("libcrypt.so.1", "libcrypt.so.2", ctypes.util.find_library("crypt")):
        try:
            return ctypes.CDLL(name) if name else None
        except OSError:
            continue
    raise Refused("there is no crypt library on this host", "looked for libcrypt.so.1 and libcrypt.so.2")


def hashed(password):
    """A bcrypt hash with a fresh salt ("$2y$05$…"), which nginx and bazel-remote both read."""
    setting = "$2y${:02d}${}".format(COST, "".join(secrets.choice(ALPHABET) for _ in range(21)) + ".")
    made = crypt(password, setting)
    if not made.startswith("$2y$"):
        raise Refused("the C library of this host cannot make bcrypt hashes", f"crypt(3) gave {made[:8]!r}")
    return made


def fits(password, known):
    return known.startswith("$2") and secrets.compare_digest(crypt(password, known), known)


def lines_for(users, old):
    """The file's lines. ``users``: (name, password); ``old``: hash by name. Raises Refused."""
    made = {}
    for name, password in users:
        if not NAME.fullmatch(name):
            raise Refused(
                f"{name!r} is not a name for a user of the cache",
                "a name has 1 to 32 letters, digits, dots, dashes and underscores, and begins with a letter or digit",
            )
        if name in made:
            raise Refused(f"user {name} of the cache is given twice", hint="a writer may read as well")
        made[name] = _line(name, password, old.get(name, ""))
    return [f"{name}:{value}" for name, value in made.items()]


def _line(name, password, known):
    if not password:
        if known:
            return known
        raise Refused(
            f"user {name} of the cache has no password",
            "none was given, and no earlier run left one here",
            "give build_cache_writers or build_cache_readers a password, from Ansible Vault for instance",
        )
    if len(password.encode()) > LONGEST:
        raise Refused(
            f"the password of user {name} is too long",
            f"it has {len(password.encode())} bytes, and bcrypt looks at {LONGEST}",
        )
    return known if known and fits(password, known) else hashed(password)


def read(path):
    """Hash by name; nothing where there is no file."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            rows = [line.rstrip("\n").partition(":") for line in file]
    except FileNotFoundError:
        return {}
    return {name: value for name, colon, value in rows if colon}


def write(path, text, owner, group):
    """The file at once, and never readable for others."""
    handle, part = tempfile.mkstemp(prefix=".build_cache_users.", dir=os.path.dirname(path))  # noqa: PTH120
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchown(file.fileno(), owner, group)
            os.fchmod(file.fileno(), MODE)
            file.write(text)
        os.replace(part, path)  # noqa: PTH105
    except BaseException:
        os.unlink(part)  # noqa: PTH108
        raise


def state(path):
    """(owner, group, mode) of the file, None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return None
    return found.st_uid, found.st_gid, found.st_mode & 0o7777


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "default": "", "no_log": True},
                },
            },
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        users = [(user["name"], user["password"] or "") for user in given["users"]]
        lines = lines_for(users, read(given["path"]))
        owner, group = pwd.getpwnam(given["owner"]).pw_uid, grp.getgrnam(given["group"]).gr_gid
    except Refused as refusal:
        module.fail_json(msg=refusal.what, what=refusal.what, why=refusal.why, hint=refusal.hint)
    except KeyError as error:
        if not module.check_mode:  # there, the package that makes the group is not installed yet
            module.fail_json(msg=str(error), what="the password file cannot be given to its owner", why=str(error))
        module.exit_json(changed=True)
    text = "".join(f"{line}\n" for line in lines)
    old = "".join(f"{name}:{value}\n" for name, value in read(given["path"]).items())
    changed = text != old or state(given["path"]) != (owner, group, MODE)
    if changed and not module.check_mode:
        write(given["path"], text, owner, group)
    module.exit_json(changed=changed, users=[name for name, _ in users])


if __name__ == "__main__":
    main()
