"""uv: how it is called, what it prints on a terminal, and what its errors mean. Written against uv 0.13."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.module_utils.provision_failure import Failure

# What a user may have set for uv on a target that says where things come from. Any other UV_ variable there (UV_PYTHON,
# UV_TARGET, UV_CONSTRAINT, UV_NO_VERIFY_HASHES …) would change what is installed, or where.
KEPT_VARIABLES = (
    "UV_CACHE_DIR", "UV_LINK_MODE", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_OFFLINE",
    "UV_NATIVE_TLS", "UV_SYSTEM_CERTS", "UV_INSECURE_HOST", "UV_HTTP", "UV_REQUEST", "UV_CONCURRENT", "UV_KEYRING",
    "UV_PYTHON_INSTALL", "UV_PYTHON_DOWNLOADS", "UV_PYTHON_PREFERENCE", "UV_MANAGED_PYTHON", "UV_NO_MANAGED_PYTHON",
)  # fmt: skip
# these make uv, or the interpreter that it asks, look at another environment; the last two say how wide a terminal is
DROPPED_VARIABLES = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONHOME", "PYTHONPATH", "PYENV_VERSION", "COLUMNS", "LINES",
)  # fmt: skip


def variables(ambient: Mapping[str, str], given: Mapping[str, str], cache: Path) -> dict[str, str]:
    """The environment that uv runs in: ``ambient`` cleaned, ``cache`` as its cache folder, and ``given`` over both."""
    found = {
        name: value
        for name, value in ambient.items()
        if name not in DROPPED_VARIABLES and (not name.startswith("UV_") or name.startswith(KEPT_VARIABLES))
    }
    found.setdefault("UV_CACHE_DIR", str(cache))
    # hard links cost nothing where cache and environment share a file system (cache_folder sees to that)
    found.setdefault("UV_LINK_MODE", "hardlink")
    found.update({"NO_COLOR": "1", "TERM": "xterm"})
    found.update(given)
    found.pop("UV_PYTHON", None)
    return found


def cache_folder(ambient: Mapping[str, str], home: str, root: Path, same_filesystem: bool) -> Path:
    """uv's own cache, shared with the user's other work; one of ours below ``root`` where that lies on another file
    system, because hard links do not cross."""
    if not same_filesystem:
        return root / "cache" / "uv"
    return user_cache(ambient, home)


def user_cache(ambient: Mapping[str, str], home: str) -> Path:
    named = ambient.get("XDG_CACHE_HOME", "")
    return (Path(named) if named.startswith("/") else Path(home) / ".cache") / "uv"


def venv_argv(uv: Path, python: str, venv: Path, name: str) -> list[str]:
    """The box's own interpreter of that minor where it has one, else uv's."""
    return [
        str(uv), "venv", "--no-config", "--no-project", "--clear", "--prompt", name, "--python", python, str(venv),
    ]  # fmt: skip


def sync_argv(uv: Path, lock: Path, venv: Path, folders: Sequence[Path], compile_bytecode: bool) -> list[str]:
    """Exactly what ``lock`` says. Its hashes make unsafe-best-match safe, and uv's default would look no further than
    the first index that knows a name: for numpy that is PyTorch's, which has only old ones."""
    argv = [
        str(uv), "pip", "sync", "--no-config", "--require-hashes", "--index-strategy", "unsafe-best-match",
        "--only-binary", ":all:", "--python", str(venv / "bin" / "python"), "--allow-empty-requirements",
    ]  # fmt: skip
    for folder in folders:
        argv += ["--find-links", str(folder)]
    return [*argv, *(["--compile-bytecode"] if compile_bytecode else []), str(lock)]


# ── what it prints ────────────────────────────────────────────────────────────────────────────────────────────────

