"""The broker for several processes and machines, on Redis Streams."""

from collections.abc import AsyncGenerator

from redis.exceptions import RedisError

from adk_chat.streaming.broker import Entry, LostError
from adk_chat.streaming.redis_link import Link, answered
from adk_chat.streaming.redis_record import START, Id, Record, Sequence, id_text, key, parse_position
from adk_chat.streaming.redis_tail import PATIENCE_SECONDS, Feed, Tail
from adk_chat.streaming.redis_writer import Writer

_PAGE = 100


class RedisBroker:
    """Streams in one Redis (5 or newer, or a compatible server; not a sharded cluster).

    A stream keeps about 10 000 entries of up to 1 MiB, for 10 minutes after the last. All readers and the writer of the
    process share a few connections. A reader survives up to 5 s without Redis.

    Raises:
        BrokerError: if the URL is not that of a Redis. It does not connect.
    """

    def __init__(self, url: str) -> None:
        self._link = Link(url)
        self._writer = Writer(self._link)
        self._tail = Tail(self._link)
        self._closed = False

    def publish(self, stream: str, data: bytes, *, last: bool = False) -> None:
        """See `Broker`."""
        if not self._closed:
            self._writer.add(stream, data)

    async def flush(self) -> None:
        """See `Broker`."""
        await self._writer.flush()

    async def read(self, stream: str, after: str | None = None) -> AsyncGenerator[Entry, None]:
        """See `Broker`."""
        sequence = Sequence()
        position = START
        if after is not None:
            record, included = await self._anchor(stream, after)
            sequence.trust(record)
            position = record.id
            if sequence.is_next(record) and included:
                yield record.entry
        with self._tail.join(stream) as feed:
            while True:
                for record in await self._next(stream, feed, position):
                    position = record.id
                    if sequence.is_next(record):
                        yield record.entry

    async def is_up(self) -> bool:
        """See `Broker`."""
        try:
            return bool(await answered(self._link.redis.ping()))
        except RedisError:
            return False

    async def close(self) -> None:
        """See `Broker`."""
        self._closed = True
        await self._writer.close()
        await self._tail.close()
        await self._link.close()

    async def _anchor(self, stream: str, after: str) -> tuple[Record, bool]:
        """Returns the record at a position. While that exists, everything after it does too."""
        id_, included = parse_position(after)
        found = await self._range(stream, id_, 1, reached=after)
        if not found or found[0].id != id_:
            raise LostError(
                f"Position {after} of the stream is unknown, or no longer kept.", found[0].resume if found else None
            )
        return found[0], included

    async def _next(self, stream: str, feed: Feed, position: Id) -> list[Record]:
        """Returns the next records, waiting if there are none."""
        reached = None if position == START else id_text(position)
        while not (self._closed or feed.lost):
            news = feed.news
            records = feed.after(position)
            if records is None:
                records = await self._range(stream, (position[0], position[1] + 1), _PAGE, reached)
                if len(records) < _PAGE:
                    await self._tail.follow(feed, records[-1].id if records else position)
            elif not records:
                await news.wait()
            if records:
                return records
        raise LostError("The broker was closed." if self._closed else "Redis does not answer.", reached)

    async def _range(self, stream: str, start: Id, count: int, reached: str | None) -> list[Record]:
        try:
            items = await self._link.patiently(
                lambda: self._link.redis.xrange(key(stream), id_text(start), "+", count), PATIENCE_SECONDS
            )
        except RedisError as error:
            raise LostError(f"Redis does not answer: {error}", reached) from error
        return [Record.parse(item) for item in items or []]
