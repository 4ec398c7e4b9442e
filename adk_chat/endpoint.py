"""Serving Restate handlers over HTTP/2 with hypercorn, and draining on SIGTERM."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import hypercorn.asyncio
import restate
from hypercorn.config import Config
from restate.server import install_shutdown_hook

_STREAMS = 256  # The engine opens up to 128 on a connection.


class PortTakenError(Exception):
    """Somebody else listens where we were told to."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        PortTakenError: the port is in use, or not ours to use.
    """
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise PortTakenError(f"Port {port} on {host} cannot be used: {error.strerror}.") from error
    listening.listen()
    listening.set_inheritable(True)
    return listening


def stop_event() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Restate's SDK replaces other handlers of SIGTERM; this one it knows of."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        install_shutdown_hook(asyncio.get_running_loop(), stop.set, signum)
    return stop


async def serve(
    services: Iterable[restate.VirtualObject],
    listening: socket.socket,
    stop: asyncio.Event,
    *,
    identity_keys: list[str] | None = None,
    drain_seconds: float = 30,
) -> None:
    """Serve handlers until `stop` is set; then take no new work and give running handlers `drain_seconds` to end.

    Restate continues elsewhere what has not ended by then.
    """
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]  # hypercorn closes it
    config.graceful_timeout = drain_seconds
    config.h2_max_concurrent_streams = _STREAMS
    # After that many requests hypercorn closes a connection under the streams that are open on it, and their
    # Restate invocations hang until a timeout.
    config.keep_alive_max_requests = sys.maxsize
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)
    app = restate.app(services, identity_keys=identity_keys)
    await hypercorn.asyncio.serve(_with_lifespan(app), config, shutdown_trigger=stop.wait)


def _with_lifespan(app: Callable[..., Awaitable[None]]) -> Any:
    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})

    return asgi
