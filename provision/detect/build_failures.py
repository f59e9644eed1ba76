"""From the log of a failed build to its known causes, and to the failure that a report shows.

A log may have megabytes and lines of any length. So each symptom has a text that is looked for as it is, which takes
5 ms for 10 MB, and its expressions see one line alone, at most REACH characters on each side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from provision.model.diagnosis import Diagnosis, KnownFailure, Symptom
from provision.model.report import Failure
from provision.model.versions import Dotted

REACH = 1000
SHOWN = 240
"""Characters of a line that are shown."""
OWN_LINES = 20
"""Of the failing action's output that are shown: its first error with AROUND lines more, and its end."""
AROUND = 4
MAX_TRIES = 1000
"""Places where a text is found and the expressions do not fit, after which a symptom is given up."""
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
ERROR = re.compile(r"\b(?:error|fatal|FAILED|Killed|Error)\b")


def diagnose(
    log: str,
    failures: Iterable[KnownFailure],
    *,
    framework: str | None = None,
    version: str | None = None,
    compiler: str | None = None,
    own_compiler: bool = False,
) -> tuple[Diagnosis, ...]:
    """The known failures that the log shows, in the order of the table: the surest first.

    ``framework``, ``version`` ("2.15.1") and ``compiler`` ("gcc 12.2.0") leave out what is not known of them; None, as
    for a log that somebody brings, leaves out nothing. ``own_compiler``: whether the user named it.
    """
    plain = COLOURS.sub("", log) if "\x1b" in log else log
    found = []
    for failure in failures:
        if not _concerns(failure, framework, version, compiler, own_compiler):
            continue
        line = next(filter(None, (_line(plain, symptom) for symptom in failure.symptoms)), None)
        if line is not None:
            found.append(
                Diagnosis(id=failure.id, line=line, cause=failure.cause, remedy=failure.remedy, source=failure.source)
            )
    return tuple(found)


def failure_from(
    data: Mapping[str, Any],
    failures: Iterable[KnownFailure],
    *,
    framework: str | None = None,
    version: str | None = None,
    compiler: str | None = None,
    own_compiler: bool = False,
) -> Failure:
    """The report's failure from what the module says of a failed build: {"kind", "what", "why", "hint", "log_tail",
    "label", "log", "command"}, each of which may be missing.

    Its why has the failing action's own last lines, the known cause, and where the log is; its hint is the remedy.
    """
    tail = _lines(data.get("log_tail"))
    text = "\n".join([*tail, str(data.get("why") or "")])
    known = diagnose(text, failures, framework=framework, version=version, compiler=compiler, own_compiler=own_compiler)
    parts = [str(data.get("why") or "")] if not tail or str(data.get("why") or "") not in "\n".join(tail) else []
    label = str(data.get("label") or "")
    if label and label not in "\n".join([str(data.get("what") or ""), *parts]):
        parts.append(f"the action that failed: {label}")
    parts += own_lines(tail)
    parts += [f"known cause: {each.cause}" for each in known]
    if data.get("log"):
        parts.append(f"the whole log: {data['log']}")
    return Failure(
        what=str(data.get("what") or "the build failed"),
        why="\n".join(part for part in parts if part),
        hint="\n".join(dict.fromkeys(each.remedy for each in known)) or str(data.get("hint") or UNKNOWN),
        kind=str(data.get("kind") or "build"),
    )


UNKNOWN = "no known cause fits; the log has the whole output. The same command again goes on from what is built"


def own_lines(tail: Sequence[str]) -> list[str]:
    """At most OWN_LINES of them: the end, and before it the first error where the end does not have it."""
    if len(tail) <= OWN_LINES:
        return list(tail)
    first = next((number for number, line in enumerate(tail) if ERROR.search(line)), len(tail))
    head = list(tail[first : first + AROUND]) if first < len(tail) - OWN_LINES else []
    return [*head, "…", *tail[len(tail) - (OWN_LINES - len(head) - 1) :]]


def _lines(tail: Any) -> list[str]:
    """The module's tail, text or a list of lines, without colours and blank lines at its ends."""
    text = tail if isinstance(tail, str) else "\n".join(map(str, tail or ()))
    return COLOURS.sub("", text).strip("\n").splitlines()


def _concerns(
    failure: KnownFailure, framework: str | None, version: str | None, compiler: str | None, own_compiler: bool
) -> bool:
    if framework is not None and failure.frameworks and framework not in failure.frameworks:
        return False
    if failure.own_compiler and not own_compiler:
        return False
    family = (compiler or "").lower().partition(" ")[0].partition("-")[0]
    if family in ("gcc", "clang") and failure.compilers and family not in failure.compilers:
        return False
    # a row's releases are those of its framework: another one's version says nothing
    return version is None or framework not in (None, *failure.frameworks) or _between(failure, version)


def _between(failure: KnownFailure, version: str) -> bool:
    match = re.match(r"\d+\.\d+", version)
    if match is None:
        return True
    series = Dotted(match[0])
    after = failure.since is None or Dotted(failure.since) <= series
    return after and (failure.until is None or series <= Dotted(failure.until))


def _line(log: str, symptom: Symptom) -> str | None:
    """The first line that shows the symptom."""
    for line, place in _places(log, symptom.text):
        if symptom.pattern and not re.search(symptom.pattern, line):
            continue
        if symptom.unless and re.search(symptom.unless, line):
            continue
        start = max(0, min(place, len(line) - SHOWN))
        return (line if len(line) <= SHOWN else f"…{line[start : start + SHOWN]}…").strip()
    return None


def _places(log: str, text: str) -> Iterator[tuple[str, int]]:
    """Each line that has ``text``, as far as REACH goes, and where in it the text is."""
    at = log.find(text)
    tries = 0
    while at >= 0 and tries < MAX_TRIES:
        tries += 1
        begin = max(log.rfind("\n", max(0, at - REACH), at) + 1, at - REACH)
        end = log.find("\n", at + len(text), at + len(text) + REACH)
        end = end if end >= 0 else min(len(log), at + len(text) + REACH)
        yield log[begin:end], at - begin
        at = log.find(text, end)
