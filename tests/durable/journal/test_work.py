"""What code of an attempt waits for, and so whether the attempt may be suspended."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import anyio
import pytest

from adk_chat.durable import install
from adk_chat.durable.adk.call_order import Call
from adk_chat.durable.journal import keys
from adk_chat.durable.journal.attempt import Attempt
from adk_chat.durable.journal.keys import Strand
from adk_chat.durable.journal.work import Wait

never_set = threading.Event()
Code = Callable[["asyncio.Future[None]"], Coroutine[Any, Any, object]]


async def engine(future: "asyncio.Future[None]") -> None:
    await future


async def generator(future: "asyncio.Future[None]") -> None:
    async def events() -> AsyncGenerator[int, None]:
        await future
        yield 1

    async for _ in events():
        pass


async def sibling(future: "asyncio.Future[None]") -> None:
    await asyncio.gather(engine(future), asyncio.create_task(engine(future)))


async def group(future: "asyncio.Future[None]") -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine(future))


async def first(future: "asyncio.Future[None]") -> None:
    await asyncio.wait([asyncio.create_task(engine(future))], return_when=asyncio.FIRST_COMPLETED)


async def in_order(_: object) -> None:
    await Call([asyncio.Event()], 0).run(event(_))


async def queue_in_generator(_: object) -> None:
    async def items() -> AsyncGenerator[int, None]:
        yield await asyncio.Queue[int]().get()

    async for _ in items():
        pass


async def event(_: object) -> None:
    await asyncio.Event().wait()


async def nap(_: object) -> None:
    await asyncio.sleep(60)


async def deadline(future: "asyncio.Future[None]") -> None:
    async with asyncio.timeout(60):
        await future


async def deadline_of_anyio(future: "asyncio.Future[None]") -> None:
    with anyio.fail_after(60):
        await future


async def lock(future: "asyncio.Future[None]") -> None:
    async with asyncio.Lock():
        await future


async def wait_for(future: "asyncio.Future[None]") -> None:
    await asyncio.wait_for(asyncio.shield(future), 60)


async def request(_: object) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0) as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.receive()


async def thread(_: object) -> None:
    await asyncio.to_thread(never_set.wait)


async def somebodys_future(_: object) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    ("code", "wait"),
    [
        *((code, Wait.ENGINE) for code in (engine, generator, sibling, group, first)),
        *((code, Wait.UNKNOWN) for code in (event, queue_in_generator, in_order)),
        *((code, Wait.WORK) for code in (nap, deadline, deadline_of_anyio, wait_for, lock)),
        *((code, Wait.WORK) for code in (request, thread, somebodys_future)),
    ],
)
async def test_code_is_asked_what_it_waits_for(code: Code, wait: Wait) -> None:
    install()  # locks are followed in processes that run durable turns
    attempt = await Attempt.begin("inv", None)
    attempt._handler = None  # this test, which works
    keys.enter(Strand(attempt=attempt))
    future = asyncio.get_running_loop().create_future()
    tasks = [asyncio.create_task(code(future)), asyncio.create_task(engine(future))]
    try:
        for _ in range(100):  # until it is idle
            await asyncio.sleep(0)
        assert attempt.waits_for([future]) is wait
    finally:
        never_set.set()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await attempt.close(well=False, again=False)
        never_set.clear()
