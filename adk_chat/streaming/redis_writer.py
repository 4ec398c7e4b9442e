"""Writes to Redis in the background."""

import asyncio
import contextlib
import logging
import uuid
from collections import OrderedDict, deque
from typing import Any

from redis.exceptions import RedisError

from adk_chat.streaming.redis_link import AwayError, Link, answered
from adk_chat.streaming.redis_record import fields, key

_logger = logging.getLogger(__name__)

_STREAM_ENTRIES = 10_000
_STREAM_SECONDS = 600
_ENTRY_BYTES = 1024 * 1024
_QUEUE_ENTRIES = 10_000
_QUEUE_BYTES = 16 * 1024 * 1024
_BATCH = 500
_FLUSH_SECONDS = 1.0
_NUMBERED_STREAMS = 20_000


class Writer:
    """A bounded queue and one task that writes its entries. The oldest are dropped while Redis does not answer."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._queue: deque[tuple[str, dict[Any, Any], int]] = deque()
        self._bytes = 0
        self._numbers: OrderedDict[str, _Numbers] = OrderedDict()
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._accepted = self._done = 0
        self._refused = False
        self._task: asyncio.Task[None] | None = None

    def add(self, stream: str, data: bytes) -> None:
        """Queues an entry."""
        writer, number = self._next(stream)
        if len(data) > _ENTRY_BYTES:
            return  # readers notice the gap in the numbers
        self._queue.append((stream, fields(writer, number, data), len(data)))
        self._bytes += len(data)
        self._accepted += 1
        while len(self._queue) > _QUEUE_ENTRIES or self._bytes > _QUEUE_BYTES:
            self._take()
            self._done += 1
        self._wake.set()
        if self._task is None or self._task.done():  # no known error ends it, but an unknown one would end it for good
            self._task = asyncio.create_task(self._run())

    async def flush(self) -> None:
        """Waits until what is queued now is written, unless Redis does not answer."""
        accepted = self._accepted
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_SECONDS):
                while self._done < accepted and not self._link.away:
                    await self._progress.wait()

    async def close(self) -> None:
        """Flushes and stops."""
        await self.flush()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _next(self, stream: str) -> tuple[str, int]:
        numbers = self._numbers.get(stream)
        if numbers is None:
            numbers = self._numbers[stream] = _Numbers()
            if len(self._numbers) > _NUMBERED_STREAMS:
                self._numbers.popitem(last=False)
        self._numbers.move_to_end(stream)
        numbers.next += 1
        return numbers.writer, numbers.next - 1

    def _take(self) -> tuple[str, dict[Any, Any]]:
        stream, entry, size = self._queue.popleft()
        self._bytes -= size
        return stream, entry

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            while batch := [self._take() for _ in range(min(_BATCH, len(self._queue)))]:
                await self._write(batch)
                self._done += len(batch)
                self._ring()
            await self._wake.wait()

    async def _write(self, batch: list[tuple[str, dict[Any, Any]]]) -> None:
        async def send() -> list[Any]:
            pipeline = self._link.redis.pipeline(transaction=False)
            for stream, entry in batch:
                pipeline.xadd(key(stream), entry, maxlen=_STREAM_ENTRIES, approximate=True)
            for stream in {stream for stream, _ in batch}:
                pipeline.expire(key(stream), _STREAM_SECONDS)
            try:
                results = await answered(pipeline.execute(raise_on_error=False))
                for result in results:
                    if isinstance(result, AwayError):
                        raise result
            except AwayError:
                self._ring()  # whoever flushes gives up
                raise
            return results

        try:
            refusals = [r for r in await self._link.patiently(send) if isinstance(r, RedisError)]
        except RedisError as error:
            refusals = [error]
        if refusals and not self._refused:
            _logger.warning("Redis does not accept live entries, which are lost: %s", refusals[0])
        self._refused = bool(refusals)

    def _ring(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()


class _Numbers:
    """The writer's name in one stream, and its next number there."""

    def __init__(self) -> None:
        self.writer = uuid.uuid4().hex[:16]
        self.next = 0
