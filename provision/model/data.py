"""Frozen values to plain data and back: what ``--json`` prints, and what saved files hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from provision.model.versions import ComputeCapability, Dotted

T = TypeVar("T")


def to_data(value: Any) -> Any:
    """Dicts, lists, strings, numbers, booleans and None. A set becomes a sorted list; keys keep their order."""
    if isinstance(value, (Dotted, ComputeCapability)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_data(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(to_data(item) for item in value)
    if isinstance(value, (tuple, list)):
        return [to_data(item) for item in value]
    return value


def to_json(value: Any) -> str:
    """One JSON document, two-space indented, with a line end."""
    return json.dumps(to_data(value), indent=2, ensure_ascii=False) + "\n"


def from_data(kind: type[T], data: Any) -> T:
    """The value of dataclass ``kind`` that ``to_data`` made ``data`` from.

    Raises ValueError (pydantic's ValidationError is one) where a key is unknown, missing or of the wrong type.
    """
    import pydantic  # 40 ms that only reading saved files has to pay

    value = pydantic.TypeAdapter(kind).validate_python(data)
    # pydantic ignores unknown keys of standard dataclasses; what the value does not say again was not understood
    unknown = _unknown_keys(data, to_data(value), "")
    if unknown:
        raise ValueError(f"unknown key {unknown[0]}")
    return value


def _unknown_keys(given: Any, understood: Any, path: str) -> list[str]:
    if isinstance(given, Mapping) and isinstance(understood, Mapping):
        found = [f"{path}{key}" for key in given if key not in understood]
        for key in understood.keys() & given.keys():
            found += _unknown_keys(given[key], understood[key], f"{path}{key}.")
        return found
    if isinstance(given, list) and isinstance(understood, list):
        return [key for one, other in zip(given, understood, strict=False) for key in _unknown_keys(one, other, path)]
    return []
