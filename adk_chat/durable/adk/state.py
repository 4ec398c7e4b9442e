"""Values that callbacks write into the state are the same in every attempt, such as a random id or the time.

Each write outside a step is recorded, and a replay writes the recorded value. So the store, the tools and the
instructions of a turn see one value.
"""

import threading
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, SupportsIndex, TypeVar

from google.adk.sessions.state import State
from pydantic_core import from_json, to_json

from adk_chat.durable.adk import values
from adk_chat.durable.journal import keys
from adk_chat.durable.journal.journal import Journal
from adk_chat.durable.journal.keys import Key

T = TypeVar("T")

_MAX_BYTES = 64 * 1024
"""Larger values are not recorded: the journal would hold the state twice."""


def replay(state: State, delta: dict[str, Any]) -> None:
    """Writes into the state what a journaled step has written."""
    with known():
        state.update(delta)


def _written(key: str, value: Any) -> Any:
    """Returns the value to write: `value` itself, unless an earlier attempt wrote another one."""
    journal = None if _thread.known else Journal.current()
    if journal is None or journal.pump.over is not None:
        return value
    try:
        made = to_json(values.encode(value))
    except (values.UnjournalableError, ValueError):
        return value
    if len(made) > _MAX_BYTES:
        return value
    recorded = journal.record_here(Key(f"state {key}", keys.current_path()), lambda: made)
    return value if recorded == made else values.decode(from_json(recorded))


class RecordedState(dict[str, Any]):
    """A session's state for code that bypasses ADK's `State`, as plugins must. Its writes are recorded too."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, _written(key, value))

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """A copy is a plain dictionary."""
        return dict, (dict(self),)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """See `dict`."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *given: Any, **more: Any) -> None:
        """See `dict`."""
        for key, value in dict(*given, **more).items():
            self[key] = value


class _Thread(threading.local):
    known = False
    """Whether a write is recorded already, or comes from an event."""


_thread = _Thread()


@contextmanager
def known() -> Generator[None, None, None]:
    """Writes within this context are not recorded. Nothing may be awaited meanwhile."""
    before, _thread.known = _thread.known, True
    try:
        yield
    finally:
        _thread.known = before


def at_once(code: Coroutine[Any, Any, T]) -> T:
    """Returns the result of a coroutine that never waits, as inside `known`, where no other code may run.

    Raises:
        RuntimeError: if it waits after all.
    """
    try:
        code.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    finally:
        code.close()
    raise RuntimeError(f"{getattr(code, '__qualname__', code)} waits, and adk_chat relies on it not to.")


def recorded_items(set_item: Any) -> Any:
    """Makes `State.__setitem__` record what is written."""

    def record_item(self: State, key: str, value: Any) -> None:
        written = _written(key, value)
        with known():
            set_item(self, key, written)

    return record_item


def recorded_updates(update: Any) -> Any:
    """Makes `State.update` record what is written."""

    def record_update(self: State, delta: dict[str, Any]) -> None:
        written = {key: _written(key, value) for key, value in delta.items()}
        with known():
            update(self, written)

    return record_update
