"""Reports as their reader sees them."""

from dataclasses import replace

from provision.model.report import CheckOutcome, Environment, Failure, Report, Smoke
from provision.render.report import change_text, fleet_text, report_text

SMOKE = Smoke(
    framework="tensorflow", device="cpu", dataset="mnist", samples=60000, train_s=6.5, samples_per_s=9230.8,
    accuracy=0.9812, peak_fraction=0.31,
)  # fmt: skip
REPORT = Report(
    ok=True,
    host="localhost",
    environment=Environment(
        name="default",
        generation=3,
        path="/home/me/e",
        activate=". /home/me/e/current/activate",
        previous=1,
        switched=True,
    ),
    changed=1,
    steps=(),
    checks=(CheckOutcome(id="mnist:tensorflow", status="pass", what="trained on MNIST"),),
    smoke=SMOKE,
    failures=(),
)


def test_a_proved_environment_says_how_to_activate_and_how_to_undo():
    text = report_text(REPORT)
    assert "verdict: proved to work" in text
    assert "activate: . /home/me/e/current/activate" in text
    assert "undo: provision env rollback --name default --to 1\n" in text
    assert "accuracy 98.12%" in text
    assert "31% of this box's own matrix product" in text


def test_what_the_gpu_is_worth_has_a_line_of_its_own():
    on_gpu = replace(SMOKE, device="cuda", speed_up=33.7, speed_up_expected=6.0)
    text = report_text(replace(REPORT, smoke=on_gpu))
    assert "\nspeed-up: 34 times as fast as this box's CPU (D2: more than 6)\n" in text
    slower = report_text(replace(REPORT, smoke=replace(on_gpu, speed_up=3.14)))
    assert "speed-up: 3.1 times as fast as this box's CPU (D2: more than 6)" in slower
    assert "speed-up" not in report_text(REPORT)


def test_the_first_generation_is_undone_by_removing_the_environment():
    first = replace(REPORT, host="me@box", environment=replace(REPORT.environment, generation=1, previous=None))
    assert "undo: provision env remove me@box --name default" in report_text(first)


def test_where_no_generation_was_switched_there_is_nothing_to_undo():
    brought = replace(REPORT, environment=replace(REPORT.environment, previous=None, switched=False))
    assert "undo" not in report_text(brought)


def test_nothing_changed_says_so_and_offers_no_undo():
    text = report_text(replace(REPORT, changed=0, environment=replace(REPORT.environment, switched=False)))
    assert "changed: nothing, it was as planned" in text
    assert "undo" not in text


def test_synthetic_data_is_called_so():
    text = report_text(replace(REPORT, smoke=replace(SMOKE, dataset="synthetic")))
    assert "synthetic digits (MNIST was not at hand: --data DIR)" in text


def test_a_failed_check_shows_its_cause_and_remedy():
    check = CheckOutcome(
        id="blas", status="fail", what="NumPy's BLAS is held back", why="Haswell kernels", hint="unset X"
    )
    text = report_text(replace(REPORT, ok=False, checks=(check,), smoke=None))
    assert "FAIL  blas  NumPy's BLAS is held back" in text
    assert "Haswell kernels" in text
    assert "hint: unset X" in text
    assert "verdict: NOT proved" in text


def test_an_environment_without_checks_is_not_called_proved():
    assert "verdict: in place; verification was left out" in report_text(replace(REPORT, checks=(), smoke=None))


def test_the_fleet_table_names_failures_and_outliers():
    slow = replace(REPORT, host="b", smoke=replace(SMOKE, samples_per_s=1000.0))
    dead = replace(REPORT, host="c", ok=False, failures=(Failure(what="c cannot be reached"),), smoke=None)
    text = fleet_text([replace(REPORT, host="a"), replace(REPORT, host="a2"), slow, dead])
    assert "outlier" in next(line for line in text.splitlines() if "  b " in line)
    assert "FAIL  c   c cannot be reached" in text
    assert "3 of 4 hosts as planned" in text


def test_a_rollback_says_which_generation_is_current_now():
    assert change_text(replace(REPORT, changed=1)) == "localhost: default is now generation 3\n"
    assert change_text(replace(REPORT, changed=0)) == "localhost: default is already generation 3\n"


def test_a_removal_says_so():
    assert change_text(replace(REPORT, environment=None)) == "localhost: removed\n"


def test_a_change_that_failed_says_why():
    failure = Failure(what="no earlier generation", why="current is 1", hint="see provision env list")
    text = change_text(replace(REPORT, ok=False, failures=(failure,)))
    assert text == "error: localhost: no earlier generation\n  current is 1\n  hint: see provision env list\n"
