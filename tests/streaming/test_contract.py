"""What every broker does."""

import asyncio

import pytest

from adk_chat.streaming import Broker, LostError
from tests.streaming.reading import numbered, publish, take, texts
from tests.support import unique


async def test_entries_come_in_order_from_the_beginning_and_then_live(broker: Broker) -> None:
    stream = unique("stream")
    publish(broker, stream, 0, 300)
    await broker.flush()
    reading = asyncio.create_task(take(broker, stream, 1000))
    for first in range(300, 1000, 7):
        publish(broker, stream, first, min(first + 7, 1000))
        await asyncio.sleep(0)
    assert texts(await reading) == numbered(0, 1000)


async def test_a_stream_is_waited_for(broker: Broker) -> None:
    stream, other = unique("stream"), unique("other")
    reading = [asyncio.create_task(take(broker, stream, 2)) for _ in range(3)]
    publish(broker, other, 50, 60)
    await broker.flush()
    await take(broker, other, 10)  # a later reader has read, so those wait
    publish(broker, stream, 0, 1)
    await broker.flush()
    publish(broker, stream, 1, 2)
    assert [texts(taken) for taken in await asyncio.gather(*reading)] == [["0", "1"]] * 3


async def test_reading_goes_on_after_a_position(broker: Broker) -> None:
    stream = unique("stream")
    publish(broker, stream, 0, 10)
    await broker.flush()
    entries = await take(broker, stream, 10)
    publish(broker, stream, 10, 12)
    for index, entry in enumerate(entries):
        assert texts(await take(broker, stream, 11 - index, entry.position)) == numbered(index + 1, 12)


async def test_a_reader_that_is_slow_holds_up_nobody_and_misses_nothing(broker: Broker) -> None:
    stream = unique("stream")
    publish(broker, stream, 0, 1)
    slow = broker.read(stream)
    got = [await anext(slow)]
    publish(broker, stream, 1, 3000)
    assert texts(await take(broker, stream, 3000)) == numbered(0, 3000)
    async for entry in slow:
        got.append(entry)
        if len(got) == 3000:
            break
    assert texts(got) == numbered(0, 3000)


async def test_a_reader_learns_that_it_is_too_late(broker: Broker) -> None:
    stream = unique("stream")
    publish(broker, stream, 0, 2)
    await broker.flush()
    position = (await take(broker, stream, 1))[0].position
    slow = broker.read(stream)
    await anext(slow)
    for first in range(2, 26_000, 6_500):
        publish(broker, stream, first, first + 6_500)
        await broker.flush()
    with pytest.raises(LostError):
        async for _ in slow:
            pass
    for after in (position, None):
        with pytest.raises(LostError) as lost:
            await take(broker, stream, 1, after)
        rest = texts(await take(broker, stream, 9_000, lost.value.resume))
        assert rest == numbered(int(rest[0]), int(rest[0]) + 9_000)


@pytest.mark.parametrize("position", ["", "x", "5", "5-5", "5-5~", "-1", "9" * 18, "9" * 19 + "-1", "1" * 99, "٣"])
async def test_positions_of_nobody_are_lost(broker: Broker, position: str) -> None:
    stream = unique("stream")
    publish(broker, stream, 0, 1)
    await broker.flush()
    for name in (stream, unique("unknown")):
        with pytest.raises(LostError):
            await take(broker, name, 1, position)


async def test_readers_end_with_the_broker(broker: Broker) -> None:
    stream = unique("stream")
    publish(broker, stream, 0, 1)
    await broker.flush()
    readers = [asyncio.create_task(take(broker, name, 2)) for name in (stream, unique("unknown"))]
    await take(broker, stream, 1)  # who began to read later has read, so those wait
    await broker.close()
    broker.publish(stream, b"too late")
    for reader in readers:
        with pytest.raises(LostError):
            await reader