UNITS_MIB = {"": 1 / (1 << 20), "Ki": 1 / 1024, "Mi": 1.0, "Gi": 1024.0}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# tensorflow-cpu       ------------------------------ 253.51 KiB/261.14 MiB
BAR = re.compile(r"([A-Za-z0-9][\w.+-]*)[^\S\n]+-{5,}[^\S\n]+([\d.]+) ?([KMG]i)?B/([\d.]+) ?([KMG]i)?B")
# "⠙ Resolving dependencies...      ": a spinner's text is padded to the terminal's width
DRAWN = re.compile(r"(?:[\u2800-\u28ff]|[█░]{3})[^\r\n]*?(?: {3,}|(?=[\r\n])|$)")
BARS = "bars"
# what it does once this has been printed; the last one that is there counts
STEPS = (
    (re.compile(r"\bResolved \d+ package"), "downloading"),
    (BAR, BARS),
    (re.compile(r"\bPrepared \d+ package"), "installing"),
    # ████████░░░░░░░░░░░░ [8/32] certifi==2026.10.18
    (re.compile(r"[█░] *\[(\d+)/(\d+)\]"), "installing {}/{} packages"),
    (re.compile(r"\bInstalled \d+ package"), "installed"),
)
GONE_S = 1.0
"""A bar that is no longer drawn while others are belongs to a wheel that is here."""


def plain(raw: str) -> str:
    """What stays on the terminal: text without escapes, bars and spinners."""
    text = ESCAPE.sub("\n", raw)
    text = DRAWN.sub("\n", BAR.sub("\n", text)).replace("\r", "\n")
    lines = (line.rstrip() for line in text.split("\n"))
    return "\n".join(line for line in lines if line.strip())


class Watch:
    """Follows uv's terminal: which wheels come, how much of them is here, and what it does now."""

    def __init__(self, then: str) -> None:
        """``then`` is what it does after installing: "compiling bytecode", or nothing."""
        self.raw = ""
        self.text = ""
        self._then = then
        self._rest = ""
        self._bars: dict[str, tuple[float, float, float]] = {}

    def hear(self, data: str, now: float) -> None:
        """Take in more output, heard at ``now`` (seconds): ``text``, ``done_mib`` and ``total_mib`` follow it."""
        self.raw = (self.raw + data)[-(1 << 18) :]
        text = ESCAPE.sub("\n", self._rest + data)
        # a bar may be cut in the middle: its head waits for its tail
        cut = max(text.rfind("\n"), text.rfind("B "), 0)
        self._rest = text[cut:][-2000:]
        for name, done, unit, total, total_unit in BAR.findall(text):
            self._bars[name] = (mib(done, unit), mib(total, total_unit), now)
        for name, (_, total, seen) in self._bars.items():
            if now - seen > GONE_S:
                self._bars[name] = (total, total, seen)
        self.text = self._now(text)

    def _now(self, text: str) -> str:
        matches = [(list(pattern.finditer(text)), step) for pattern, step in STEPS]
        last = max(
            ((found[-1].start(), found[-1], step) for found, step in matches if found), default=None, key=lambda m: m[0]
        )
        if last is None:
            return self.text
        _, match, step = last
        if step == BARS:
            return f"downloading {self._coming()}"
        if step == "installed":
            return self._then or step
        if step.startswith("installing"):
            self._bars.clear()
        return step.format(*match.groups())

    def _coming(self) -> str:
        """Names of the wheels that are not here yet, the largest first."""
        missing = sorted((-total, name) for name, (done, total, _) in self._bars.items() if done < total)
        names = [name for _, name in missing]
        return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")

    @property
    def done_mib(self) -> float | None:
        return sum(done for done, _, _ in self._bars.values()) if self._bars else None

    @property
    def total_mib(self) -> float | None:
        return sum(total for _, total, _ in self._bars.values()) if self._bars else None


def mib(number: str, unit: str) -> float:
    return float(number) * UNITS_MIB[unit]


# ── what its errors mean ──────────────────────────────────────────────────────────────────────────────────────────

