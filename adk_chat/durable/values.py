"""Python values in the journal: plain JSON as it is, anything richer beside the name of its type."""

import importlib
import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

_TYPE = "$type"
_VALUE = "value"


class UnjournalableError(Exception):
    """A value has no form in JSON that gives an equal value back."""


def encode(value: Any) -> Any:
    """`value` as JSON data from which `decode` makes an equal value of the same type.

    Dataclasses, pydantic models, enums, dates, tuples, sets and the like keep their type.

    Raises:
        UnjournalableError: there is no such data, as for a lock, a generator or a NaN.
    """
    kind: Any = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is list:
        return [encode(item) for item in value]
    if kind is dict and _TYPE not in value and all(type(key) is str for key in value):
        return {key: encode(item) for key, item in value.items()}
    if kind in _BUILTIN:
        return {_TYPE: kind.__name__, _VALUE: _BUILTIN[kind][0](value)}
    name = f"{kind.__module__}:{kind.__qualname__}"
    try:
        data = _adapter(kind).dump_python(value, mode="json", by_alias=True)
        equal = bool(_adapter(kind).validate_python(data) == value) and _resolve(name) is kind
    except (PydanticSchemaGenerationError, PydanticSerializationError, ValidationError, ValueError, TypeError) as error:
        raise UnjournalableError(f"A {kind.__qualname__} has no form in JSON: {error}") from error
    if not equal:
        raise UnjournalableError(f"A {kind.__qualname__} does not survive JSON: {value!r:.200}")
    return {_TYPE: name, _VALUE: data}


def decode(data: Any) -> Any:
    """The value that was given to `encode`."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if _TYPE not in data:
        return {key: decode(item) for key, item in data.items()}
    for kind, (_, restore) in _BUILTIN.items():
        if kind.__name__ == data[_TYPE]:
            return restore(data[_VALUE])
    return _adapter(_resolve(data[_TYPE])).validate_python(data[_VALUE])


def _items(items: Any) -> list[Any]:
    return [encode(item) for item in items]


_BUILTIN: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: (lambda value: b64encode(value).decode(), b64decode),
    tuple: (_items, lambda data: tuple(decode(data))),
    set: (_items, lambda data: set(decode(data))),
    frozenset: (_items, lambda data: frozenset(decode(data))),
    dict: (lambda value: [_items(pair) for pair in value.items()], lambda data: dict(decode(data))),
}


@lru_cache(maxsize=1024)
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _resolve(name: str) -> Any:
    module, _, qualname = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UnjournalableError(f"{name} is not importable, so its values cannot be read back.") from error
    return found
