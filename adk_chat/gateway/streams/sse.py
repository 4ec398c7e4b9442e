"""What every stream of server-sent events of the gateway has: headers for proxies, a sign of life, and an end."""

import asyncio
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RESET = b"event: reset\n"
"""The partial text since the last complete event is void. A blank line has to follow, perhaps after `SOME_DATA`."""
END_ID = "end"
END = b"id: %s\nevent: end\n" % END_ID.encode()
"""Likewise: there is nothing more to come. Who comes back after it is answered with 204, at which EventSource stops."""
SOME_DATA = b'data: {"usageMetadata":{}}\n'
"""Without data an EventSource tells nobody of an event. Clients of ADK's API take whatever is data for ADK's events."""
# No blank line follows: there are clients to whom that would end an event.
_SIGN_OF_LIFE = b": nothing new\n"


class EventStreams:
    """ASGI middleware around whatever answers with server-sent events, each block of them in one message.

    Args:
        app: what answers.
        ping_seconds: a comment is sent where nothing else was for so long, so that no proxy takes the stream for dead.
    """

    def __init__(self, app: ASGIApp, ping_seconds: float) -> None:
        self._app = app
        self._ping_seconds = ping_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stream = _Stream(send, self._ping_seconds)
        try:
            await self._app(scope, receive, stream.send)
        finally:
            stream.close()


def is_stream(start: Message) -> bool:
    """Whether a response that starts so is one of server-sent events."""
    return MutableHeaders(raw=start["headers"]).get("content-type", "").startswith("text/event-stream")


class _Stream:
    def __init__(self, send: Send, ping_seconds: float) -> None:
        self._send = send
        self._ping_seconds = ping_seconds
        self._turn = asyncio.Lock()
        self._last = 0.0
        self._pinging: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start" and is_stream(message):
            headers = MutableHeaders(raw=message["headers"])
            headers["cache-control"] = "no-cache"
            headers["x-accel-buffering"] = "no"  # nginx would keep events back until a buffer is full
            self._pinging = asyncio.create_task(self._ping())
        elif not message.get("more_body", False):
            self.close()
        async with self._turn:
            await self._send(message)
        self._last = asyncio.get_running_loop().time()

    def close(self) -> None:
        """No more pings."""
        if self._pinging is not None:
            self._pinging.cancel()

    async def _ping(self) -> None:
        now = asyncio.get_running_loop().time
        self._last = now()
        with suppress(OSError):  # the client is gone
            while True:
                await asyncio.sleep(self._last + self._ping_seconds - now())
                async with self._turn:
                    if now() - self._last >= self._ping_seconds:
                        await self._send({"type": "http.response.body", "body": _SIGN_OF_LIFE, "more_body": True})
                        self._last = now()
