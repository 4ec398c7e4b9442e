"""The HTTP server of the gateway."""

import asyncio
import socket
from typing import Any

from adk_chat.endpoint import listen
from adk_chat.gateway.serving import serve_gateway


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
