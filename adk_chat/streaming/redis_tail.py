"""What is new in Redis, for all readers of this process over one connection."""

import asyncio
import contextlib
import logging
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any

from redis.exceptions import RedisError

from adk_chat.streaming.redis_link import AwayError, Link, answered
from adk_chat.streaming.redis_record import START, Id, Record, id_text, key

_logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5
"""How long readers wait for a Redis that does not answer."""

_BLOCK_MS = 2_000  # less than the timeout of a connection
_BELL_SECONDS = 60
_COUNT = 100
_FEED_ENTRIES = 256
_FEED_BYTES = 1024 * 1024


class Feed:
    """The newest records of a stream that this process follows. A reader that falls behind asks Redis itself."""

    def __init__(self) -> None:
        self.readers = 0
        self.lost = False
        self.news = asyncio.Event()
        self.last: Id | None = None
        self._floor: Id = START
        self._records: deque[Record] = deque()
        self._bytes = 0

    def start(self, at: Id) -> None:
        """Follows the stream from an id."""
        self._floor = self.last = at

    def add(self, records: list[Record]) -> None:
        """Adds records from Redis, and wakes the readers."""
        for record in records:
            if self.last is not None and record.id > self.last:
                self.last = record.id
                self._records.append(record)
                self._bytes += len(record.data)
        while len(self._records) > _FEED_ENTRIES or self._bytes > _FEED_BYTES:
            dropped = self._records.popleft()
            self._bytes -= len(dropped.data)
            self._floor = dropped.id
        self._ring()

    def lose(self) -> None:
        """Redis has not answered for too long."""
        self.lost = True
        self._ring()

    def after(self, id_: Id) -> list[Record] | None:
        """Returns what came after an id, or None if the reader has to ask Redis."""
        if self.last is None or id_ < self._floor:
            return None
        found = []
        for record in reversed(self._records):
            if record.id <= id_:
                break
            found.append(record)
        return found[::-1]

    def _ring(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


class Tail:
    """One XREAD for the feeds of all streams that are read here."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._feeds: dict[str, Feed] = {}
        # A stream of our own in the same XREAD: a write to it makes XREAD return, so that it includes a new feed.
        self._bell = f"adk_chat:reader:{uuid.uuid4().hex}"
        self._rung = id_text(START)
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def join(self, stream: str) -> Iterator[Feed]:
        """The feed of a stream for one reader. All readers of the stream share it."""
        feed = self._feeds.setdefault(key(stream), Feed())
        feed.readers += 1
        try:
            yield feed
        finally:
            feed.readers -= 1
            if not feed.readers and self._feeds.get(key(stream)) is feed:
                del self._feeds[key(stream)]

    async def follow(self, feed: Feed, at: Id) -> None:
        """Fills a feed with what comes after an id."""
        if feed.last is not None:
            return
        feed.start(at)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
            return
        with contextlib.suppress(RedisError):
            pipeline = self._link.redis.pipeline(transaction=False)
            pipeline.xadd(self._bell, {b"": b""}, maxlen=1, approximate=False)
            pipeline.expire(self._bell, _BELL_SECONDS)
            await answered(pipeline.execute())

    async def close(self) -> None:
        """Ends all readers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._lose()

    async def _run(self) -> None:
        try:
            while self._feeds:
                for name, records in await self._link.patiently(self._read, PATIENCE_SECONDS):
                    self._dispatch(name.decode(), records)
        except AwayError:
            return  # `Link` has logged it
        except RedisError as error:
            _logger.warning("Redis refuses reads, so live streams end: %s", error)
        finally:
            self._lose()

    async def _read(self) -> Any:
        cursors: dict[Any, Any] = {self._bell: self._rung}
        cursors.update((name, id_text(feed.last)) for name, feed in self._feeds.items() if feed.last is not None)
        return await self._link.redis.xread(cursors, count=_COUNT, block=_BLOCK_MS)

    def _dispatch(self, name: str, items: list[Any]) -> None:
        if name == self._bell:
            self._rung = items[-1][0].decode()
        elif (feed := self._feeds.get(name)) is not None:
            feed.add([Record.parse(item) for item in items])

    def _lose(self) -> None:
        for feed in self._feeds.values():
            feed.lose()
        self._feeds.clear()
