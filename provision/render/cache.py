"""A build cache as text: what will change, what was done and how to use it, how it is."""

from __future__ import annotations

from collections.abc import Mapping

from provision.model.cache import CacheReport, CacheSettings, CacheStatus, CacheUsage
from provision.model.report import Failure

TOLD = (
    ("engine", "engine"),
    ("address", "listens on"),
    ("port", "port"),
    ("folder", "folder"),
    ("prefix", "prefix"),
    ("size_gib", "at most"),
    ("writers", "may write"),
    ("readers", "may only read"),
    ("anonymous_read", "reads without a password"),
    ("certificate", "TLS certificate"),
)


def intention_text(host: str, before: CacheSettings | None, wanted: CacheSettings, passwords: Mapping[str, str]) -> str:
    """What `cache up` is about to do. ``passwords``: how each user's comes about ("given", "generated", "kept")."""
    lines = [f"build cache on {host}", ""]
    for name, title in TOLD:
        now, then = _shown(name, getattr(wanted, name)), None if before is None else _shown(name, getattr(before, name))
        if then is None or then == now:
            lines.append(f"  {title:<24}  {now}")
        else:
            lines.append(f"  {title:<24}  {now} (was: {then})")
    for user, origin in passwords.items():
        lines.append(f"  {'password of ' + user:<24}  {origin}")
    lines += ["", "changes, as root"]
    if wanted.engine == "nginx":
        lines.append("  package nginx, where it is missing, and its site provision-build-cache; other sites stay")
        lines.append("  a timer that keeps the size, /etc/provision-build-cache.*, and the folder")
    else:
        lines.append("  user and service provision-build-cache, /etc/provision-build-cache.*, and the folder")
    return "\n".join(lines) + "\n"


def removal_text(host: str, cache: CacheSettings, usage: CacheUsage | None) -> str:
    """What `cache remove` is about to do."""
    held = "" if usage is None else f" with {usage.blobs} blobs, {_size(usage.used_mib)}"
    package = "; nginx stays" if cache.engine == "nginx" else ""
    return f"build cache on {host}: {cache.folder}{held} goes, with its service on port {cache.port}{package}\n"


def _shown(name: str, value: object) -> str:
    if name == "size_gib":
        return f"{value} GiB"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "nobody"
    return str(value) or "none"


def report_text(report: CacheReport) -> str:
    """What was done; after `cache up` also the lines to paste."""
    if not report.ok:
        return "".join(failure_text(report.host, failure) for failure in report.failures)
    changed = "nothing changed, it was as asked" if report.changed == 0 else f"changed: {report.changed}"
    if report.cache is None:
        return f"{report.host}: {'no build cache any more' if report.changed else 'there was no build cache'}\n"
    lines = [f"build cache on {report.host}: {report.url}", changed, ""]
    for user, password in report.generated_passwords.items():
        lines.append(f"password of {user}: {password}")
    if report.generated_passwords:
        lines += ["this is said once: it is kept nowhere in plain text", ""]
    return "\n".join([*lines, *_snippet(report.url, report.cache)]) + "\n"


def _snippet(url: str, cache: CacheSettings) -> list[str]:
    """Variables for the inventory's group of hosts that build."""
    lines = ["for the hosts that build (group_vars of your inventory):", f"  provision_remote_cache: {url}"]
    for user in cache.writers[:1]:
        lines.append(f"  provision_remote_cache_user: {user}")
        lines.append('  provision_remote_cache_password: "{{ vault_build_cache_password }}"')
    lines += ["for hosts that only read:", f"  provision_remote_cache: {url}", "  provision_remote_cache_upload: false"]
    for user in () if cache.anonymous_read else cache.readers[:1]:
        lines.append(f"  provision_remote_cache_user: {user}")
        lines.append('  provision_remote_cache_password: "{{ vault_build_cache_reader_password }}"')
    lines.append("the password's place, encrypted (it asks; paste what it prints into the same file):")
    lines.append("  ansible-vault encrypt_string --stdin-name vault_build_cache_password")
    lines.append(f"firewall: let the hosts that build reach {cache.port}/tcp")
    if not cache.tls:
        lines.append("without TLS, passwords can be read on the way: keep it to a network that you trust")
    return lines


def status_text(status: CacheStatus, now: float) -> str:
    """``now``: seconds since 1970."""
    if not status.ok:
        return "".join(failure_text(status.host or status.url, failure) for failure in status.failures)
    lines = [f"build cache {status.url}" + (f" on {status.host}" if status.host else "")]
    if status.reachable:
        lines.append("  reachable from here    yes")
    else:
        lines.append(f"  reachable from here    no: {status.problem}")
    if status.cache is not None:
        lines.append(f"  engine                 {status.cache.engine}, {status.cache.folder}")
    usage = status.usage
    if usage is not None:
        share = f" ({usage.used_mib / usage.bound_mib:.0%})" if usage.bound_mib else ""
        ago = max(0, round((now - usage.counted_at) / 60))
        counted = "" if ago == 0 else f", counted {ago} min ago"
        lines.append(f"  size                   {_size(usage.used_mib)} of {_size(usage.bound_mib)}{share}{counted}")
        lines.append(f"  blobs                  {usage.blobs}")
    lines += _rights(status)
    return "\n".join(lines) + "\n"


def _rights(status: CacheStatus) -> list[str]:
    lines = []
    if status.cache is not None:
        lines.append(f"  may write              {', '.join(status.cache.writers) or 'nobody'}")
        lines.append(f"  may only read          {', '.join(status.cache.readers) or 'nobody by name'}")
    if status.user is not None:
        may = [word for word, allowed in (("read", status.may_read), ("write", status.may_write)) if allowed]
        lines.append(f"  {status.user} may{'':<{max(1, 19 - len(status.user))}}{' and '.join(may) or 'nothing'}")
    anonymous = status.anonymous_read
    if anonymous is None and status.cache is not None:
        anonymous = status.cache.anonymous_read
    if anonymous is not None:
        lines.append(f"  reads without password {'everybody' if anonymous else 'nobody'}")
    if status.anonymous_write:
        lines.append("  WARNING                everybody may write, so anybody decides what the hosts run")
    return lines


def failure_text(host: str, failure: Failure) -> str:
    """Three parts, as errors are shown."""
    what = failure.what if host in failure.what else f"{host}: {failure.what}"
    lines = [f"error: {what}", *("  " + line for line in failure.why.splitlines())]
    hint = failure.hint.splitlines()
    lines += [f"  {'hint: ' if number == 0 else '      '}{line}" for number, line in enumerate(hint)]
    return "\n".join(lines) + "\n"


def _size(mib: float) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.1f} MiB"
