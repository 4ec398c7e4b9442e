"""Deep copies of values that never change, twice as fast as looking anew each time at what they consist of."""

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
"""What copies a value, given it and this; and for that which of its parts can change, and their shapes."""
_ATOMS = (str, int, float, bytes, bool, type(None), Enum, datetime)
_MOST_SHAPES = 1000
_shapes: dict[_Shape, _Shape] = {}
"""Most events are of a few shapes; each of its own would be a third more memory."""
_set = object.__setattr__


class Copier(Generic[T]):
    """Makes copies of a value, of which no part is in two places, as of anything that was read from JSON.

    They equal those of `copy.deepcopy`. The value is not to be changed from now on.
    """

    __slots__ = ("_shape", "_value")

    def __init__(self, value: T) -> None:
        shape = _shape(value)
        self._value = value
        self._shape = _shapes.setdefault(shape, shape) if len(_shapes) < _MOST_SHAPES else _shapes.get(shape, shape)

    def copy(self) -> T:
        """A copy that has no part in common with another one."""
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
    """As `BaseModel.__deepcopy__` does."""
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
