"""Python values in the journal: JSON as it is, anything else with the name of its type."""

import importlib
import math
from base64 import b64decode, b64encode
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

from google.adk.auth.auth_credential import AuthCredential
from pydantic import BaseModel, TypeAdapter
from pydantic_core import to_jsonable_python

from adk_chat.durable.adk.sealed import current_seal

_TYPE = "$type"
_SEALED, _PARTS = "sealed", "parts"
_VALUE = "value"
MAX_DEPTH = 170
"""The deepest nesting of a value as JSON. It becomes part of an event, and parsers accept 200."""


class UnjournalableError(Exception):
    """A value has no JSON form that can be read back as an equal value."""


class UnkeepableError(UnjournalableError, ValueError):
    """A value has no JSON form at all. The message says which one, and why."""


def encode(value: Any) -> Any:
    """Returns `value` as JSON data from which `decode` makes an equal value of the same type.

    Dataclasses, pydantic models, enums, dates, tuples, sets and the like keep their types.

    Raises:
        UnjournalableError: if there is no such data, as for a lock or a generator.
        UnkeepableError: if there is no JSON form at all.
    """
    return _encode(value, "", 0, strict=True)


def encode_leniently(value: Any, what: str) -> Any:
    """Like `encode`, but what cannot be encoded, even deep inside, becomes what ADK's event would contain.

    Args:
        value: the value.
        what: what error messages call it.

    Raises:
        UnkeepableError: if it is nested too deeply, or a text in it is not valid Unicode.
    """
    return _encode(value, what, 0, strict=False)


def is_typed(data: Any) -> bool:
    """Returns whether `decode` returns something else than the data itself."""
    return isinstance(data, dict) and _TYPE in data


def decode(data: Any) -> Any:
    """Returns the value that was encoded, or plain JSON if its type no longer exists."""
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if _TYPE not in data:
        return {key: decode(item) for key, item in data.items()}
    if data[_TYPE] == _SEALED:
        return current_seal().unseal(data[_VALUE])
    if data[_TYPE] == _PARTS:
        name, parts = data[_VALUE][0], decode(data[_VALUE][1])
        try:
            return _of_parts(name, parts)
        except Exception:  # its class is gone, or has changed
            return parts
    for kind, (_, restore) in _BUILTIN.items():
        if kind.__name__ == data[_TYPE]:
            return restore(data[_VALUE])
    try:
        return _adapter(resolve(data[_TYPE])).validate_python(data[_VALUE])
    except Exception:  # its class is gone, or has changed
        return data[_VALUE]


def name_of(kind: type) -> str:
    """Returns the name by which `resolve` finds a class."""
    return f"{kind.__module__}:{kind.__qualname__}"


def resolve(name: str) -> Any:
    """Returns the class with the name `module:qualname`.

    Raises:
        UnjournalableError: if there is none.
    """
    module, _, qualname = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UnjournalableError(f"{name} cannot be imported, so its values cannot be read back.") from error
    return found


def _encode(value: Any, where: str, depth: int, *, strict: bool) -> Any:
    if depth > MAX_DEPTH:
        raise UnkeepableError(f"{where:.100}... is nested more than {MAX_DEPTH} levels deep.")
    kind: Any = type(value)
    if kind is str:
        return _text(value, where)
    if value is None or kind in (bool, int) or (kind is float and math.isfinite(value)):
        return value

    def items(given: Any, level: int) -> list[Any]:
        return [_encode(item, f"{where}[{number}]", depth + level, strict=strict) for number, item in enumerate(given)]

    if kind is list:
        return items(value, 1)
    if kind is dict and _TYPE not in value and all(type(key) is str for key in value):
        return {
            _text(key, where): _encode(item, f"{where}.{key}" if where else key, depth + 1, strict=strict)
            for key, item in value.items()
        }
    if kind in (tuple, set, frozenset):
        return {_TYPE: kind.__name__, _VALUE: items(value, 2)}
    if kind is dict:
        return {_TYPE: "dict", _VALUE: [items(pair, 3) for pair in value.items()]}
    if kind is AuthCredential:
        return {_TYPE: _SEALED, _VALUE: current_seal().seal(value)}
    if kind in _BUILTIN:
        return {_TYPE: kind.__name__, _VALUE: _BUILTIN[kind][0](value)}
    try:
        return _typed(value, kind)
    except UnjournalableError:
        # Its parts may be of any type, which the JSON of the whole does not tell.
        with suppress(UnjournalableError):
            return _in_parts(value, kind, where, depth)
        if strict:
            raise
    # An iterator would be used up.
    try:
        plain = (
            repr(value)
            if hasattr(value, "__next__")
            else to_jsonable_python(value, by_alias=True, exclude_none=True, bytes_mode="base64", fallback=repr)
        )
    except Exception:  # a cycle, or a user's serializer that raises
        plain = repr(value)
    return _encode(plain, where, depth, strict=strict)


