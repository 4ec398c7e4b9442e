"""The broker for one process."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from weakref import WeakValueDictionary

from adk_chat.streaming.broker import Entry, LostError

_OVERHEAD_BYTES = 64  # About what Python needs for an entry beside its data.


class MemoryBroker:
    """Streams in the memory of the process. A reader holds only a position.

    Args:
        max_entries: how many entries a stream keeps.
        max_bytes: how many bytes a stream keeps.
        max_total_bytes: how many bytes all streams keep; the least recently used stream is dropped first.
        max_streams: how many streams are kept.
        max_ended: how many ended streams are kept.
        max_age_seconds: how long a stream is kept after its last entry.
    """

    def __init__(
        self,
        *,
        max_entries: int = 10_000,
        max_bytes: int = 16 * 1024 * 1024,
        max_total_bytes: int = 256 * 1024 * 1024,
        max_streams: int = 10_000,
        max_ended: int = 1_000,
        max_age_seconds: float = 600,
    ) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._max_streams = max_streams
        self._max_ended = max_ended
        self._max_age_seconds = max_age_seconds
        self._windows: OrderedDict[str, _Window] = OrderedDict()  # least recently used first
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._spent: OrderedDict[str, None] = OrderedDict()  # streams whose beginning is gone with all the rest
        self._bytes = 0
        self._news: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # kept by whoever waits
        self._closed = False

    def publish(self, stream: str, data: bytes, *, last: bool = False) -> None:
        """See `Broker`."""
        if self._closed:
            return
        window = self._windows.get(stream) or self._open(stream)
        self._windows.move_to_end(stream)
        self._bytes += window.add(data)
        while len(window.entries) > self._max_entries or window.bytes > self._max_bytes:
            self._bytes -= window.drop()
        if last:
            self._ended[stream] = None
        self._expire()
        if news := self._news.pop(stream, None):
            news.set()

    async def flush(self) -> None:
        """See `Broker`. What is published can be read at once."""

    async def read(self, stream: str, after: str | None = None) -> AsyncGenerator[Entry, None]:
        """See `Broker`."""
        position = None if after is None else _number(after)
        while True:
            if (news := self._news.get(stream)) is None:
                news = self._news[stream] = asyncio.Event()
            if self._closed:
                raise LostError("The broker was closed.")
            if (window := self._windows.get(stream)) is not None:
                position = window.beginning() if position is None else position
                data = window.after(position)
            elif position is None and stream not in self._spent:
                data = None
            else:
                raise LostError(f"The stream {stream} is unknown, or no longer kept.")
            if data is None or position is None:
                await news.wait()
            else:
                position += 1
                yield Entry(str(position), data)

    async def is_up(self) -> bool:
        """See `Broker`."""
        return True

    async def close(self) -> None:
        """See `Broker`."""
        self._closed = True
        self._windows.clear()
        self._ended.clear()
        self._spent.clear()
        for news in list(self._news.values()):
            news.set()

    def _open(self, stream: str) -> "_Window":
        window = self._windows[stream] = _Window(whole=stream not in self._spent)
        self._spent.pop(stream, None)
        return window

    def _expire(self) -> None:
        while len(self._ended) > self._max_ended:
            self._drop(next(iter(self._ended)))
        while self._windows:
            stream, window = next(iter(self._windows.items()))
            fits = len(self._windows) <= self._max_streams and self._bytes <= self._max_total_bytes
            if fits and time.monotonic() - window.touched <= self._max_age_seconds:
                return
            self._drop(stream)

    def _drop(self, stream: str) -> None:
        self._bytes -= self._windows.pop(stream).bytes
        self._ended.pop(stream, None)
        self._spent[stream] = None
        if len(self._spent) > self._max_streams:
            self._spent.popitem(last=False)


class _Window:
    """The newest entries of a stream. `floor` is the position before the oldest of them."""

    def __init__(self, *, whole: bool) -> None:
        self.entries: deque[bytes] = deque()
        self.bytes = 0
        self.touched = time.monotonic()
        # Microseconds of the clock, so that a position from an earlier life of the stream is below its floor.
        self.floor = time.time_ns() // 1000
        self._whole = whole

    def add(self, data: bytes) -> int:
        """Appends an entry. Returns the bytes it takes."""
        self.touched = time.monotonic()
        self.entries.append(data)
        taken = len(data) + _OVERHEAD_BYTES
        self.bytes += taken
        return taken

    def drop(self) -> int:
        """Drops the oldest entry. Returns the bytes it took."""
        freed = len(self.entries.popleft()) + _OVERHEAD_BYTES
        self.bytes -= freed
        self.floor += 1
        self._whole = False
        return freed

    def beginning(self) -> int:
        """The position before the stream's very first entry."""
        if not self._whole:
            raise LostError("The beginning of the stream is no longer kept.", str(self.floor))
        return self.floor

    def after(self, position: int) -> bytes | None:
        """Returns the entry after a position, or None if there is none yet."""
        index = position - self.floor
        if not 0 <= index <= len(self.entries):
            raise LostError(f"The entries after position {position} of the stream are no longer kept.", str(self.floor))
        return self.entries[index] if index < len(self.entries) else None


def _number(position: str) -> int:
    if not (position.isascii() and position.isdecimal() and len(position) < 20):
        raise LostError(f"{position!r} is not a position of this broker.")
    return int(position)
