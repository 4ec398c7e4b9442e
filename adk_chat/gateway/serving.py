"""Serving the gateway over HTTP with hypercorn."""

import asyncio
import logging
import socket
import sys

import hypercorn.asyncio
from hypercorn.config import Config
from starlette.types import ASGIApp


async def serve_gateway(app: ASGIApp, listening: socket.socket, stop: asyncio.Event) -> None:
    """Serve until `stop` is set. Who is watching a turn then may come back, to any copy of the gateway."""
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]  # hypercorn closes it
    config.graceful_timeout = 0.5
    config.keep_alive_timeout = 75
    # A proxy may send all streams over one connection, and hypercorn would close that under them after 1000 requests.
    config.keep_alive_max_requests = sys.maxsize
    config.h2_max_concurrent_streams = 1000
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)

    async def stopped() -> None:
        await stop.wait()

    await hypercorn.asyncio.serve(app, config, shutdown_trigger=stopped)  # type: ignore[arg-type]
