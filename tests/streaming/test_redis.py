"""What a Redis adds: other processes, and that it may be away."""

import asyncio
import logging
import time
import tracemalloc
from contextlib import aclosing
from pathlib import Path

import pytest
from redis.asyncio import Redis

from adk_chat.endpoint import listen
from adk_chat.streaming import BrokerError, LostError, open_broker, redis_writer
from adk_chat.streaming.redis_broker import RedisBroker
from adk_chat.streaming.redis_link import Link
from tests.redis_server import RedisServer
from tests.streaming.reading import numbered, publish, take, texts
from tests.support import unique, until


async def test_what_one_process_publishes_another_reads_even_when_writers_take_turns(redis: RedisServer) -> None:
    one, other = RedisBroker(redis.url), RedisBroker(redis.url)
    stream = unique("stream")
    reading = asyncio.create_task(take(other, stream, 40))
    for first in range(0, 40, 10):
        writer = one if first % 20 else other
        publish(writer, stream, first, first + 10)
        await writer.flush()
    assert texts(await reading) == numbered(0, 40)
    await one.close()
    await other.close()


async def test_a_hundred_readers_share_a_few_connections(redis: RedisServer) -> None:
    broker, writer = RedisBroker(redis.url), RedisBroker(redis.url)
    before = await redis.clients()
    streams = [unique("stream") for _ in range(100)]
    reading = [asyncio.create_task(take(broker, stream, 200)) for stream in streams]
    for number in range(200):
        for stream in streams:
            writer.publish(stream, str(number).encode())
        await asyncio.sleep(0)
        if number % 50 == 49:
            await writer.flush()
    assert await redis.clients() - before <= 10
    assert [texts(taken) for taken in await asyncio.gather(*reading)] == [numbered(0, 200)] * 100
    await broker.close()
    await writer.close()


