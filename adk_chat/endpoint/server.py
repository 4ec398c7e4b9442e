"""Serving Restate handlers over HTTP/2 with hypercorn, and draining on SIGTERM."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable

import hypercorn.asyncio
import restate
from hypercorn.config import Config

from adk_chat.endpoint.draining import Draining
from adk_chat.readiness import Readiness

_CLOSING_SECONDS = 0.3
_STREAMS = 256  # The engine opens up to 128 on a connection.


logger = logging.getLogger(__name__)


class IdentityKeyError(Exception):
    """A public key of a Restate is none."""


async def serve(
    services: Iterable[restate.VirtualObject | restate.Service | restate.Workflow],
    listening: socket.socket,
    stop: asyncio.Event,
    *,
    identity_keys: list[str] | None = None,
    drain_seconds: float = 30,
    readiness: Readiness | None = None,
) -> None:
    """Serve handlers until `stop` is set; then take no new work, and let running steps end within `drain_seconds`.

    Handlers that only wait are suspended at once, the others when their step is journaled; Restate continues them
    elsewhere. Whatever is not done a moment after that is left behind: Restate begins it again. `GET /health` answers
    200, and so does `GET /ready` while new work is taken and `readiness`, if given, misses nothing; else 503.

    Raises:
        IdentityKeyError: one of `identity_keys` is not a public key as Restate writes it.
    """
    app = Draining(_endpoint(services, identity_keys), readiness or Readiness())
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]  # hypercorn closes it
    config.graceful_timeout = _CLOSING_SECONDS / 2
    config.h2_max_concurrent_streams = _STREAMS
    # After that many requests hypercorn closes a connection under the streams that are open on it, and their Restate
    # invocations hang until a timeout. An idle connection is the engine's to close.
    config.keep_alive_max_requests = sys.maxsize
    config.keep_alive_timeout = 600
    config.errorlog = logging.getLogger("hypercorn.error")
    config.errorlog.setLevel(logging.WARNING)

    async def drained() -> None:
        await stop.wait()
        app.drain()
        if app.running:
            logger.info("Stopping. These run, and may take %g s to finish a step: %s.", drain_seconds, app.names())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(app.idle.wait(), drain_seconds)
            return
        logger.warning("These are left behind, and Restate begins their steps again: %s.", app.names())
        loop.set_exception_handler(lambda *_: None)  # which says how each of their connections broke

    async def over() -> None:
        await stop.wait()
        await asyncio.sleep(drain_seconds + _CLOSING_SECONDS)

    loop = asyncio.get_running_loop()
    said_by = loop.get_exception_handler()
    # hypercorn would wait without end for an answer that is sent to nobody any more: the SDK shields that from its
    # cancellation.
    tasks = [
        asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=drained)),
        asyncio.create_task(over()),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CLOSING_SECONDS / 5)
        loop.set_exception_handler(said_by)


def _endpoint(
    services: Iterable[restate.VirtualObject | restate.Service | restate.Workflow], identity_keys: list[str] | None
) -> Callable[..., Awaitable[None]]:
    try:
        app: Callable[..., Awaitable[None]] = restate.app(services, identity_keys=identity_keys)
    except Exception as error:
        if not identity_keys:
            raise
        raise IdentityKeyError(
            f"ADK_CHAT_IDENTITY_KEYS cannot be used: {error}. It is {','.join(identity_keys)}; Restate writes its "
            "public key into its log as it starts."
        ) from error
    return app
