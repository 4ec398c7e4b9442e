"""What all streams of server-sent events have: headers for proxies, signs of life, and an end."""

import asyncio
from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RESET = b"event: reset\n"
"""The partial text since the last complete event is void. A blank line must follow, perhaps after `SOME_DATA`."""
END_ID = "end"
END = b"id: %s\nevent: end\n" % END_ID.encode()
"""The end of the stream, likewise. A client that reconnects with its id is answered with 204, which stops an
EventSource."""
SOME_DATA = b'data: {"usageMetadata":{}}\n'
"""An EventSource reports only events with data. Clients of ADK's API take any data for an ADK event."""
# No blank line follows: some clients would take that for the end of an event.
_SIGN_OF_LIFE = b": nothing new\n"


class EventStreams:
    """ASGI middleware for apps that answer with server-sent events, one block per message.

    Args:
        app: the app.
        ping_seconds: after this many silent seconds a comment is sent, so that proxies keep the stream open.
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
    """Returns whether a response is a stream of server-sent events."""
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
            headers["x-accel-buffering"] = "no"  # nginx would hold events back until a buffer is full
            self._pinging = asyncio.create_task(self._ping())
        elif not message.get("more_body", False):
            self.close()
        async with self._turn:
            await self._send(message)
        self._last = asyncio.get_running_loop().time()

    def close(self) -> None:
        """Stops the pings."""
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