async def test_a_killed_redis_holds_up_no_publisher_and_works_again(
    mortal: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker = RedisBroker(mortal.url)
    publish(broker, "before", 0, 10)
    await broker.flush()
    reading = asyncio.create_task(take(broker, "before", 1_000_000))
    killed = asyncio.create_task(mortal.kill())
    slowest, longest = 0.0, [0.0, 0.0, 0.0]
    with caplog.at_level(logging.WARNING, "adk_chat.streaming"):
        for number in range(30_000):
            worked, waited = time.thread_time(), time.perf_counter()
            broker.publish("before", str(number).encode())
            slowest = max(slowest, time.thread_time() - worked)
            longest[number // 10_000] = max(longest[number // 10_000], time.perf_counter() - waited)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await killed
        async with asyncio.timeout(3):
            await broker.flush()
        # It takes no time of its own, and the machine does not do something else in every third of the run.
        assert (slowest < 0.05, min(longest) < 0.05, max(longest) < 0.5) == (True, True, True), "publishing waited"
        with pytest.raises(LostError):
            await reading
        with pytest.raises(LostError):
            await take(broker, "before", 1)
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1

    await mortal.start()
    publish(broker, "after", 0, 10)
    assert texts(await take(broker, "after", 10)) == numbered(0, 10)
    await broker.close()


async def test_without_a_redis_memory_does_not_grow_and_flushing_gives_up() -> None:
    with listen("127.0.0.1", 0) as nobody:
        url = f"redis://127.0.0.1:{nobody.getsockname()[1]}"
    broker = RedisBroker(url)
    tracemalloc.start()
    try:
        for number in range(50_000):
            broker.publish("stream", str(number).encode() * 500)
            if number % 1_000 == 0:
                await asyncio.sleep(0)
        assert tracemalloc.get_traced_memory()[0] < 32 * 1024 * 1024
    finally:
        tracemalloc.stop()
    async with asyncio.timeout(3):
        await broker.flush()
        await broker.close()


async def test_flushing_gives_up_once_it_turns_out_that_there_is_no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_writer, "_FLUSH_SECONDS", 60)
    with listen("127.0.0.1", 0) as nobody:
        broker = RedisBroker(f"redis://127.0.0.1:{nobody.getsockname()[1]}")
    publish(broker, "stream", 0, 1)
    async with asyncio.timeout(3):
        await broker.close()


async def test_a_connection_that_broke_a_moment_ago_is_a_redis_that_is_away(redis: RedisServer) -> None:
    link, tries = Link(redis.url), 0

    async def ping() -> bool:
        nonlocal tries
        tries += 1
        if tries == 1:
            _, writer = await asyncio.open_connection("127.0.0.1", redis.port)
            writer.transport.abort()
            await asyncio.sleep(0)
            writer.writelines([b"PING"])  # as redis-py does; it asks before whether the connection is alive
        return bool(await link.redis.ping())

    assert await link.patiently(ping)
    assert tries == 2
    await link.close()


async def test_what_ended_the_writer_ends_it_once(redis: RedisServer) -> None:
    broker, stream = RedisBroker(redis.url), unique("stream")
    publish(broker, stream, 0, 1)
    await broker.flush()
    writing = broker._writer._task
    assert writing is not None
    writing.cancel()
    await asyncio.wait([writing])
    publish(broker, stream, 1, 2)
    assert texts(await take(broker, stream, 2)) == ["0", "1"]
    await broker.close()


async def test_a_reader_gets_over_a_restart_and_sees_no_gap_where_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def both_miss_it() -> bool:
        return [record.levelno for record in caplog.records].count(logging.WARNING) == 2

    async with RedisServer(tmp_path, durable=True) as server:
        writer, broker = RedisBroker(server.url), RedisBroker(server.url)
        reading = asyncio.create_task(take(broker, "stream", 300))
        publish(writer, "stream", 0, 100)
        await writer.flush()
        with caplog.at_level(logging.WARNING, "adk_chat.streaming"):
            await server.kill()
            publish(writer, "stream", 100, 200)
            await until(both_miss_it)
        await server.start()
        publish(writer, "stream", 200, 300)
        assert texts(await reading) == numbered(0, 300)
        await writer.close()
        await broker.close()


async def test_what_a_redis_forgot_is_lost_and_not_passed_over(mortal: RedisServer) -> None:
    writer, broker = RedisBroker(mortal.url), RedisBroker(mortal.url)
    publish(writer, "stream", 0, 10)
    await writer.flush()
    tenth = (await take(broker, "stream", 10))[-1].position
    await mortal.kill()
    await mortal.start()
    with pytest.raises(LostError):
        await take(broker, "stream", 1, tenth)
    publish(writer, "stream", 10, 20)
    with pytest.raises(LostError) as lost:
        await take(broker, "stream", 1)
    assert texts(await take(broker, "stream", 10, lost.value.resume)) == numbered(10, 20)
    await writer.close()
    await broker.close()


async def test_an_entry_that_is_too_large_is_missing_and_not_passed_over(redis: RedisServer) -> None:
    broker = RedisBroker(redis.url)
    stream = unique("stream")
    publish(broker, stream, 0, 1)
    broker.publish(stream, b"x" * 2_000_000)
    publish(broker, stream, 2, 3)
    async with aclosing(broker.read(stream)) as entries:
        assert (await anext(entries)).data == b"0"
        with pytest.raises(LostError) as lost:
            await anext(entries)
    assert texts(await take(broker, stream, 1, lost.value.resume)) == ["2"]
    await broker.close()


async def test_streams_and_bells_expire(redis: RedisServer) -> None:
    broker = RedisBroker(redis.url)
    publish(broker, unique("stream"), 0, 1)
    reading = [asyncio.create_task(take(broker, unique("stream"), 1)) for _ in range(2)]
    await broker.flush()
    async with Redis.from_url(redis.url) as client:

        async def all_expire() -> bool:
            rung = bool(await client.keys("adk_chat:reader:*"))
            return rung and min([await client.ttl(key) for key in await client.keys("*")]) > 0

        await until(all_expire)  # a key is told so right after it is made
    for task in reading:
        task.cancel()
    await broker.close()


def test_another_url_is_refused() -> None:
    with pytest.raises(BrokerError, match="redis://"):
        open_broker("http://localhost")
