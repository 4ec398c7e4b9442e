"""Deep copies of immutable values, twice as fast as inspecting each value's parts every time."""

import copy
from collections.abc import Iterable
from datetime import datetime
from enum import Enum
from typing import Any, Generic, TypeVar

from google.adk.events.event import Event
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

T = TypeVar("T")

_Shape = tuple[Any, ...]
"""A function that copies a value of this shape, which of the value's parts can change, and their shapes."""
_ATOMS = (str, int, float, bytes, bool, type(None), Enum, datetime)
_MOST_SHAPES = 1000
_shapes: dict[_Shape, _Shape] = {}
"""Most events have one of a few shapes. A shape for each event would take a third more memory."""
_set = object.__setattr__


class Copier(Generic[T]):
    """Copies a value in which no part occurs twice, such as anything parsed from JSON.

    The copies equal those of `copy.deepcopy`. The value must not be changed from now on.
    """

    __slots__ = ("_shape", "_value")

    def __init__(self, value: T) -> None:
        shape = _shape(value)
        self._value = value
        self._shape = _shapes.setdefault(shape, shape) if len(_shapes) < _MOST_SHAPES else _shapes.get(shape, shape)

    def copy(self) -> T:
        """Returns a copy that shares no mutable part with another."""
        made: T = self._shape[0](self._value, self._shape)
        return made


def _shape(value: Any) -> _Shape:
    kind = type(value)
    if getattr(kind, "__deepcopy__", None) in (BaseModel.__deepcopy__, Event.__deepcopy__):
        extra, private = value.__pydantic_extra__, value.__pydantic_private__
        if not any(part is PydanticUndefined for part in (private or {}).values()):
            more = tuple(None if part is None else _shape(part) for part in (extra, private))
            return _copy_model, _parts(vars(value).items()), *more
    elif kind is dict:
        return _copy_container, _parts(value.items())
    elif kind is list:
        return _copy_container, _parts(enumerate(value))
    elif kind is set and all(isinstance(item, _ATOMS) for item in value):
        return _copy_container, ()
    return (_copy_otherwise,)


def _parts(items: Iterable[tuple[Any, Any]]) -> tuple[tuple[Any, _Shape], ...]:
    return tuple((name, _shape(part)) for name, part in items if not isinstance(part, _ATOMS))


def _copy_container(value: Any, shape: _Shape) -> Any:
    copied = value.copy()
    for name, part in shape[1]:
        copied[name] = part[0](copied[name], part)
    return copied


def _copy_model(value: Any, shape: _Shape) -> Any:
    """Copies as `BaseModel.__deepcopy__` does."""
    fields = value.__dict__.copy()
    for name, part in shape[1]:
        fields[name] = part[0](fields[name], part)
    _, _, extra, private = shape
    kind: Any = type(value)
    copied = kind.__new__(kind)
    _set(copied, "__dict__", fields)
    _set(copied, "__pydantic_fields_set__", value.__pydantic_fields_set__.copy())
    _set(copied, "__pydantic_extra__", extra and extra[0](value.__pydantic_extra__, extra))
    _set(copied, "__pydantic_private__", private and private[0](value.__pydantic_private__, private))
    return copied


def _copy_otherwise(value: Any, _: _Shape) -> Any:
    return copy.deepcopy(value)
