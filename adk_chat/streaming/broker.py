"""What live streams need of a broker: entries of a stream, in order, from a position, for any number of readers.

A broker is a convenience beside the store: whatever it loses, it says so, and the store has what counts.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """What was published, and the position after which one reads on. Positions are ASCII without `.` and blanks."""

    position: str
    data: bytes


class BrokerError(Exception):
    """The broker that was asked for cannot be had."""


class LostError(Exception):
    """What was asked for is no longer, or not yet known to be, in the broker.

    Attributes:
        resume: the position from which `read` goes on with what is still there, or will be when the broker is back;
            None if nothing is there.
    """

    def __init__(self, message: str, resume: str | None = None) -> None:
        super().__init__(message)
        self.resume = resume


class Broker(Protocol):
    """Streams that live as long as somebody is interested, each bounded in entries, bytes and age."""

    def publish(self, stream: str, data: bytes, *, last: bool = False) -> None:
        """Append to a stream. Never waits and never raises; to be called on the event loop.

        After the `last` entry the stream need not be kept for long: whoever comes later reads the store.
        """

    async def flush(self) -> None:
        """Wait until what was published can be read by others or is given up; seconds at most, whatever happens."""

    def read(self, stream: str, after: str | None = None) -> AsyncGenerator[Entry, None]:
        """The entries after that position, or from the very first, then live and without end.

        A stream that nobody has published to yet is waited for. Entries come in order, without gap or double. Close
        the iterator (`contextlib.aclosing`) when done with it.

        Raises:
            LostError: the next entry is not there any more: the position, which may be any text, is unknown or too
                old, the reader too slow, or the broker away.
        """

    async def is_up(self) -> bool:
        """Whether what others read of it can be had at the moment."""

    async def close(self) -> None:
        """Flush, and end all readers with `LostError`."""
