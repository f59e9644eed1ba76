"""What Bazel writes, read: texts that 4.2.3 wrote (bazel-4.2.3/), shapes of later ones, and anything at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.module_utils import provision_bazel_events as bep
from ansible.module_utils import provision_bazel_failures as failures
from ansible.module_utils import provision_bazel_profile as profile
from ansible.module_utils.provision_bazel_progress import Spawns, Step, Watch, spawns, step
from hypothesis import given
from hypothesis import strategies as st
from playbook_bazel import build_data, context

TEXTS = Path(__file__).parent / "bazel-4.2.3"


def watched(name: str) -> Watch:
    watch = Watch()
    for line in (TEXTS / f"{name}.txt").read_text().splitlines():
        watch.hear(line)
    return watch


# ── [N / M] ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "[7 / 16] Compiling src/m8.cc; 0s remote-cache, local ... (3 actions, 2 running)",
            Step(7, 16, 2, "Compiling src/m8.cc"),
        ),
        ("[3,041 / 14,094] 12 actions, 8 running", Step(3041, 14094, 8, "")),
        ("[3,041 / 14,094] 8 actions running", Step(3041, 14094, 8, "")),
        (
            "(12:00:01) [3,041 / 14,094] Compiling a/b.cc; 12s local ... (8 actions running)",
            Step(3041, 14094, 8, "Compiling a/b.cc"),
        ),
        ("[1.234 / 2.345] Linking x.so; 3s local ... (2 actions)", Step(1234, 2345, 2, "Linking x.so")),
        ("[3 / 5] Executing genrule //src:slow; 4s local", Step(3, 5, 1, "Executing genrule //src:slow")),
        ("[1 / 2] 3 / 4 tests; Linking x; 3s", Step(1, 2, 1, "Linking x")),
        ("[0 / 15] [Prepa] Linking src/libmany.a", Step(0, 15, 0, "Linking src/libmany.a")),
        ("[1 / 2] checking cached actions", Step(1, 2, 0, "")),
        ("[1 / 2] no actions running", Step(1, 2, 0, "")),
        ("[1 / 2]", Step(1, 2, None, "")),
        ("Analyzing: target //src:many (15 packages loaded, 66 targets configured)", None),
        ("INFO: Found 1 target...", None),
        ("[a / b] nothing", None),
    ],
)
def test_a_progress_line_says_how_far_it_is(line: str, expected: Step | None) -> None:
    assert step(line) == expected


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 999))
def test_any_numbers_are_read_with_their_thousands(done: int, total: int, running: int) -> None:
    assert step(f"[{done:,} / {total:,}] 12 actions, {running} running") == Step(done, total, running, "")


@given(st.text())
def test_no_line_breaks_the_reader(line: str) -> None:
    watch = Watch()
    watch.hear(line)
    watch.hear(f"[1 / 2] {line}")
    watch.hear(f"INFO: 2 processes: {line}")
    assert watch.total in (None, 2) or step(line) is not None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("INFO: 17 processes: 14 remote cache hit, 3 internal.", (17, 14, 0, 17)),
        ("INFO: 8 processes: 1 remote cache hit, 4 internal, 3 local.", (8, 1, 3, 8)),
        ("INFO: 1 process: 1 internal.", (1, 0, 0, 1)),
        ("INFO: 0 processes.", (0, 0, 0, 0)),
        # from 7 on the two caches have names of their own, and what lay in the tree is counted
        (
            "INFO: 12,345 processes: 1,000 action cache hit, 9,000 disk cache hit, 1,345 internal, 1,000 local.",
            (12345, 9000, 1000, 11345),
        ),
    ],
)
def test_the_closing_line_says_how_actions_were_done(line: str, expected: tuple[int, ...]) -> None:
    found = spawns(line)
    assert isinstance(found, Spawns)
    assert (found.total, found.cache_hits, found.executed, found.actions) == expected


def test_a_whole_log_is_followed() -> None:
    watch = watched("success")
    assert (watch.done, watch.total, watch.text) == (15, 17, "Linking src/libmany.a")
    assert watch.spawns == Spawns(17, {"internal": 3, "local": 14})
    assert watched("cached").spawns == Spawns(17, {"remote cache hit": 14, "internal": 3})
    assert (watch.errors, watch.reading, watch.writing) == ([], set(), set())


def test_done_never_goes_back_while_the_total_may() -> None:
    watch = Watch()
    seen = []
    for done, total in ((1, 2), (5, 9), (3, 7), (6, 12)):
        assert watch.hear(f"[{done} / {total}] 1 action running")
        seen.append((watch.done, watch.total))
    assert seen == [(1, 2), (5, 9), (5, 7), (6, 12)]


def test_what_went_wrong_with_a_cache_is_found_in_the_warnings() -> None:
    flip, refused = watched("flip"), watched("refused")
    # 4.2.3 gives a reason only where it fetched one file, or with --verbose_failures, which we pass
    assert (flip.reading, flip.writing) == ({"", "a blob whose content does not match its digest"}, set())
    assert (refused.reading, refused.writing) == (set(), {""})
    watch = Watch()
    for line in (
        "WARNING: Writing to Remote Cache:",
        "com.google.devtools.build.lib.remote.BulkTransferException: 4 errors during bulk transfer",
        "\tSuppressed: com.google.devtools.build.lib.remote.http.HttpException: 403 Forbidden",
        "WARNING: Reading from Remote Cache:",
        "io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: /127.0.0.1:18799",
    ):
        watch.hear(line)
    assert (watch.reading, watch.writing) == ({"connection refused"}, {"HTTP 403 Forbidden"})


# ── build events ──────────────────────────────────────────────────────────────────────────────────────────────────


def events(name: str) -> bep.Events:
    return bep.read(TEXTS / f"{name}.bep.json")


def test_a_good_build() -> None:
    found = events("success")
    assert (found.success, found.exit_name, found.exit_code, found.last) == (True, "SUCCESS", 0, True)
    assert [Path(path).name for path in found.outputs] == ["libmany.a", "libmany.so"]
    assert (found.actions_executed, found.failed, found.aborted) == (17, [], [])


def test_the_failing_action() -> None:
    found = events("broken")
    assert (found.success, found.exit_name, found.exit_code) == (False, "BUILD_FAILURE", 1)
    (failed,) = found.failed
    assert (failed.label, failed.mnemonic, failed.exit_code) == ("//src:broken", "CppCompile", 1)
    assert failed.command_line.startswith("/usr/bin/gcc -U_FORTIFY_SOURCE ")
    assert failed.stderr.startswith("/home/me/bazel/")
    assert events("genrule").failed[0].exit_code == 3  # the event's own exitCode says 1


def test_a_target_that_is_not_there() -> None:
    (aborted,) = events("notarget").aborted
    assert (aborted.label, aborted.reason) == ("//src:nosuch", "LOADING_FAILURE")
    assert "not declared in package 'src'" in aborted.description


def test_an_interrupted_build_and_a_server_that_was_killed() -> None:
    interrupted, killed = events("interrupted"), events("killed")
    assert (interrupted.exit_name, interrupted.exit_code, interrupted.last) == ("INTERRUPTED", 8, True)
    assert (killed.started, killed.finished, killed.last) == (True, False, False)


def test_a_file_that_is_cut_at_any_byte_is_read_as_far_as_it_goes() -> None:
    whole = (TEXTS / "broken.bep.json").read_text()
    last = 0
    for cut in range(0, len(whole), 97):
        found = bep.parse(whole[:cut].splitlines())
        assert found.unreadable <= 1
        assert len(found.failed) >= last
        last = len(found.failed)
    assert last == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
KINDS = st.sampled_from(
    ["started", "actionCompleted", "targetCompleted", "buildFinished", "buildMetrics", "pattern", "progress"]
)
PAYLOADS = st.sampled_from(["action", "completed", "finished", "buildMetrics", "aborted", "lastMessage"])


@given(st.lists(st.tuples(KINDS, json_values, st.dictionaries(PAYLOADS, json_values)) | st.text()))
def test_no_event_breaks_the_reader(lines: list[str | tuple[str, object, dict[str, object]]]) -> None:
    texts = [one if isinstance(one, str) else json.dumps({"id": {one[0]: one[1]}, **one[2]}) for one in lines]
    found = bep.parse(texts)
    assert all(isinstance(one, bep.Failed) for one in found.failed)


@pytest.mark.parametrize(
    ("uri", "path"),
    [("file:///home/a%20b", "/home/a b"), ("bytestream://h/blobs/x/1", ""), (None, ""), ("file://[", "")],
)
def test_only_files_of_this_machine_are_read(uri: object, path: str) -> None:
    assert bep.local_path(uri) == path


def test_what_a_failed_action_wrote(tmp_path: Path) -> None:
    failed = bep.Failed("//a", "CppCompile", "a.o", ("gcc",), 1, "", str(tmp_path / "err"), str(tmp_path / "out"))
    assert bep.output_of(failed) == ""
    (tmp_path / "out").write_text("from out\n")
    assert bep.output_of(failed) == "from out"
    (tmp_path / "err").write_bytes(b"a.cc:1: error: \xff\n")
    assert bep.output_of(failed) == "a.cc:1: error: \ufffd"


# ── what ran ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "expected"), [("success", (14, 12)), ("cached", (0, 0)), ("broken", (1, 1)), ("sandboxed", (4, 3))]
)
def test_the_trace_tells_what_ran(name: str, expected: tuple[int, int]) -> None:
    found = profile.read(TEXTS / f"{name}.profile.json")
    assert found == profile.Ran(*expected)


def test_hits_are_counted_while_the_trace_grows(tmp_path: Path) -> None:
    data = (TEXTS / "cached.profile.json").read_bytes()
    follower = profile.Follower(tmp_path / "profile.json")
    assert follower.look() == 0
    seen = []
    for end in range(0, len(data) + 500, 500):
        (tmp_path / "profile.json").write_bytes(data[:end])
        seen.append(follower.look())
    assert seen == sorted(seen)
    assert seen[-1] == 14


def test_later_releases_name_the_mnemonic() -> None:
    def line(name: str, mnemonic: str, at: int) -> str:
        event = {"cat": "action processing", "name": name, "ph": "X", "ts": at, "dur": 10, "tid": 1}
        return json.dumps({**event, "args": {"target": "//a", "mnemonic": mnemonic}}) + ","

    lines = [
        line("Compiling messages of a.po", "Genrule", 0),
        '{"cat":"local action execution","name":"Genrule","ph":"X","ts":2,"dur":3,"tid":1},',
        line("Compiling a.cc", "CppCompile", 20),
        '{"cat":"local action execution","name":"CppCompile","ph":"X","ts":22,"dur":3,"tid":1},',
        line("Compiling b.cc", "CppCompile", 40),
    ]
    assert profile.ran(lines) == profile.Ran(2, 1)
    assert profile.ran(reversed(lines)) == profile.Ran(2, 1)


@given(st.lists(st.text()))
def test_no_trace_breaks_the_reader(lines: list[str]) -> None:
    assert profile.ran(lines).actions == 0


# ── whose fault ───────────────────────────────────────────────────────────────────────────────────────────────────


def watch_of(*errors: str) -> Watch:
    watch = Watch()
    for error in errors:
        watch.hear(f"ERROR: {error}")
    return watch


@pytest.mark.parametrize(
    ("status", "found", "errors", "expected"),
    [
        (1, events("broken"), [], False),
        (1, bep.Events(), ["BUILD:4: Compiling a.cc failed: error while parsing .d file: a.d (No such file)"], True),
        (1, bep.Events(), ["Executing genrule //a failed: not all outputs were created or valid"], True),
        (1, bep.Events(failed=[bep.Failed("//a", "CppCompile", "", (), None, "Remote Cache", "")]), [], True),
        (34, bep.Events(), [], True),
        (1, events("notarget"), ["no such target '//src:nosuch'"], False),
        (0, bep.Events(), [], False),
        (2, bep.Events(), ["Unrecognized option: --remote_cache"], False),
        (8, bep.Events(), [], False),
        (37, events("killed"), [], False),
    ],
)  # fmt: skip
def test_only_what_a_cache_may_have_caused_is_tried_again(
    status: int, found: bep.Events, errors: list[str], expected: bool
) -> None:
    assert failures.caused_by_cache(status, found, watch_of(*errors)) is expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("In file included from a.h:1:\na.cc:3:9: fatal error: x.h: No such file\ncompilation terminated.",
         "a.cc:3:9: fatal error: x.h: No such file"),
        ("a.cc: note\ngcc: fatal error: Killed signal terminated program cc1plus",
         "gcc: fatal error: Killed signal terminated program cc1plus"),
        ("a.o: in function `f':\na.cc:(.text+0x5): undefined reference to `g'\ncollect2: error: ld returned 1",
         "a.cc:(.text+0x5): undefined reference to `g'"),
        ("never mind\n", "never mind"),
        ("", ""),
    ],
)  # fmt: skip
def test_the_line_that_says_what_is_wrong(text: str, line: str) -> None:
    assert failures.error_line(text) == line


@pytest.mark.parametrize(
    ("errors", "what"),
    [
        (["Error fetching repository: write (No space left on device)"], "Bazel could not build demo 1.0"),
        ([], "Bazel's server died while it built demo 1.0"),
    ],
)
def test_events_without_an_end_are_a_dead_server_only_where_no_error_was_told(
    tmp_path: Path, errors: list[str], what: str
) -> None:
    """A full disk leaves no room for the events; a server that was killed says nothing."""
    made = context(tmp_path, tmp_path / "tree", build_data(compiler=None))
    told = failures.explained(made, 1, bep.Events(), watch_of(*errors), ["Starting local Bazel server"], "bazel build")
    assert told.what == what
    assert told.why == (errors[0] if errors else "Starting local Bazel server")
