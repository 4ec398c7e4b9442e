"""What callbacks write into the state is what they wrote, in every attempt: a random id, or the time.

Each write outside a step is recorded; a replay writes what is recorded in its place. So the store, the tools and the
instructions of a turn see one value, whatever attempt made them.
"""

from typing import Any

from google.adk.sessions.state import State
from pydantic_core import from_json, to_json

from adk_chat.durable import keys, values
from adk_chat.durable.journal import Journal
from adk_chat.durable.keys import Key

_MAX_BYTES = 64 * 1024
"""What is larger is not recorded: the journal would hold the state twice."""
_set_item = State.__setitem__
_update = State.update


def replay(state: State, delta: dict[str, Any]) -> None:
    """Write into the state what a journaled step has written."""
    _update(state, delta)


def _written(key: str, value: Any) -> Any:
    """What is to be written: `value` itself, unless an earlier attempt has written something else there."""
    journal = Journal.current()
    if journal is None or journal.pump.over is not None:
        return value
    try:
        made = to_json(values.encode(value))
    except (values.UnjournalableError, values.UnkeepableError):
        return value
    if len(made) > _MAX_BYTES:
        return value
    recorded = journal.record_here(Key(f"state {key}", keys.current_path()), lambda: made)
    return value if recorded == made else values.decode(from_json(recorded))


def install() -> None:
    """Let ADK's state record what is written into it."""

    def set_item(self: State, key: str, value: Any) -> None:
        _set_item(self, key, _written(key, value))

    def update(self: State, delta: dict[str, Any]) -> None:
        _update(self, {key: _written(key, value) for key, value in delta.items()})

    State.__setitem__ = set_item  # type: ignore[method-assign]
    State.update = update  # type: ignore[method-assign]
