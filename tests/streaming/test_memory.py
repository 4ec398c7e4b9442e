"""The bounds of the broker in memory."""

import gc
import tracemalloc

import pytest

from adk_chat.streaming import LostError, MemoryBroker
from tests.streaming.reading import publish, take, texts


async def test_a_stream_is_bounded_in_bytes() -> None:
    broker = MemoryBroker(max_bytes=10_000)
    for letter in b"abc":
        broker.publish("s", bytes([letter]) * 4_000)
    with pytest.raises(LostError) as lost:
        await take(broker, "s", 1)
    assert [text[0] for text in texts(await take(broker, "s", 2, lost.value.resume))] == ["b", "c"]


async def test_what_was_quiet_for_longest_makes_room() -> None:
    broker = MemoryBroker(max_streams=2)
    for stream in ("old", "busy", "old", "busy", "new"):
        broker.publish(stream, stream.encode())
    with pytest.raises(LostError):
        await take(broker, "old", 1)
    broker.publish("old", b"back, but without its beginning")
    with pytest.raises(LostError):
        await take(broker, "old", 1)
    assert texts(await take(broker, "new", 1)) == ["new"]


async def test_streams_expire() -> None:
    broker = MemoryBroker(max_age_seconds=0)
    broker.publish("ended", b"1")
    broker.publish("other", b"1")
    with pytest.raises(LostError):
        await take(broker, "ended", 1)


async def test_streams_that_have_ended_make_room_first() -> None:
    broker = MemoryBroker(max_ended=2)
    broker.publish("open", b"1")
    for stream in ("first", "second", "third"):
        broker.publish(stream, b"1", last=True)
    with pytest.raises(LostError):
        await take(broker, "first", 1)
    for stream in ("open", "second", "third"):
        assert texts(await take(broker, stream, 1)) == ["1"]


async def test_ended_streams_and_readers_leave_little_behind() -> None:
    broker = MemoryBroker(max_total_bytes=1024 * 1024, max_streams=100)
    gc.collect()  # or what other tests left is looked through meanwhile
    tracemalloc.start()
    try:
        for number in range(500):
            stream = f"stream-{number}"
            publish(broker, stream, 0, 100)
            await take(broker, stream, 100)
            for entry in range(10):
                broker.publish(stream, str(entry).encode() * 2_000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()
