"""The endpoint on granian, whose HTTP/2 is not written in Python. A turn takes about two milliseconds less."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server

from adk_chat.endpoint.listening import BACKLOG
from adk_chat.endpoint.seams import hand_over

# Otherwise granian would configure the log of the whole process.
_LOG = {"incremental": True, "formatters": {}, "handlers": {}, "loggers": {}}
_BACKPRESSURE = 1024


async def serve(
    app: Callable[..., Awaitable[None]], listening: socket.socket, streams: int, stopped: Callable[[], Awaitable[None]]
) -> None:
    """See `adk_chat.endpoint.server.Serve`."""
    server: Any = Server(
        app,
        interface=Interfaces.ASGINL,
        http=HTTPModes.auto,
        http2_settings=HTTP2Settings(max_concurrent_streams=streams),
        websockets=False,
        backlog=BACKLOG,
        backpressure=_BACKPRESSURE,
        log_dictconfig=_LOG,
        log_level=LogLevels.error,
    )
    hand_over(listening, server)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.ensure_future(stopped())
    try:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        server.stop()
        await serving
    finally:
        stopping.cancel()
        server.stop()
