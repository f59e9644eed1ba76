"""A build cache asked over HTTP: does it answer, who may read and write, how full is it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provision.errors import HostError, UsageError
from provision.model.cache import CacheStatus, CacheUsage
from provision.model.host import Host
from provision.model.report import Failure
from provision.run.build_cache import Found, url_of, usage_of

ANSWER_TIMEOUT_S = 10.0
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of no bytes: storing it shows who may write, and changes nothing for anybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a cache says over HTTP."""

    reachable: bool
    problem: str = ""
    usage: CacheUsage | None = None
    may_read: bool | None = None
    may_write: bool | None = None
    anonymous_read: bool | None = None
    anonymous_write: bool | None = None


def ask(url: str, login: tuple[str, str] | None = None) -> Answer:
    """Ask a cache at ``url`` (http or https): as nobody, and as ``login`` (name, password) where that is given.

    Stores the empty blob, to see who may.
    """
    import requests

    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy, no ~/.netrc: this is about this address and this user
            nobody = _asked(session, url, None)
            known = nobody if login is None else _asked(session, url, login)
    except requests.RequestException as error:
        return Answer(reachable=False, problem=_reason(error))
    if nobody.may_write is None:
        return Answer(reachable=False, problem="something answers there, and it is no build cache")
    return Answer(
        reachable=True,
        usage=known.usage,
        may_read=known.may_read if login is not None else None,
        may_write=known.may_write if login is not None else None,
        anonymous_read=nobody.may_read,
        anonymous_write=nobody.may_write,
    )


def _asked(session: Any, url: str, login: tuple[str, str] | None) -> Answer:
    blob = f"{url}/cas/{EMPTY}"
    put = session.put(blob, data=b"", auth=login, timeout=ANSWER_TIMEOUT_S, allow_redirects=False).status_code
    got = session.get(blob, auth=login, timeout=ANSWER_TIMEOUT_S, allow_redirects=False).status_code
    page = session.get(f"{url}/status", auth=login, timeout=ANSWER_TIMEOUT_S, allow_redirects=False)
    usage = None
    if page.status_code == 200:
        try:
            usage = usage_of(page.json())
        except (ValueError, KeyError, TypeError):
            usage = None
    return Answer(
        reachable=True,
        usage=usage,
        may_read={200: True, 404: True, 401: False, 403: False}.get(got),
        # any other answer to PUT: no cache
        may_write={200: True, 201: True, 204: True, 401: False, 403: False}.get(put),
    )


def _reason(error: Exception) -> str:
    """The last cause in requests' nest of errors: "[Errno 111] Connection refused"."""
    text = str(error)
    for mark in ("Connection refused", "timed out", "certificate verify failed", "Name or service not known",
                 "No route to host", "Network is unreachable"):  # fmt: skip
        if mark in text:
            return mark.lower()
    return text.splitlines()[0]


def url_status(url: str, login: tuple[str, str] | None) -> CacheStatus:
    """Of whatever is at ``url``."""
    answer = ask(url, login)
    failures: tuple[Failure, ...] = ()
    if not answer.reachable:
        hint = "provision cache status HOST looks at it over SSH; is a firewall between?"
        what = f"no build cache answers at {url}"
        failures = (Failure(what=what, why=answer.problem, hint=hint, exit_code=HostError.exit_code),)
    elif login is not None and not answer.may_read:
        hint = "provision cache up HOST sets a new password"
        what = f"{url} refuses user {login[0]}"
        failures = (Failure(what=what, why="name or password is wrong", hint=hint, exit_code=HostError.exit_code),)
    return _status(answer, login, host=None, url=url, failures=failures)


def host_status(host: Host, found: Found, login: tuple[str, str] | None) -> CacheStatus:
    """Of the cache that was found on a host. Raises UsageError where there is none."""
    settings = found.settings
    if settings is None:
        raise UsageError(
            what=f"there is no build cache on {host.name}",
            why="it has no /etc/provision-build-cache.json",
            hint=f"provision cache up {host.name}",
        )
    url = url_of(host, settings)
    answer = ask(url, login)
    failures: tuple[Failure, ...] = ()
    if not found.answers:
        hint = f"on the host: systemctl status {'nginx' if settings.engine == 'nginx' else 'provision-build-cache'}"
        what = f"the build cache on {host.name} does not answer"
        failures = (Failure(what=what, why=found.problem, hint=hint, exit_code=HostError.exit_code),)
    return _status(answer, login, host=host.name, url=url, failures=failures, found=found)


def _status(
    answer: Answer,
    login: tuple[str, str] | None,
    *,
    host: str | None,
    url: str,
    failures: tuple[Failure, ...],
    found: Found | None = None,
) -> CacheStatus:
    return CacheStatus(
        ok=not failures,
        host=host,
        url=url,
        cache=None if found is None else found.settings,
        usage=answer.usage if found is None else found.usage,
        answers_on_host=None if found is None else found.answers,
        reachable=answer.reachable,
        problem=answer.problem,
        user=None if login is None else login[0],
        may_read=answer.may_read,
        may_write=answer.may_write,
        anonymous_read=answer.anonymous_read,
        anonymous_write=answer.anonymous_write,
        failures=failures,
    )
