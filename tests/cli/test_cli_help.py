"""The commands tell what they do, with an example, and start without heavy imports."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from provision.cli.app import app

ROOT = Path(__file__).resolve().parents[2]


def commands(group=None, prefix=()):
    """("env", "list") and so on, every command that does something."""
    group = group or get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command


EVERY = list(commands())


@pytest.mark.parametrize(("words", "command"), EVERY, ids=[" ".join(words) for words, _ in EVERY])
def test_each_command_has_help_with_an_example(words, command):
    assert f"provision {' '.join(words)}" in command.help


@pytest.mark.parametrize("words", [words for words, _ in EVERY], ids=" ".join)
def test_each_command_is_in_the_readme(words):
    assert f"provision {' '.join(words)}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("words", [words for words, _ in EVERY], ids=" ".join)
def test_each_command_speaks_json(words):
    command = dict(EVERY)[words]
    assert any("--json" in parameter.opts for parameter in command.params)


@pytest.mark.parametrize("arguments", [["--help"], ["image", "--help"], ["detect", "--json"]])
def test_neither_help_nor_detect_imports_what_it_does_not_need(arguments):
    program = (
        f"import sys; sys.argv = ['provision', *{arguments!r}]\n"
        "from provision.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'docker', 'ansible_runner', 'ansible', 'requests', 'pydantic', 'jinja2', 'cyclonedx'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_readme_is_whole():
    assert not re.findall(r"@[A-Z0-9]+@", (ROOT / "README.md").read_text())
