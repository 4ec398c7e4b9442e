"""Serves the gateway over HTTP with uvicorn, as ADK does."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Generator

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from adk_chat.gateway.seams import Connection

STOP = "adk_chat.stop"
"""The key under which a scope has the event that is set when the server stops."""
_GRACE_SECONDS = 1
_KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """Leaves signals to its caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve_gateway(app: ASGIApp, listening: socket.socket, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, and a second longer at most. Watchers can continue at another copy."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        scope[STOP] = stop
        await app(scope, receive, send)

    errors = logging.getLogger("uvicorn.error")
    errors.setLevel(logging.WARNING)
    server = _Server(
        uvicorn.Config(
            told,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )

    async def end() -> None:
        await stop.wait()
        # Otherwise it reports each stream that it breaks.
        errors.setLevel(logging.CRITICAL)
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve([listening])
    finally:
        ending.cancel()
