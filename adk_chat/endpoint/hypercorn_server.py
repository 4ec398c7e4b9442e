"""The endpoint on hypercorn, the server of Restate's own examples."""

import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import hypercorn.asyncio
from hypercorn.config import Config

from adk_chat.endpoint.listening import BACKLOG
from adk_chat.endpoint.seams import lean_http2

_GRACE_SECONDS = 0.15


async def serve(
    app: Callable[..., Awaitable[None]], listening: socket.socket, streams: int, stopped: Callable[[], Awaitable[None]]
) -> None:
    """See `adk_chat.endpoint.server.Serve`."""
    lean_http2()
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]  # hypercorn closes it
    config.include_date_header = config.include_server_header = False  # of no use to Restate
    config.graceful_timeout = _GRACE_SECONDS
    config.h2_max_concurrent_streams = streams
    config.backlog = BACKLOG
    # After this many requests hypercorn closes a connection under its open streams, and their Restate invocations hang
    # until a timeout. Restate closes idle connections itself.
    config.keep_alive_max_requests = sys.maxsize
    config.keep_alive_timeout = 600
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)
    any_app: Any = app
    await hypercorn.asyncio.serve(any_app, config, shutdown_trigger=stopped)