def _typed(value: Any, kind: Any) -> Any:
    name = name_of(kind)
    try:
        data = _adapter(kind).dump_python(value, mode="json", by_alias=True)
        equal = bool(_adapter(kind).validate_python(data) == value) and resolve(name) is kind
    except Exception as error:  # a user's serializer or comparison may raise anything
        raise UnjournalableError(f"A {kind.__qualname__} has no form in JSON: {error}") from error
    if not equal:
        raise UnjournalableError(f"A {kind.__qualname__} does not survive JSON: {value!r:.200}")
    return {_TYPE: name, _VALUE: data}


def _in_parts(value: Any, kind: Any, where: str, depth: int) -> Any:
    """Returns a value as its class and its parts.

    Raises:
        UnjournalableError: if it has none, they cannot be encoded, or the rebuilt value is not equal.
    """
    try:
        parts = _encode(_parts(value, kind), where, depth + 2, strict=True)
        data = {_TYPE: _PARTS, _VALUE: [name_of(kind), parts]}
        made = decode(data)
        equal = type(made) is kind and bool(made == value)
    except UnjournalableError:
        raise
    except Exception as error:  # a user's attributes or comparison may raise anything
        raise UnjournalableError(f"A {kind.__qualname__} cannot be rebuilt from its parts: {error}") from error
    if not equal:
        raise UnjournalableError(f"A {kind.__qualname__} does not equal what is rebuilt from its parts.")
    return data


def _parts(value: Any, kind: Any) -> Any:
    if isinstance(value, defaultdict):
        factory: Any = value.default_factory
        if factory is not None and resolve(name_of(factory)) is not factory:
            raise UnjournalableError(f"{factory!r} cannot be found again.")
        return [factory and name_of(factory), dict(value)]
    if isinstance(value, BaseModel):
        return value.__getstate__()
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if issubclass(kind, tuple) and hasattr(kind, "_make"):
        return list(value)
    base = next((base for base in _BASES if issubclass(kind, base)), None)
    if base is None or kind.__new__ is not base.__new__ or getattr(value, "__dict__", None):
        raise UnjournalableError(f"A {kind.__qualname__} has no parts that can be stored.")
    return base(value)


def _of_parts(name: str, parts: Any) -> Any:
    kind = resolve(name)
    if issubclass(kind, defaultdict):
        factory, items = parts
        return kind(factory and resolve(factory), items)
    if issubclass(kind, _BASES):
        return kind._make(parts) if hasattr(kind, "_make") else kind(parts)
    made = kind.__new__(kind)
    if issubclass(kind, BaseModel):
        made.__setstate__(parts)
    else:
        for field, part in parts.items():
            object.__setattr__(made, field, part)
    return made


def _text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnkeepableError(
            f"{where or 'It'} is not valid Unicode text: {text!r:.100} has half a character ({error.reason})."
        ) from error
    return text


_BUILTIN: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    bytes: (lambda value: b64encode(value).decode(), b64decode),
    bytearray: (lambda value: b64encode(value).decode(), lambda data: bytearray(b64decode(data))),
    float: (repr, float),
    tuple: (list, lambda data: tuple(decode(data))),
    set: (list, lambda data: set(decode(data))),
    frozenset: (list, lambda data: frozenset(decode(data))),
    dict: (list, lambda data: dict(decode(data))),
    range: (lambda value: [value.start, value.stop, value.step], lambda data: range(*data)),
}
_BASES = (str, int, float, bytes, list, dict, tuple, set, frozenset)
"""Types whose subclasses are rebuilt from such a value."""


@lru_cache(maxsize=1024)
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
