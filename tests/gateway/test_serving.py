"""The HTTP server of the gateway."""

import asyncio
import gc
import socket
import struct
import weakref
from typing import Any

from adk_chat.endpoint import listen
from adk_chat.gateway.seams import Connection
from adk_chat.gateway.serving import serve_gateway
from tests.support import until


async def test_a_client_that_does_not_read_holds_up_no_stop() -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            sent += 1
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})

    stop = asyncio.Event()
    listening = listen("127.0.0.1", 0)
    serving = asyncio.create_task(serve_gateway(app, listening, stop))
    with socket.create_connection(listening.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        before = -1
        while sent == 0 or sent > before:
            before = sent
            await asyncio.sleep(0.1)
        stop.set()
        async with asyncio.timeout(20):
            await serving


async def test_a_connection_that_the_client_resets_is_freed() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})

    def connections() -> set[Connection]:
        return {one for one in gc.get_objects() if isinstance(one, Connection)}

    async def gone() -> bool:
        gc.collect()
        return kept() is None

    of_others = connections()
    stop, listening = asyncio.Event(), listen("127.0.0.1", 0)
    serving = asyncio.create_task(serve_gateway(app, listening, stop))
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    kept = weakref.ref(*(connections() - of_others))
    at_once = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    writer.transport.abort()
    await until(gone)
    stop.set()
    await serving
