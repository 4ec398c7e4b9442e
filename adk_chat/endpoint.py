"""Serving Restate handlers over HTTP/2 with hypercorn, and draining on SIGTERM."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import hypercorn.asyncio
import restate
from hypercorn.config import Config
from restate.server import install_shutdown_hook

from adk_chat.readiness import Readiness

_CLOSING_SECONDS = 0.3
_STREAMS = 256  # The engine opens up to 128 on a connection.


logger = logging.getLogger(__name__)


class PortTakenError(Exception):
    """Somebody else listens where we were told to."""


class IdentityKeyError(Exception):
    """A public key of a Restate is none."""


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
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def stop_event() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set; another SIGINT ends the process at once.

    Restate's SDK replaces other handlers of SIGTERM; this one it knows of.
    """
    stop = asyncio.Event()

    def interrupted() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGINT)
        stop.set()

    loop = asyncio.get_running_loop()
    install_shutdown_hook(loop, stop.set, signal.SIGTERM)
    install_shutdown_hook(loop, interrupted, signal.SIGINT)
    return stop


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
    app = _Draining(_endpoint(services, identity_keys), readiness or Readiness())
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


class _Draining:
    """An ASGI app that takes no new requests once it drains, and knows when it has none left.

    hypercorn's own draining resets new streams, and breaks the connection under the running ones when it does.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], readiness: Readiness) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self._app = app
        self._readiness = readiness
        self.running: set[_Request] = set()
        self._draining = False

    def names(self) -> str:
        """The handlers that run, and how many of each."""
        counted = Counter(request.name for request in self.running)
        return ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))

    def drain(self) -> None:
        """Refuse new requests, and ask the handlers of those that are here to suspend."""
        self._draining = True
        for request in self.running:
            request.suspend()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        if scope["path"] == "/ready":
            answer = await self._readiness.answer(draining=self._draining)
            await answer(scope, receive, send)
            return
        if self._draining:
            await _refuse(receive, send)
            return
        request = _Request(scope["path"].partition("/invoke/")[2], receive, send)
        self.running.add(request)
        self.idle.clear()
        try:
            await self._app(scope, request.receive, request.send)
        finally:
            self.running.discard(request)
            if not self.running:
                self.idle.set()


class _Request:
    """A request whose handler can be asked to suspend: it is told that the engine has stopped sending.

    Its response is ended only when the engine really has: data that arrives on a stream that is closed on our side
    breaks hypercorn's connection, under all other streams.
    """

    def __init__(self, name: str, receive: Any, send: Any) -> None:
        self.name = name
        self._receive = receive
        self._send = send
        self._suspending = self._told = False
        self._waiting: asyncio.Timeout | None = None
        self._closed = asyncio.Event()

    def suspend(self) -> None:
        """Tell the handler at its next or present wait."""
        self._suspending = True
        if self._waiting is not None:
            self._waiting.reschedule(0)

    async def receive(self) -> Any:
        """ASGI's receive."""
        while True:
            if self._suspending and not self._told:
                self._told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            try:
                async with asyncio.timeout(None) as self._waiting:
                    event = await self._receive()
            except TimeoutError:
                continue
            finally:
                self._waiting = None
            if event["type"] == "http.disconnect" or not event.get("more_body", False):
                self._closed.set()
            if not self._told or event["type"] == "http.disconnect":
                return event

    async def send(self, event: Any) -> None:
        """ASGI's send."""
        if self._told and event["type"] == "http.response.body" and not event.get("more_body", False):
            await self._closed.wait()
        await self._send(event)


async def _refuse(receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": [(b"content-type", b"text/plain")]})
    # See `_Request` on why not at once.
    while (event := await receive())["type"] == "http.request" and event.get("more_body", False):
        pass
    await send({"type": "http.response.body", "body": b"This endpoint is shutting down."})
