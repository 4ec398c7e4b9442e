"""A hundred clients at once, of one endpoint and one gateway. The process fails if one of them is not served well.

It is a process of its own because its memory is measured, and traces that other tests request are kept.
"""

import asyncio
import ctypes
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ClassVar

import httpx
import uvloop

from adk_chat import ChatService
from adk_chat.dev.binary import find_restate_server
from adk_chat.gateway.server import gateway_app
from adk_chat.settings import Settings
from adk_chat.streaming import MemoryBroker
from tests.conftest import hosting
from tests.gateway.conftest import gateway_config, served
from tests.gateway.sse import Screen, watching
from tests.support import gates, scripted_app, unique, until

STREAMS = 100
WORDS = [f"{number:02d}{'-' * 1000}" for number in range(8)]
HALF = len(WORDS) // 2
"""The words after these are said once every client has received these: so all streams run at once."""


@asynccontextmanager
async def connected() -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of a gateway whose broker keeps no more streams than there are clients, and its endpoint few sessions.

    Each keeps its connection, since opening and closing connections would cost memory of its own.
    """
    broker = MemoryBroker(max_streams=STREAMS)
    service = ChatService(scripted_app("scripted"), settings=Settings(cached_events=STREAMS), broker=broker)
    limits = httpx.Limits(keepalive_expiry=None)
    async with (
        hosting(find_restate_server(print), service.objects) as server,
        served(gateway_app(gateway_config(server, broker))) as gateway,
        AsyncExitStack() as stack,
    ):
        yield [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=gateway.base_url, timeout=60, limits=limits, verify=False)
            )
            for _ in range(STREAMS)
        ]


async def listen(client: httpx.AsyncClient, user: str, gate: str, halfway: asyncio.Barrier) -> None:
    """A turn, all of whose events must arrive, once and in order."""
    path = f"/apps/scripted/users/{user}/sessions"
    await client.post(path, json={"sessionId": "s"})
    text = " ".join(["stream", *WORDS[:HALF], f"@{gate}", *WORDS[HALF:]])
    message = {"role": "user", "parts": [{"text": text}]}
    body = {"appName": "scripted", "userId": user, "sessionId": "s", "newMessage": message, "streaming": True}
    shown, ids = Screen(), []
    async with watching(client, "POST", "/run_sse", json=body) as (_, events):
        async for event in events:
            ids.append(event.id)
            shown.show(event)
            if len(ids) == HALF:
                await halfway.wait()
                gates[gate].set()
    said = [word + " " for word in WORDS]
    parts = [event["content"]["parts"] for event in shown.all]
    assert parts == [[{"text": text}] for text in (*said, "".join(said))]
    assert len({*ids}) == len(WORDS) + 2  # each word, the whole answer, and the end
    assert shown.complete == (await client.get(f"{path}/s")).json()["events"][1:]


async def crowd(clients: list[httpx.AsyncClient]) -> None:
    """All clients at once."""
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    halfway = asyncio.Barrier(STREAMS)
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(listen(client, unique("user"), gate, halfway))


async def main() -> None:
    """Every client receives everything once, and nothing stays in memory."""
    async with connected() as clients:
        await crowd(clients)
        before = allocated()
        await crowd(clients)

        async def let_go() -> bool:
            return allocated() - before < STREAMS * sum(map(len, WORDS)) / 2

        await until(let_go)


class MallInfo(ctypes.Structure):
    """malloc's own statistics."""

    _fields_: ClassVar = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def allocated() -> int:
    """The bytes that malloc has allocated: every longer text, without the gaps between."""
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    told = mallinfo2()
    return int(told.uordblks + told.hblkhd)


if __name__ == "__main__":
    uvloop.run(main())
