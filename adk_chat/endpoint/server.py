"""Serves Restate handlers over HTTP/2, and drains on SIGTERM."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from typing import Protocol

import restate

from adk_chat.endpoint.draining import Draining
from adk_chat.process.readiness import Readiness
from adk_chat.settings import ServerName

logger = logging.getLogger(__name__)


STREAMS, FEW_STREAMS = 256, 8
"""How many requests a connection carries at once. Restate opens a second connection only when the first carries 128. If
several processes accept connections of one socket, few requests on each spread the work. With 4, 1,200 turns at once
took twice as long, because they waited for connections."""
_CLOSING_SECONDS = 0.3


class IdentityKeyError(Exception):
    """An identity key is not a public key of Restate's."""


class ServerMissingError(Exception):
    """The requested HTTP server is not installed."""


class Serve(Protocol):
    """Serves an ASGI app on a listening socket, with `streams` requests per connection, until `stopped` returns."""

    async def __call__(
        self,
        app: Callable[..., Awaitable[None]],
        listening: socket.socket,
        streams: int,
        stopped: Callable[[], Awaitable[None]],
    ) -> None:
        """Serves the app. What is still open a moment after the end is closed."""


async def serve(
    services: Iterable[restate.VirtualObject | restate.Service | restate.Workflow],
    listening: socket.socket,
    stop: asyncio.Event,
    *,
    server: ServerName = "hypercorn",
    streams: int = STREAMS,
    identity_keys: list[str] | None = None,
    drain_seconds: float = 30,
    readiness: Readiness | None = None,
) -> None:
    """Serves handlers until `stop` is set. Then takes no new work and lets running steps end within `drain_seconds`.

    Handlers that only wait are suspended at once, the others when their step is journaled. Restate continues them
    elsewhere. What is not done a moment after that is left behind, and Restate starts it again. `GET /health` answers
    200. `GET /ready` answers 200 with the findings of `readiness`, or 503 while draining.

    Args:
        services: the objects and services to serve, such as `ChatService(...).objects`.
        listening: a listening socket, from `listen`.
        stop: from `stop_event`.
        server: the HTTP server, hypercorn or granian.
        streams: how many requests a connection carries at once.
        identity_keys: the public keys of the Restate whose requests are accepted; by default any.
        drain_seconds: how long running steps may take to end.
        readiness: checks what the endpoint needs.

    Raises:
        IdentityKeyError: if one of `identity_keys` is not a public key of Restate's.
        ServerMissingError: if `server` is not installed.
    """
    app = Draining(_endpoint(services, identity_keys), readiness or Readiness())
    serve_app = _serve(server)
    quiet = asyncio.Event()

    async def drained() -> None:
        await stop.wait()
        app.drain()
        if app.running:
            logger.info("Stopping. These are running, and have %g s to finish a step: %s.", drain_seconds, app.names())
        try:
            await asyncio.wait_for(app.idle.wait(), drain_seconds)
        except TimeoutError:
            logger.warning("These did not finish; Restate will repeat their steps: %s.", app.names())
            loop.set_exception_handler(lambda *_: None)  # it would log how each of their connections broke
        quiet.set()

    async def over() -> None:
        await quiet.wait()
        await asyncio.sleep(_CLOSING_SECONDS)

    loop = asyncio.get_running_loop()
    said_by = loop.get_exception_handler()
    # Servers wait for clients. hypercorn waits forever for an answer that nobody receives any more, because the SDK
    # shields it from cancellation, and granian waits until Restate closes its connections.
    tasks = [asyncio.create_task(serve_app(app, listening, streams, drained)), asyncio.create_task(over())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CLOSING_SECONDS / 5)
        loop.set_exception_handler(said_by)


def check_server(name: ServerName) -> None:
    """Checks that an HTTP server is installed.

    Raises:
        ServerMissingError: if it is not.
    """
    _serve(name)


def _serve(name: ServerName) -> Serve:
    try:
        found: Serve = import_module(f"adk_chat.endpoint.{name}_server").serve
    except ModuleNotFoundError as error:
        raise ServerMissingError(
            f"ADK_CHAT_SERVER is {name}, which is not installed: pip install 'adk-chat[{name}]'."
        ) from error
    return found


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
