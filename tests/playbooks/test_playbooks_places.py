"""Where things lie on a target, how files get there, and which generations stay."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import provision_files as files
from ansible.module_utils import provision_generations as generations
from ansible.module_utils.provision_failure import Failure, os_failure, redacted
from ansible.module_utils.provision_layout import Layout, data_home
from hypothesis import given
from hypothesis import strategies as st

# ── layout, failures, files ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "/home/me/.local/share"),
        ({"XDG_DATA_HOME": "/big/my data"}, "/big/my data"),
        ({"XDG_DATA_HOME": "relative"}, "/home/me/.local/share"),
        ({"XDG_DATA_HOME": ""}, "/home/me/.local/share"),
    ],
)
def test_data_home(variables: dict[str, str], expected: str) -> None:
    assert data_home(variables, "/home/me") == Path(expected)


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "", "a/../../b"])
def test_nothing_is_put_outside_the_layout(relative: str) -> None:
    with pytest.raises(Failure, match="is not a path below /data"):
        Layout(Path("/data")).inside(relative)


def test_a_failure_is_one_text_and_its_parts() -> None:
    stop = Failure("network", "could not", "a https://me:pw@host/simple b\nsecond", "do this")
    assert stop.result() == {
        "msg": "could not\n  a https://***@host/simple b\n  second\n  hint: do this",
        "kind": "network",
        "what": "could not",
        "why": "a https://***@host/simple b\nsecond",
        "hint": "do this",
    }


def test_addresses_without_a_user_stay_as_they_are() -> None:
    assert redacted("see https://host/a@b and mail me@host") == "see https://host/a@b and mail me@host"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, "disk_full"),
        (errno.EDQUOT, "disk_full"),
        (errno.EROFS, "read_only"),
        (errno.EACCES, "permission"),
        (errno.ENOLCK, "no_lock"),
        (errno.EIO, "os_error"),
    ],
)
def test_errors_of_the_system(number: int, kind: str) -> None:
    stop = os_failure(OSError(number, os.strerror(number), "/data/x"), "write the plan")
    assert stop.kind == kind
    assert stop.what == f"could not write the plan: {os.strerror(number)}"
    assert stop.why == f"/data/x: {os.strerror(number)}"
    assert bool(stop.hint) == (kind != "os_error")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    files.write_atomically(path, "one é \udcff", 0o600)
    assert path.read_bytes() == b"one \xc3\xa9 \xff"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UnicodeEncodeError):
        files.write_atomically(path, "two \ud800")
    assert path.read_bytes() == b"one \xc3\xa9 \xff"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_switched_also_over_what_a_killed_run_left(tmp_path: Path) -> None:
    link = tmp_path / "current"
    (tmp_path / f".current.{os.getpid()}").symlink_to("left over")
    for target in ("generations/1", "generations/2"):
        files.point(link, target)
        assert str(link.readlink()) == target
    assert list(tmp_path.iterdir()) == [link]


def test_a_tree_without_write_permission_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_text("x")
    (folder / "link").symlink_to("/etc")
    for one in (folder / "a" / "b", folder / "a"):
        one.chmod(0o500)
    files.remove_tree(folder)
    assert not folder.exists()
    files.remove_tree(folder)


# ── generations ──────────────────────────────────────────────────────────────────────────────────────────────────────


def generation(number: int, fingerprint: str = "f", **changes: Any) -> generations.Found:
    state = {"complete": True, "verified": False, "fingerprint": fingerprint, **changes}
    drifted = state.pop("drifted", False)
    return generations.Found(number, Path(f"/g/{number}"), None if state.pop("half", False) else state, drifted)


def test_the_current_generation_of_a_plan_is_taken_before_a_verified_one_before_the_newest() -> None:
    three = [generation(1), generation(2, verified=True), generation(3)]
    assert [generations.matching(three, "f", current) for current in (1, None, 3)] == [three[0], three[1], three[2]]
    assert generations.matching(three, "other", 1) is None
    assert generations.matching([generation(1, drifted=True), generation(2, half=True)], "f", 1) is None


@given(
    made=st.lists(st.sampled_from(["complete", "half", "verified"]), max_size=12),
    current=st.integers(min_value=0, max_value=13),
)
def test_what_goes_is_never_current_nor_among_the_newest(made: list[str], current: int) -> None:
    found = [
        generation(number, half=kind == "half", verified=kind == "verified") for number, kind in enumerate(made, 1)
    ]
    gone = {one.number for one in generations.surplus(found, current)}
    newest = [one.number for one in found if one.complete][-3:]
    assert gone.isdisjoint({current, *newest})
    assert gone | {current, *newest} >= {one.number for one in found if one.complete}
    half = {one.number for one in generations.half_made(found, current)}
    assert half == {one.number for one in found if not one.complete} - {current}
    assert generations.next_number(found) == len(made) + 1


def test_rollback_goes_to_the_newest_verified_one_before() -> None:
    found = [generation(1, verified=True), generation(2, verified=True), generation(3), generation(4, verified=True)]
    assert generations.rollback_target(found, 4, "lab").number == 2
    with pytest.raises(Failure) as caught:
        generations.rollback_target(found, 1, "lab")
    assert caught.value.what == "environment lab has no earlier generation to go back to"
    assert caught.value.why == "current is 1; wanted an older one that passed verification; there are: 1, 2, 3, 4"


@pytest.mark.parametrize(
    ("number", "what", "why"),
    [
        (9, "environment lab has no generation 9", "there are: 1, 2, 3"),
        (2, "generation 2 of environment lab cannot be used", "it is half-made: its run was stopped"),
    ],
)
def test_a_generation_that_cannot_be_chosen(number: int, what: str, why: str) -> None:
    found = [generation(1), generation(2, half=True), generation(3, drifted=True)]
    with pytest.raises(Failure) as caught:
        generations.chosen(found, number, "lab")
    assert caught.value.what == what
    assert caught.value.why == why
    assert generations.chosen(found, 3, "lab").drifted


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '{"complete": "yes"}'])
def test_a_state_that_was_cut_short_is_half_made(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "1"
    folder.mkdir()
    (folder / "state.json").write_text(text)
    assert generations.found(folder).complete is False


@pytest.mark.parametrize(
    ("link", "number"), [("generations/7", 7), ("generations/07", None), ("/etc", None), ("generations/1/venv", None)]
)
def test_current_is_only_a_generation_of_ours(link: str, number: int | None, tmp_path: Path) -> None:
    assert generations.current_number(tmp_path) is None
    (tmp_path / "current").symlink_to(link)
    assert generations.current_number(tmp_path) == number
