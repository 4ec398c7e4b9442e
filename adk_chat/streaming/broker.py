"""What live streams need of a broker: the entries of a stream, in order, from a position, for any number of readers.

The store is authoritative. A broker may lose entries, but says so.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """What was published, and its position, after which a reader continues: ASCII without `.` and blanks."""

    position: str
    data: bytes


class BrokerError(Exception):
    """The requested broker cannot be used."""


class LostError(Exception):
    """What was asked for is not in the broker, or not any more.

    Attributes:
        resume: the position from which `read` continues with what is still there, or will be when the broker is back;
            None if nothing is there.
    """

    def __init__(self, message: str, resume: str | None = None) -> None:
        super().__init__(message)
        self.resume = resume


class Broker(Protocol):
    """Streams with bounded entries, bytes and age."""

    def publish(self, stream: str, data: bytes, *, last: bool = False) -> None:
        """Appends to a stream. Never waits and never raises. Has to be called on the event loop.

        After the `last` entry the stream can be dropped soon: later readers use the store.
        """

    async def flush(self) -> None:
        """Waits until others can read what was published, or it is given up. Takes seconds at most."""

    def read(self, stream: str, after: str | None = None) -> AsyncGenerator[Entry, None]:
        """Yields the entries after a position, or from the very first, then live entries without end.

        A stream that nobody has published to yet is waited for. Entries come in order, without gaps or duplicates.
        Close the iterator (`contextlib.aclosing`) when done.

        Raises:
            LostError: if the next entry is gone: the position, which may be any text, is unknown or too old, the reader
                is too slow, or the broker does not answer.
        """

    async def is_up(self) -> bool:
        """Returns whether others can read what is published now."""

    async def close(self) -> None:
        """Flushes, and ends all readers with `LostError`."""
