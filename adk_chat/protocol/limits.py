"""Size limits of what is stored and sent, and the checks that enforce them."""

from collections.abc import Sequence
from typing import Any

from adk_chat.protocol.errors import BadRequestError, TooLargeError
from adk_chat.protocol.json import Json

ENGINE_BYTES = 32 * 1024 * 1024
"""Restate's own limit. It retries anything larger without end, so every other limit is below it."""

MAX_BYTES = 24 * 1024 * 1024
"""The largest K/V value and the largest message."""

MAX_STATE_BYTES = 4 * 1024 * 1024
"""The largest state of one scope (session, user, app) as JSON. A turn carries all three."""

HISTORY_BYTES = 20 * 1024 * 1024
"""The most that a turn loads of its session, as JSON. Model APIs accept no more than that either."""

MAX_FRONTEND_BYTES = 1024 * 1024
"""The most that the tools and the context of a frontend take as JSON. Models are sent them with every call."""

MAX_EVENTS = 20_000
"""The most events in one request. Checking one takes 0.1 ms, during which the event loop is blocked."""

MAX_DEPTH = 180
"""The deepest nesting of stored JSON. Parsers accept 200."""


def sized(data: bytes, what: str, most: int = MAX_BYTES) -> bytes:
    """Returns `data`.

    Raises:
        TooLargeError: if `data` is larger than `most` bytes. The message calls it `what`.
    """
    if len(data) > most:
        raise TooLargeError(f"{what} takes {len(data)} bytes; at most {most} can be stored.")
    return data


def shallow(value: Json, data: bytes, what: str) -> None:
    """Checks that JSON is not nested too deeply to be read back.

    Args:
        value: the value.
        data: the same value as JSON text, which makes the common case cheap.
        what: what the error message calls it.

    Raises:
        BadRequestError: if it is nested more than `MAX_DEPTH` levels deep.
    """
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_DEPTH):
        level = [
            (f"{path}.{key}"[:100], item)
            for path, container in level
            for key, item in (container.items() if isinstance(container, dict) else enumerate(container))
            if isinstance(item, dict | list)
        ]
    if level:
        raise BadRequestError(f"{what} is nested more than {MAX_DEPTH} levels deep, at {level[0][0].lstrip('.')}...")


def limited(events: Sequence[object]) -> None:
    """Checks the number of events in a request.

    Raises:
        BadRequestError: if there are more than `MAX_EVENTS`.
    """
    if len(events) > MAX_EVENTS:
        raise BadRequestError(f"{len(events)} events are too many. Send at most {MAX_EVENTS} at once.")
