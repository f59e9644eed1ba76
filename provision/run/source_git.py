"""Git repositories as sources: which tag, and a clone of that commit alone."""

from __future__ import annotations

import difflib
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provision.errors import Interrupted, ProvisionError, StepFailed, UsageError
from provision.run.command import CANCELLED, TIMED_OUT, Completed, run
from provision.run.source_tree import Peek

GIT_FORMS = "repositories are reached by https://, ssh://, git@HOST:PATH, file:// or as a folder of this machine"
COMMIT = re.compile(r"[0-9a-f]{40}")
FEW = 5
LOOKUP_S = 30.0
"""For `git ls-remote`, which asks for names alone."""
REFS = ("refs/tags/{}", "refs/heads/{}")
FAILURES: tuple[tuple[str, str, str], ...] = (
    (
        r"Could not resolve host|Name or service not known|Temporary failure in name resolution",
        "its host is not known",
        "check the address, the network and its proxy; without a network: --source FOLDER or a tarball",
    ),
    (
        r"Repository not found|repository '.*' not found|does not appear to be a git repository|does not exist",
        "there is no such repository",
        "check its address; a private one is also called not found where nobody logs in",
    ),
    (
        r"could not read Username|Authentication failed|Permission denied \(|terminal prompts disabled",
        "the repository asks for credentials",
        "give git a credential helper or an SSH key; nobody can be asked here",
    ),
    (
        r"Connection (?:refused|timed out|reset)|(?:Failed to|Could not) connect|unable to access",
        "the repository cannot be reached",
        "check the network and its proxy; without a network: --source FOLDER or a tarball",
    ),
    (
        r"detected dubious ownership",
        "another user owns that folder",
        "git config --global --add safe.directory FOLDER, if you trust it; or clone it",
    ),
    (r"Host key verification failed", "the host's SSH key is not known", "log in to it once by hand: ssh HOST"),
    (
        r"No space left on device|Disk quota exceeded|File too large",
        "there is no room for the clone",
        "make room, or use another folder: XDG_CACHE_HOME=FOLDER",
    ),
    (
        r"couldn't find remote ref|not our ref|unadvertised object",
        "the repository does not hand out that commit",
        "give a tag or a branch",
    ),
)
"""What git says, what it means, what to do. Patterns as git 2.39 prints them with LC_ALL=C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a tag, branch or commit is."""

    ref: str
    """What is fetched: "refs/tags/v2.15.1", or the commit."""
    commit: str


def is_repository(folder: Path) -> bool:
    """Whether a clone or a bare repository is there."""
    try:
        return (folder / ".git").exists() or all((folder / name).exists() for name in ("HEAD", "objects", "refs"))
    except (OSError, RuntimeError):
        return False


def is_local(location: str) -> bool:
    return location.startswith(("/", "file://"))


