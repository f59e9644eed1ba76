"""From a TOML row to a frozen dataclass, checked by the dataclass's own annotations.

No pydantic here: its import and schemas cost more than reading all the tables (see ``load``). A test checks the same
rows with pydantic, so that this reader cannot become the laxer one.

TOML has no null: for a field that may be None, "" means None. A field with a default may be left out of the row.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from provision.errors import CatalogBroken, Explanation

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
Reader = Callable[[Any], Any]

FOLDER = Path(__file__).resolve().parent
HINT = "compare the row with its neighbours; CONTRIBUTING.md says how a row is written"


class _Wrong(Exception):
    """A value does not fit. ``path`` grows while it travels up: ("build", 2, "kernels")."""

    def __init__(self, message: str, *path: str | int) -> None:
        super().__init__(message)
        self.message = message
        self.path = path


def table(name: str, folder: Path = FOLDER, keys: Iterable[str] | None = None) -> dict[str, Any]:
    """The TOML table ``name`` ("cuda.toml"), with no top-level key but ``keys`` where they are given.

    Raises CatalogBroken where it is missing, is not TOML or has another key.
    """
    path = folder / name
    try:
        with path.open("rb") as file:
            content: dict[str, Any] = tomllib.load(file)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogBroken(
            what=f"the catalog's table {name} cannot be read", why=f"{path}: {error}", hint=HINT
        ) from None
    if keys is not None and (unknown := content.keys() - set(keys)):
        raise CatalogBroken(
            what=f"the catalog's table {name} has an unknown part",
            why=f"{name}: the key {sorted(unknown)[0]!r} is unknown (known: {', '.join(sorted(keys))})",
            hint=HINT,
        )
    return content


def make(kind: type[T], row: Any, file: str, place: str) -> T:
    """``row`` as a ``kind``. Raises CatalogBroken naming ``file``, ``place`` ("[[cuda]] 3") and the key."""
    try:
        return typing.cast("T", _reader(typing.cast("Any", kind))(row))
    except _Wrong as wrong:
        raise _broken(wrong, row, file, place) from None


def make_all(kind: type[T], rows: Any, file: str, key: str) -> tuple[T, ...]:
    """Each row of ``[[key]]``, in the table's order. Raises CatalogBroken with every broken row in ``details``."""
    if not isinstance(rows, list) or not rows:
        raise CatalogBroken(what=f"the catalog's table {file} has no [[{key}]] rows", hint=HINT)
    made, broken = [], []
    for number, row in enumerate(rows, start=1):
        try:
            made.append(make(kind, row, file, f"[[{key}]] {number}"))
        except CatalogBroken as error:
            broken.append(error)
    if broken:
        first, *others = broken
        raise dataclasses.replace(first, details=tuple(Explanation(what=other.what, why=other.why) for other in others))
    return tuple(made)


def _broken(wrong: _Wrong, row: Any, file: str, place: str) -> CatalogBroken:
    name = next((f" ({key} = {row[key]!r})" for key in _names(row)), "")
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in wrong.path).lstrip(".")
    return CatalogBroken(
        what=f"the catalog's table {file} has a broken row",
        why=f"{file}, {place}{name}: {where + ': ' if where else ''}{wrong.message}",
        hint=HINT,
    )


def _names(row: Any) -> list[str]:
    """The keys of ``row`` that say which one it is, best first."""
    return [key for key in ("id", "version", "match", "branch", "flag", "option", "name") if key in row] if row else []


@cache
def _reader(kind: Any) -> Reader:
    """The function that reads a value of the annotation ``kind``."""
    if kind is Any:
        return lambda value: value
    if kind in (str, int, float, bool):
        return _plain(kind)
    if dataclasses.is_dataclass(kind):
        return _row(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return _choice(arguments)
    if origin is tuple:
        return _tuple(_reader(arguments[0]))
    if origin in (typing.Union, types.UnionType):
        return _optional(_reader(next(argument for argument in arguments if argument is not type(None))))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_reader(arguments[1]))
    raise TypeError(f"no reader for {kind!r}")


def _plain(kind: type) -> Reader:
    word = {str: "text", int: "a whole number", float: "a number with a point", bool: "true or false"}[kind]

    def read(value: Any) -> Any:
        if type(value) is not kind:
            raise _Wrong(f"{value!r} is not {word}")
        return value

    return read


def _choice(choices: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if value not in choices:
            raise _Wrong(f"{value!r} is none of {', '.join(map(str, choices))}")
        return value

    return read


def _optional(inner: Reader) -> Reader:
    return lambda value: None if value == "" else inner(value)


def _tuple(inner: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise _Wrong(f"{value!r} is not a list")
        found = []
        for number, item in enumerate(value, start=1):
            try:
                found.append(inner(item))
            except _Wrong as wrong:
                raise _Wrong(wrong.message, number, *wrong.path) from None
        return tuple(found)

    return read


def _mapping(inner: Reader) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _Wrong(f"{value!r} is not a table")
        return types.MappingProxyType({key: _under(key, inner, item) for key, item in value.items()})

    return read


def _row(kind: Any) -> Reader:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    readers = {field.name: _reader(hints[field.name]) for field in fields}
    required = {field.name for field in fields if _required(field)}

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _Wrong(f"{value!r} is not a table")
        if missing := required - value.keys():
            raise _Wrong(f"the key {sorted(missing)[0]!r} is missing")
        if unknown := value.keys() - readers.keys():
            raise _Wrong(f"the key {sorted(unknown)[0]!r} is unknown (known: {', '.join(sorted(readers))})")
        return kind(**{key: _under(key, readers[key], item) for key, item in value.items()})

    return read


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _under(key: str, inner: Reader, value: Any) -> Any:
    try:
        return inner(value)
    except _Wrong as wrong:
        raise _Wrong(wrong.message, key, *wrong.path) from None
