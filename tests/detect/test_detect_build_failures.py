"""Known failures of builds: each row is shown by its tools' words, and by nothing that is merely near them."""

from __future__ import annotations

import dataclasses
import re
import time

import pytest
from build_logs import NEAR, SHOWN
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.catalog.failures import build_failures, read_failures
from provision.detect.build_failures import OWN_LINES, REACH, UNKNOWN, diagnose, failure_from, own_lines
from provision.errors import CatalogBroken
from provision.model.versions import Dotted

ROWS = build_failures()
BY_ID = {row.id: row for row in ROWS}
AROUND = "INFO: Analyzed target //x (1 packages loaded).\n{}\nINFO: Elapsed time: 12.3s\n"


def ids(log: str, **known: object) -> list[str]:
    return [each.id for each in diagnose(log, ROWS, **known)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in SHOWN.items() for line in lines])
def test_a_row_is_shown_by_its_words_and_no_other_row_is(name, line):
    (found,) = diagnose(AROUND.format(line), ROWS, own_compiler=BY_ID[name].own_compiler)
    assert found.id == name
    assert found.line in re.sub(r"\x1b\[[0-9;]*m", "", line)
    assert (found.cause, found.remedy, found.source) == (BY_ID[name].cause, BY_ID[name].remedy, BY_ID[name].source)


def test_every_row_and_every_symptom_of_it_is_tried():
    assert SHOWN.keys() == BY_ID.keys()
    assert len(BY_ID) == len(ROWS)
    for name, row in BY_ID.items():
        for symptom in row.symptoms:
            alone = dataclasses.replace(row, symptoms=(symptom,))
            assert any(diagnose(line, [alone], own_compiler=True) for line in SHOWN[name]), (name, symptom.text)


@pytest.mark.parametrize("line", NEAR)
def test_what_is_near_is_not_taken_for_it(line):
    assert ids(AROUND.format(line), own_compiler=True) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_row_is_whole(row):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.id)
    assert row.cause[0].islower() or row.cause.split()[0] in (
        "GCC",
        "CUDA",
        "XNNPACK",
        "Bazel's",
        "Bazelisk",
        "Python",
        "TensorFlow",
    )
    assert not row.cause.endswith(".")
    assert all(row.source)
    assert all(len(symptom.text) >= 4 and "\n" not in symptom.text for symptom in row.symptoms)
    for symptom in row.symptoms:
        re.compile(symptom.pattern), re.compile(symptom.unless)
    if row.since and row.until:
        assert Dotted(row.since) <= Dotted(row.until)


def test_options_that_a_remedy_names_are_ours():
    from typer.main import get_command

    from provision.cli.app import app

    group = get_command(app)
    known = {name for command in ("up", "plan") for each in group.commands[command].params for name in each.opts}
    for row in ROWS:
        ours = re.findall(r"(?<![\w=-])(--[a-z][a-z-]+)(?![\w=])", row.remedy)
        others = {"--define", "--copt", "--host", "--config"}
        assert set(ours) - others <= known, row.id


# --- what is known of the build ---------------------------------------------------------------------------------


def test_releases_leave_out_what_was_not_there_yet_or_is_gone():
    line = SHOWN["patchelf-missing"][0]
    assert ids(line, framework="tensorflow", version="2.12.1") == ["patchelf-missing"]
    assert ids(line, framework="tensorflow", version="2.9.3") == []
    assert ids(line, framework="tensorflow") == ["patchelf-missing"]
    assert ids(line, framework="pytorch") == []
    assert ids(SHOWN["protobuf-4"][0], framework="tensorflow", version="2.10.1") == []
    assert ids(SHOWN["protobuf-4"][0], framework="tensorflow", version="nightly") == ["protobuf-4"]
    assert ids(SHOWN["out-of-memory"][0], framework="numpy", version="2.4.6") == ["out-of-memory"]


def test_compilers_leave_out_what_is_anothers():
    line = SHOWN["clang-extension-is-an-error"][0]
    assert ids(line, compiler="clang 16.0.6") == ["clang-extension-is-an-error"]
    assert ids(line, compiler="GCC 12.2.0") == []
    assert ids(line, compiler="/opt/x") == ["clang-extension-is-an-error"]
    assert ids(SHOWN["llvm-is-downloaded"][0]) == []


