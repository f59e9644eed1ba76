"""Progress without a terminal: plain lines, and not too many of them."""

from dataclasses import replace

import pytest

from provision.cli.display import LiveLines, PlainLines, amount, build_line
from provision.model.report import BuildProgress, Progress


def test_a_step_is_a_line_and_its_end_another(capsys):
    lines = PlainLines(["localhost"])
    lines.event(Progress(host="localhost", kind="step", step="Install"))
    lines.event(Progress(host="localhost", kind="changed", step="Install", text="42 packages"))
    assert capsys.readouterr().err == "Install\nInstall · changed · 42 packages\n"


def test_with_several_hosts_each_line_names_its_host(capsys):
    lines = PlainLines(["a", "b"])
    lines.event(Progress(host="b", kind="step", step="Install"))
    assert capsys.readouterr().err == "b: Install\n"


def test_progress_within_ten_seconds_is_not_repeated(capsys):
    lines = PlainLines(["localhost"])
    lines.event(Progress(host="localhost", kind="step", step="Install"))
    for done in range(100):
        lines.event(Progress(host="localhost", kind="progress", step="Install", done_mib=done, total_mib=100))
    assert capsys.readouterr().err == "Install\n"


def test_the_live_table_has_one_line_a_host():
    from rich.console import Console

    lines = LiveLines(["a", "b"])
    lines.event(Progress(host="a", kind="progress", step="Install", done_mib=120.0, total_mib=250.0))
    console = Console(width=100)
    with console.capture() as caught:
        console.print(lines)
    shown = caught.get().splitlines()
    assert len(shown) == 2
    assert "120 of 250 MiB" in shown[0]
    assert shown[1].startswith("b  waiting")


def test_amounts():
    assert amount(None, None) == ""
    assert amount(3.2, None) == "3 MiB"
    assert amount(3.2, 10) == "3 of 10 MiB"


# --- builds -----------------------------------------------------------------------------------------------------

BUILD = BuildProgress(done=3041, total=14094, cached=120, running=8, elapsed_s=252.4, remaining_s=660.0, guess=True)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            {},
            "[3,041 / 14,094] 22 %  120 from the cache  8 running  4:12, about 11 min left"
            " (a guess: no earlier build here)",
        ),
        ({"guess": False}, "[3,041 / 14,094] 22 %  120 from the cache  8 running  4:12, about 11 min left"),
        ({"remaining_s": None}, "[3,041 / 14,094] 22 %  120 from the cache  8 running  4:12"),
        ({"total": None, "cached": 0, "remaining_s": None}, "[3,041 / …]  8 running  4:12"),
        ({"total": 0, "done": 0, "running": 0, "remaining_s": None}, "[0 / 0] 0 %  120 from the cache  4:12"),
        ({"done": 14093, "cached": 0, "remaining_s": 3, "guess": False},
         "[14,093 / 14,094] 99 %  8 running  4:12, about 10 s left"),
        ({"done": 14094, "cached": 0, "running": 0, "remaining_s": None}, "[14,094 / 14,094] 100 %  4:12"),
        ({"done": 15000, "cached": 0, "running": 0, "remaining_s": None}, "[15,000 / 14,094] 100 %  4:12"),
        ({"elapsed_s": 4000, "remaining_s": 9300, "guess": False, "cached": 0},
         "[3,041 / 14,094] 22 %  8 running  1:06:40, about 2 h 40 min left"),
        ({"remaining_s": 3600, "guess": False, "cached": 0}, "[3,041 / 14,094] 22 %  8 running  4:12, about 1 h left"),
        ({"remaining_s": 51, "guess": False, "cached": 0}, "[3,041 / 14,094] 22 %  8 running  4:12, about 1 min left"),
    ],
)  # fmt: skip
def test_the_line_of_a_build(changed, line):
    assert build_line(replace(BUILD, **changed)) == line


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def built(done: int, host: str = "localhost", text: str = "") -> Progress:
    return Progress(
        host=host, kind="progress", step="Build the wheel", text=text,
        build=BuildProgress(done=done, total=1000, cached=0, running=4, elapsed_s=done, remaining_s=None, guess=True),
    )  # fmt: skip


def test_a_long_build_is_a_line_every_ten_seconds_and_every_twentieth(capsys):
    clock = Clock()
    lines = PlainLines(["localhost"], clock)
    lines.event(Progress(host="localhost", kind="step", step="Build the wheel"))
    for tick in range(300):  # 0.3 s apart, an action each
        clock.now = tick * 0.3
        lines.event(built(tick, text=f"Compiling {tick}.cc"))
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["Build the wheel", "Build the wheel · [34 / 1,000] 3 %  4 running  0:34 · Compiling 34.cc"]
    assert len(said) == 1 + 8
    for tick in range(300):
        clock.now += 0.1
        lines.event(built(300 + tick * 2))
    shares = [line.split("] ")[1].split(" %")[0] for line in capsys.readouterr().err.splitlines()]
    assert 11 <= len(shares) <= 14
    assert shares == sorted(shares)


def test_a_build_disturbs_no_other_hosts_lines(capsys):
    clock = Clock()
    lines = PlainLines(["a", "b"], clock)
    for host in ("a", "b"):
        lines.event(Progress(host=host, kind="step", step="Build the wheel"))
    for tick in range(40):
        clock.now = tick * 0.5
        lines.event(built(tick, "a"))
    lines.event(Progress(host="b", kind="done", step="Build the wheel"))
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["a", "b", "a", "b"]
    assert said[-1] == "b: Build the wheel · ok (20 s)"


@pytest.mark.parametrize("width", [60, 160])
def test_a_live_build_has_a_bar_and_one_line_whatever_the_width(width):
    from rich.console import Console

    lines = LiveLines(["a", "b"])
    lines.event(replace(built(500, "a", "Compiling x.cc"), build=BUILD))
    console = Console(width=width)
    with console.capture() as caught:
        console.print(lines)
    shown = caught.get().splitlines()
    assert len(shown) == 2
    assert "━" in shown[0]
    assert "[3,041 / 14,094] 22 %" in shown[0]
    assert ("a guess" in shown[0]) == (width == 160)
    assert shown[1].startswith("b")


def test_what_a_build_ended_with_takes_the_bars_place():
    from rich.console import Console

    lines = LiveLines(["a"])
    lines.event(built(500, "a"))
    lines.event(Progress(host="a", kind="failed", step="Build the wheel", text="it failed"))
    console = Console(width=100)
    with console.capture() as caught:
        console.print(lines)
    assert "FAILED" in caught.get()
    assert "it failed" in caught.get()
    assert "[500" not in caught.get()
