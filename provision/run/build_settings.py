"""How source builds go about it on the hosts: what the command line says, as the variables that the playbook takes.

Only what was given becomes a variable: those beat the inventory, whose group variables say the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from provision.errors import UsageError

Until = Literal["", "preflight", "configure", "build"]

PASSWORD = "PROVISION_REMOTE_CACHE_PASSWORD"  # noqa: S105 - the variable's name
USER = "PROVISION_REMOTE_CACHE_USER"
CACHE_SCHEMES = ("grpc", "grpcs", "http", "https")
EXECUTOR_SCHEMES = ("grpc", "grpcs")
CREDENTIALS = (
    f"export {USER}=NAME and {PASSWORD}=…, or set provision_remote_cache_user and\n"
    "provision_remote_cache_password in the inventory (ansible-vault encrypt_string)"
)
MAX_JOBS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSettings:
    """What was given; None is left to the inventory, and then to the host."""

    bazel: str | None = None
    """A Bazel or Bazelisk on the hosts."""
    bazelisk_base_url: str | None = None
    jobs: int | None = None
    memory_mib_per_job: int | None = None
    remote_cache: str | None = None
    remote_cache_user: str | None = None
    remote_cache_password: str | None = None
    remote_executor: str | None = None
    build_folder: str | None = None
    """A folder on the hosts, absolute or in the user's home ("~/build")."""
    until: Until = ""
    force: bool = False
    """A Bazel of another version than the tree names is only noted."""

    def __repr__(self) -> str:
        """Without the password: this ends up in traces."""
        shown = {name: value for name, value in self._fields().items() if value not in (None, "", False)}
        if self.remote_cache_password:
            shown["remote_cache_password"] = "…"  # noqa: S105 - in its place
        return f"BuildSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def _fields(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def variables(self) -> dict[str, object]:
        """What playbooks/build.yml is told: provision_jobs … for what was given, and how far to go."""
        named = {f"provision_{name}": value for name, value in self._fields().items() if name not in ("until", "force")}
        given = {name: value for name, value in named.items() if value is not None}
        return {**given, "provision_until": self.until, "provision_force": self.force}


def build_settings(
    *,
    bazel: str | None = None,
    bazelisk_base_url: str | None = None,
    jobs: int | None = None,
    memory_mib_per_job: int | None = None,
    remote_cache: str | None = None,
    remote_executor: str | None = None,
    build_folder: str | None = None,
    until: Until | None = None,
    force: bool = False,
    environ: Mapping[str, str] | None = None,
) -> BuildSettings:
    """The checked settings; the cache's user and password come from the environment. Raises UsageError."""
    variables = os.environ if environ is None else environ
    return BuildSettings(
        bazel=_on_host("--bazel", bazel, "the path of a Bazel or Bazelisk on the hosts: --bazel /usr/local/bin/bazel"),
        bazelisk_base_url=_address(
            "--bazelisk-base-url",
            bazelisk_base_url,
            ("http", "https", "file"),
            "--bazelisk-base-url https://mirror/bazel",
        ),
        jobs=_jobs(jobs),
        memory_mib_per_job=memory_mib_per_job,
        remote_cache=_address("--remote-cache", remote_cache, CACHE_SCHEMES, "--remote-cache grpc://cache:9092"),
        remote_cache_user=variables.get(USER) or None,
        remote_cache_password=_password(variables.get(PASSWORD)),
        remote_executor=_address(
            "--remote-executor", remote_executor, EXECUTOR_SCHEMES, "--remote-executor grpc://executor:8980"
        ),
        build_folder=_on_host("--build-folder", build_folder, "a folder on the hosts: --build-folder /scratch/build"),
        until=until or "",
        force=force,
    )


def _jobs(jobs: int | None) -> int | None:
    if jobs is not None and not 1 <= jobs <= MAX_JOBS:
        raise UsageError(
            what=f"--jobs {jobs} is not a number of jobs",
            why=f"it says how many compilers run at once on each host: 1 to {MAX_JOBS}",
            hint="leave it out: the number is taken from the host's memory and cores",
        )
    return jobs


def _on_host(option: str, path: str | None, hint: str) -> str | None:
    """A path on the hosts: what "here" is there, nobody can say."""
    if path is None:
        return None
    if not path.startswith(("/", "~/")) or not path.isprintable():
        raise UsageError(
            what=f"{option} {path!r} is not a path on the hosts",
            why="it is used on every host, so it is absolute, or begins with ~/ (the home of the user there)",
            hint=hint,
        )
    return path


def _address(option: str, text: str | None, schemes: tuple[str, ...], example: str) -> str | None:
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        raise UsageError(what=f"{option} {_hidden(text)!r} is not an address", why=str(error), hint=example) from None
    if parts.scheme not in schemes or "://" not in text:
        raise UsageError(
            what=f"{option} {_hidden(text)!r} has no scheme that it can be reached by",
            why=f"Bazel takes {', '.join(f'{each}://' for each in schemes)}",
            hint=example,
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            what=f"{option} with a user name or password in it",
            why="a command line can be read by every user of a machine, and ends up in its history",
            hint=f"{option} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}, and {CREDENTIALS}",
        )
    if (not parts.hostname and parts.scheme != "file") or not text.isprintable() or re.search(r"\s", text):
        raise UsageError(what=f"{option} {text!r} names no host", why="an address is scheme://host:port", hint=example)
    return text


def _hidden(text: str) -> str:
    """Without credentials: what was wrong with an address is shown on a screen."""
    return re.sub(r"(?<=//)[^/@]*@|^[^/@]*@", "…@", text)


def _password(text: str | None) -> str | None:
    if text and not text.isprintable():
        raise UsageError(
            what=f"{PASSWORD} holds a line end or another sign that cannot be typed",
            why="a password file was read with its last line end, as a rule",
            hint=f'{PASSWORD}="$(cat FILE)" takes the line end away',
        )
    return text or None