def refused_address(location: str, ref: str) -> UsageError | None:
    """Why an address or a tag is not given to git at all."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._/+-]*", ref) or ".." in ref:
        return UsageError(
            what=f"{ref!r} is not a tag", why="it holds what no name of a tag, branch or commit may", hint=GIT_FORMS
        )
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://|([A-Za-z][A-Za-z0-9]*)::", location)
    name = (scheme[1] or scheme[2]).lower() if scheme else ""
    if name in ("http", "git") and not COMMIT.fullmatch(ref):
        return UsageError(
            what=f"--source {location} is not protected on its way",
            why=f"anybody between here and there can change what {name}:// brings, and it is then run as a program",
            hint=f"use https://, or name the commit by its 40 digits: --source {location}@COMMIT",
        )
    if name not in ("", "https", "ssh", "file", "http", "git"):
        return UsageError(what=f"--source {location} is not an address that is taken", why=GIT_FORMS)
    user = re.match(r"https?://[^/@]*@", location)
    if user or re.match(r"ssh://[^/@]*:[^/@]*@", location):
        return UsageError(
            what="--source with a user name or password in it",
            why="plans are saved and shown, so a password must not be part of one",
            hint="give git a credential helper, or put them into ~/.netrc, which it reads",
        )
    return None


def must_have_ref(location: str, ref: str) -> None:
    """Raise UsageError where there is certainly no such tag: a repository that cannot be reached now is no reason."""
    try:
        find(location, ref)
    except StepFailed:
        if is_local(location):
            raise


def find(location: str, ref: str, *, cancel: threading.Event | None = None) -> Found:
    """The commit of a tag or branch, as the repository says it now.

    Raises UsageError where it has none of that name, StepFailed where it cannot be asked, Interrupted.
    """
    if COMMIT.fullmatch(ref):
        return Found(ref=ref, commit=ref)
    done = git(["ls-remote", "--tags", "--heads", "--", location], location=location, cancel=cancel, timeout_s=LOOKUP_S)
    if not done.ok:
        raise explained(done, f"{location} cannot be asked for its tags")
    commits = {name: commit for commit, _, name in (line.partition("\t") for line in done.stdout.splitlines())}
    for pattern in REFS:
        name = pattern.format(ref)
        if name in commits:
            # an annotated tag is an object of its own; "^{}" is the commit that it names
            return Found(ref=name, commit=commits.get(name + "^{}", commits[name]))
    raise _no_such_ref(location, ref, sorted(commits))


def _no_such_ref(location: str, ref: str, names: Sequence[str]) -> UsageError:
    tags = [name.removeprefix("refs/tags/") for name in names if name.startswith("refs/tags/") and "^" not in name]
    near = [tag for tag in (f"v{ref}", ref.removeprefix("v")) if tag in tags and tag != ref]
    near += [tag for tag in difflib.get_close_matches(ref, tags, n=3, cutoff=0.6) if tag not in near]
    return UsageError(
        what=f"{location} has no tag or branch {ref}",
        why=_there(tags, near),
        hint=f"--source {location}@{near[0]}" if near else f"see them all: git ls-remote --tags {location}",
    )


def _there(tags: Sequence[str], near: Sequence[str]) -> str:
    """ "it has 312 tags; the nearest are v2.15.1, v2.15.0"; all of them where they are few."""
    if near and len(tags) > 1:
        return f"it has {len(tags)} tags; the nearest are {', '.join(near)}"
    if len(tags) > FEW:
        return f"it has {len(tags)} tags"
    if len(tags) > 1:
        return f"its tags are {', '.join(tags)}"
    return f"its only tag is {tags[0]}" if tags else "it has none"


def commit_peek(location: str, ref: str) -> Peek:
    """Into a commit of the repository in the folder ``location``, without a checkout. Raises UsageError, StepFailed."""
    folder = location
    there = git(["-C", folder, "cat-file", "-e", f"{ref}^{{commit}}"], location=location)
    if there.status == 127:
        raise explained(there, f"{location} cannot be looked into")
    if not there.ok:
        raise UsageError(
            what=f"{location} has no commit {ref}",
            why=there.stderr.strip(),
            hint=f"see its tags: git -C {location} tag",
        )

    def has(name: str) -> bool:
        return git(["-C", folder, "cat-file", "-e", f"{ref}:{name}"], location=location).ok

    def read(name: str) -> str:
        shown = git(["-C", folder, "show", f"{ref}:{name}"], location=location)
        return shown.stdout if shown.ok else ""

    return Peek(has=has, read=read)


def commit_size_mib(location: str, ref: str) -> int | None:
    """Of the files of a commit of the repository in the folder ``location``; None where git does not say."""
    listed = git(["-C", location, "ls-tree", "-r", "-l", ref], location=location)
    # 100644 blob 8c5f… 1234\ttensorflow/BUILD; a submodule has "-" for a size
    sizes = [line.split("\t")[0].split()[-1] for line in listed.stdout.splitlines()]
    whole = sum(int(size) for size in sizes if size.isdigit())
    return -(-whole // 1024**2) if listed.ok and "-" not in sizes else None


def clone(location: str, found: Found, folder: Path, *, cancel: threading.Event | None = None) -> None:
    """That commit alone, with its submodules, checked out into the new ``folder``. Raises StepFailed, Interrupted."""
    what = f"{location} cannot be cloned"
    at = ["-C", str(folder)]
    submodules = ["submodule", "update", "--init", "--recursive", "--depth", "1", "--jobs", "4"]
    for arguments in (
        ["init", "--quiet", str(folder)],
        [*at, "fetch", "--quiet", "--depth", "1", "--no-tags", "--", location, found.ref],
        [*at, "-c", "core.autocrlf=false", "-c", "advice.detachedHead=false", "checkout", "--quiet", "FETCH_HEAD"],
    ):
        done = git(arguments, location=location, cancel=cancel)
        if not done.ok:
            raise explained(done, what)
    head = git([*at, "rev-parse", "HEAD"], location=location).stdout.strip()
    if head != found.commit:
        raise StepFailed(
            what=f"{location} changed while it was cloned",
            why=f"{found.ref} was {found.commit}, and is {head or 'nothing'} now",
            hint="run the same command again",
        )
    if (folder / ".gitmodules").exists():
        # a submodule's relative address is meant from the repository's, not from our folder
        git([*at, "remote", "add", "origin", location], location=location)
        done = git([*at, *submodules], location=location, cancel=cancel)
        if not done.ok:
            raise explained(done, f"the submodules of {location} cannot be fetched")


def git(
    arguments: Sequence[str],
    *,
    location: str,
    cancel: threading.Event | None = None,
    timeout_s: float | None = None,
) -> Completed:
    """Run git so that it asks nobody, runs no hook of the source's and takes no address but those of GIT_FORMS."""
    protocols = "https:ssh:http:git" + (":file" if is_local(location) else "")
    environment = {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C",
    }
    if "GIT_SSH_COMMAND" not in os.environ:
        environment["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes -o ConnectTimeout=15"
    # a repository that another user owns is only read here: git refuses it since 2.35.2
    trusted = ["-c", "safe.directory=*", "-c", "core.hooksPath=/dev/null"]
    ours = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
    return run(["git", *trusted, *arguments], env=environment, unset=ours, timeout_s=timeout_s, cancel=cancel)


def explained(done: Completed, what: str) -> ProvisionError:
    """git's failure in our three parts: its words are the why."""
    if done.status == CANCELLED:
        return Interrupted(what="interrupted", why="the source was being fetched; nothing was changed")
    if done.status == 127:
        return StepFailed(
            what=f"{what}: git is not installed here",
            why="a repository is fetched on this machine and sent to the hosts from here",
            hint="install git (apt-get install git), or give a tarball: --source FILE.tar.gz",
        )
    if done.status == TIMED_OUT:
        return StepFailed(what=f"{what}: no answer", why=done.stderr.strip(), hint=FAILURES[3][2])
    words = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    text = "\n".join([line for line in words if re.match(r"fatal|error|remote|ssh|ERROR", line)] or words[-5:])
    for pattern, cause, hint in FAILURES:
        if re.search(pattern, done.stderr):
            return StepFailed(what=f"{what}: {cause}", why=text, hint=hint)
    return StepFailed(what=what, why=text or f"git exited {done.status}", hint="git's words above say why")
