"""Progress without a terminal: plain lines, and not too many of them."""

from provision.cli.display import LiveLines, PlainLines, amount
from provision.model.report import Progress


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
