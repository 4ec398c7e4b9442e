"""An endpoint that takes no new work and lets running work end."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from adk_chat.process.readiness import Readiness


class Draining:
    """An ASGI app that refuses new requests when it drains, and knows when none is left.

    hypercorn's own draining resets new streams, and then breaks the connection under the running ones.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], readiness: Readiness) -> None:
        self.idle = asyncio.Event()
        self.idle.set()
        self._app = app
        self._readiness = readiness
        self.running: set[_Request] = set()
        self._draining = False

    def names(self) -> str:
        """Returns the running handlers, and how many of each."""
        counted = Counter(request.name for request in self.running)
        return ", ".join(f"{name} {count}" for name, count in sorted(counted.items()))

    def drain(self) -> None:
        """Refuses new requests, and asks running handlers to suspend."""
        self._draining = True
        for request in self.running:
            request.suspend()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI."""
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
    """A request whose handler can be asked to suspend: it is told that Restate has stopped sending.

    The response ends only when Restate really has. Data that arrives on a stream that is closed on our side breaks
    hypercorn's connection, under all other streams.
    """

    def __init__(self, name: str, receive: Any, send: Any) -> None:
        self.name = name
        self._receive = receive
        self._send = send
        self._suspending = self._told = False
        self._waiting: asyncio.Task[Any] | None = None
        self._closed = asyncio.Event()

    def suspend(self) -> None:
        """Tells the handler at its next or current wait."""
        self._suspending = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def receive(self) -> Any:
        """ASGI's receive."""
        while True:
            if self._suspending and not self._told:
                self._told = True
                return {"type": "http.request", "body": b"", "more_body": False}
            task = self._waiting = asyncio.current_task()
            try:
                event = await self._receive()
            except asyncio.CancelledError:
                # As in `asyncio.timeout`, which would have to be entered for each message.
                if not self._suspending or self._told or task is None or task.uncancel():
                    raise
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
    # Not at once; see `_Request`.
    while (event := await receive())["type"] == "http.request" and event.get("more_body", False):
        pass
    await send({"type": "http.response.body", "body": b"This endpoint is shutting down."})