# (pattern in what uv says, kind, what, hint); the first that is found wins. {python} and {url} are filled in.
ERRORS: tuple[tuple[str, str, str, str], ...] = (
    (
        r"No space left on device|os error 28\b|Disk quota exceeded|os error 122\b",
        "disk_full",
        "the disk is full",
        "free some space there (`uv cache prune` may help) and run the same command again",
    ),
    (
        r"Read-only file system|os error 30\b",
        "read_only",
        "a folder that uv needs is on a read-only file system",
        "set XDG_DATA_HOME and XDG_CACHE_HOME to folders that can be written to",
    ),
    (
        r"Permission denied|os error 13\b",
        "permission",
        "uv may not write where it has to",
        "give this user the folder named above, or set XDG_DATA_HOME and XDG_CACHE_HOME to folders that it owns",
    ),
    (
        r"No interpreter found|No download found|No managed installation found",
        "python_missing",
        "there is no Python {python} here, and uv brings none",
        "install Python {python}, or ask for another one with --python",
    ),
    (
        r"Failed to download\s+`[^`]*(?:cpython|python-build-standalone)"
        r"|Failed to (?:install|fetch|parse)[^\n]*(?:cpython|[Pp]ython downloads)",
        "python_download",
        "there is no Python {python} here, and uv could not download one",
        "install Python {python} on that machine, ask for one that it has with --python, or set "
        "UV_PYTHON_INSTALL_MIRROR to a mirror that it reaches",
    ),
    (
        r"Hash mismatch",
        "hash_mismatch",
        "a package is not the one that was locked",
        "somebody changed it on the index, or on the way: plan again if the index is yours, be careful if it is not",
    ),
    (
        r"invalid peer certificate|certificate verify failed|UnknownIssuer",
        "tls",
        "the package index shows a certificate that uv does not trust",
        "where the network has a certificate authority of its own: set SSL_CERT_FILE to its file, or UV_SYSTEM_CERTS=1",
    ),
    (
        r"\b401 Unauthorized|\b403 Forbidden|status client error \(40[13]|credentials",
        "index_auth",
        "the package index refuses us",
        "give its user name and password in UV_INDEX_<NAME>_USERNAME and _PASSWORD, or in the index's address",
    ),
    (
        r"dns error|Connection refused|tcp connect error|timed out|timeout|Network is unreachable|Network unreachable"
        r"|Connection reset|error sending request|Network connectivity is disabled|status server error"
        r"|error decoding response body|connection closed|unexpected EOF|end of file before message",
        "network",
        "the package index cannot be reached from there",
        "check that machine's network and proxy settings, or give an index that it reaches with --index",
    ),
    (
        r"No solution found|there is no version of|no wheels? with a matching|was not found in the package registry"
        r"|building from source is disabled",
        "no_such_package",
        "the index has no package that fits the lock",
        "plan again: the index has changed since, or it is not the one that was locked against",
    ),
)
WHY_LINES = 12


def explained(doing: str, status: int, said: str, python: str) -> Failure:
    """What a failed uv call means. ``doing`` is the sentence's subject ("make the environment"), ``said`` its text."""
    start = said.rfind("error:")
    why = "\n".join((said[start:] if start >= 0 else said).splitlines()[:WHY_LINES])
    for pattern, kind, what, hint in ERRORS:
        if re.search(pattern, said):
            return Failure(kind, f"could not {doing}: {what.format(python=python)}", why, hint.format(python=python))
    if status == -9:
        return Failure(
            "killed",
            f"could not {doing}: uv was killed",
            f"SIGKILL: nearly always the kernel, because memory ran out\n{why}".rstrip(),
            "close other programs, or add swap, and run the same command again",
        )
    return Failure("uv_failed", f"could not {doing}: uv ended with status {status}", why)


def not_started(uv: Path, error: OSError) -> Failure:
    """uv is there and cannot be run, or is not there."""
    if uv.is_file():
        return Failure(
            "uv_failed",
            "the uv program that was sent does not run on that machine",
            f"{uv}: {error.strerror}",
            "it is built for the controller's processor and C library; run provision on a machine of the same kind",
        )
    return Failure("uv_failed", "the uv program is not there", f"{uv}: {error.strerror}", "run the whole site.yml")