def test_several_are_told_in_the_tables_order():
    log = "\n".join(SHOWN[name][0] for name in ("flags-do-not-fit", "disk-full", "out-of-memory"))
    assert ids(log) == ["out-of-memory", "disk-full", "flags-do-not-fit"]


# --- logs of any size -------------------------------------------------------------------------------------------


def test_ten_megabytes_take_less_than_a_second():
    line = "[12 / 3,041] Compiling tensorflow/core/kernels/matmul_op.cc; 12s local ... (8 actions, 7 running) -O3\n"
    log = line * (10_000_000 // len(line)) + SHOWN["out-of-memory"][0]
    begun = time.process_time()
    assert ids(log) == ["out-of-memory"]
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_long_lines_and_many_near_misses_take_no_time(row):
    begun = time.process_time()
    for symptom in row.symptoms:
        for filler in ("a", " ", "'", "Downloading ", symptom.text):
            log = filler * (1_000_000 // len(filler)) + symptom.text + filler * 1000
            diagnose(log, [row], own_compiler=True)
    assert time.process_time() - begun < 1


@given(st.text(max_size=400), st.sampled_from([line for lines in SHOWN.values() for line in lines]), st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_no_text_breaks_it(text, line, place):
    diagnose(text[:place] + line + text[place:], ROWS, own_compiler=True)
    failure_from({"log_tail": text, "why": text}, ROWS)


def test_a_symptom_in_a_long_line_is_shown_with_what_is_around_it():
    long = "x" * 5000 + " g++: fatal error: Killed signal terminated program cc1plus " + "y" * 5000
    (found,) = diagnose(long, ROWS)
    assert "Killed signal terminated program cc1plus" in found.line
    assert len(found.line) < 2 * REACH
    assert found.line.startswith("…")


# --- what a report shows ----------------------------------------------------------------------------------------


def test_a_failed_build_is_told_with_its_own_words_its_cause_its_remedy_and_its_log():
    data = {
        "kind": "build",
        "what": "tensorflow 2.15.1 cannot be built",
        "why": "bazel exited 1",
        "label": "//tensorflow/core:lib",
        "log_tail": "tensorflow/x.cc: In function\ng++: fatal error: Killed signal terminated program cc1plus",
        "log": "/home/me/.local/share/provision/builds/ab12/log.txt",
        "hint": "see the log",
        "command": "bazel build //x",
    }
    failure = failure_from(data, ROWS, framework="tensorflow", version="2.15.1", compiler="gcc 12.2.0")
    assert failure.what == "tensorflow 2.15.1 cannot be built"
    assert failure.why == (
        "bazel exited 1\n"
        "the action that failed: //tensorflow/core:lib\n"
        "tensorflow/x.cc: In function\n"
        "g++: fatal error: Killed signal terminated program cc1plus\n"
        "known cause: the machine ran out of memory: one compiler takes about 2 GiB, 4 have been seen, and several "
        "ran at once\n"
        "the whole log: /home/me/.local/share/provision/builds/ab12/log.txt"
    )
    assert failure.hint.startswith("fewer at once: --jobs N")
    assert (failure.kind, failure.exit_code) == ("build", 5)


def test_an_unknown_failure_keeps_the_modules_hint_or_says_that_nothing_is_known():
    known = failure_from({"what": "it failed", "log_tail": ["a", "b"], "hint": "look"}, ROWS)
    assert (known.why, known.hint) == ("a\nb", "look")
    assert failure_from({}, ROWS).what == "the build failed"
    assert failure_from({}, ROWS).hint == UNKNOWN


def test_a_long_tail_keeps_its_first_error_and_its_end():
    tail = [f"line {number}" for number in range(100)]
    tail[10] = "x.cc:1:1: error: no"
    shown = own_lines(tail)
    assert len(shown) == OWN_LINES
    assert shown[:5] == ["x.cc:1:1: error: no", "line 11", "line 12", "line 13", "…"]
    assert shown[-1] == "line 99"
    tail[10] = "fine"
    assert own_lines(tail)[0] == "…"
    assert len(own_lines(tail)) == OWN_LINES
    assert own_lines(tail[:20]) == tail[:20]


def test_a_broken_row_is_named(tmp_path):
    (tmp_path / "build_failures.toml").write_text('[[failure]]\nid = "x"\ncause = "c"\nremedy = "r"\nsource = []\n')
    with pytest.raises(CatalogBroken) as stop:
        read_failures(tmp_path)
    assert "[[failure]] 1 (id = 'x'): the key 'symptoms' is missing" in stop.value.why
