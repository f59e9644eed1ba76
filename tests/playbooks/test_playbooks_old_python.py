"""What runs on a target is Python 3.8's language: an old distribution's own interpreter carries the modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
FILES = sorted(
    [*PLAYBOOKS.glob("module_utils/*.py"), *PLAYBOOKS.glob("library/*.py"), *PLAYBOOKS.glob("roles/*/library/*.py")]
)
NO_ARGUMENTS = {"dict", "list", "tuple", "set", "frozenset", "type"}
"""Built-in classes that take no arguments before 3.9; those of collections.abc join them, file by file."""


def too_new(text: str) -> list[str]:
    """What Python 3.8 would stop at: a line each. Annotations are not evaluated there."""
    tree = ast.parse(text, feature_version=(3, 8))
    imported = (
        each for each in ast.walk(tree) if isinstance(each, ast.ImportFrom) and each.module == "collections.abc"
    )
    bare = NO_ARGUMENTS | {alias.asname or alias.name for each in imported for alias in each.names}
    return [
        f"line {each.lineno}: {each.value.id}[…]"
        for each in _evaluated(tree)
        if isinstance(each, ast.Subscript) and isinstance(each.value, ast.Name) and each.value.id in bare
    ]


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _evaluated(child)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_module_is_read_by_python_3_8(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "from __future__ import annotations" in text or "[" not in text
    assert too_new(text) == []


def test_what_would_stop_it_is_seen() -> None:
    head = "from __future__ import annotations\nfrom collections.abc import Mapping\n"
    assert too_new(head + "def f(a: Mapping[str, int]) -> dict[str, int]: ...\n") == []
    assert too_new(head + "Sides = Mapping[str, int]\n") == ["line 3: Mapping[…]"]
    assert too_new("Rows = list[str]\n") == ["line 1: list[…]"]
    with pytest.raises(SyntaxError):
        too_new("match 1:\n    case 1:\n        pass\n")
