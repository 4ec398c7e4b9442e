"""Limits for the body of any request: its size, and that it is JSON that can be stored.

It is outside of everything else, so no route has to check, and nothing of a refused body is forwarded.
"""

import asyncio
import json

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adk_chat.gateway.auth.access import route_path
from adk_chat.protocol.errors import RETRY_AFTER
from adk_chat.protocol.json import whole_characters
from adk_chat.protocol.limits import MAX_BYTES, MAX_DEPTH

MAX_ARTIFACT_BYTES = 32 * 1024 * 1024
"""The limit for an artifact. For everything else it is `MAX_BYTES`."""
MAX_IN_FLIGHT_BYTES = 256 * 1024 * 1024
"""The limit for all bodies at once, small ones excepted. A request takes several times the size of its body."""
_SMALL_BYTES = 64 * 1024
_PAUSE_SECONDS = 30.0
"""How long a client may pause within a body."""
_AWAY = 503
_WITH_BODY = {"POST", "PATCH", "PUT"}


class GoneError(Exception):
    """The client disconnected before its body had arrived."""


class RefusedBodyError(Exception):
    """A body is refused.

    Args:
        status: the status of the answer.
        sentence: its detail.

    Attributes:
        response: the answer.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.response = JSONResponse({"detail": sentence}, status, RETRY_AFTER if status == _AWAY else None)
        """The answer."""


async def whole(receive: Receive) -> bytes:
    """Returns the whole body.

    Raises:
        GoneError: if the client disconnected.
    """
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """Returns a receive that yields the whole body, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


class BoundedBodies:
    """ASGI middleware that refuses bodies that are too large, by their declared length or while they arrive.

    Args:
        app: the app.
        max_in_flight: the limit for all bodies at once, in bytes.
    """

    def __init__(self, app: ASGIApp, max_in_flight: int = MAX_IN_FLIGHT_BYTES) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = _Taken(scope)
        begun = False

        async def bounded() -> Message:
            message = await taken.receive(receive)
            self._take(taken)
            return message

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            self._give_back(taken)
            await send(message)

        try:
            self._take(taken)
            await self._app(scope, bounded, noting)
        except RefusedBodyError as refused:
            if begun:
                raise
            await refused.response(scope, receive, send)
        finally:
            self._give_back(taken)

    def _take(self, taken: "_Taken") -> None:
        if taken.size > taken.most:
            raise RefusedBodyError(413, f"The body is larger than {taken.most} bytes. Send less at once.")
        more = taken.size - taken.counted if taken.size > _SMALL_BYTES and not taken.is_over else 0
        if self._in_flight + more > self._max_in_flight:
            raise RefusedBodyError(_AWAY, "The service is receiving as much as it can. Try again soon.")
        self._in_flight += more
        taken.counted += more

    def _give_back(self, taken: "_Taken") -> None:
        self._in_flight -= taken.counted
        taken.counted, taken.is_over = 0, True


class _Taken:
    """The state of one body."""

    def __init__(self, scope: Scope) -> None:
        told = Headers(scope=scope).get("content-length", "")
        self.size = int(told) if told.isdigit() and len(told) < 20 else 0
        """Its size in bytes, as far as is known."""
        self.most = MAX_ARTIFACT_BYTES if "/artifacts" in route_path(scope) else MAX_BYTES
        self.counted = 0
        self.is_over = False
        self._received = 0
        self._more = True

    async def receive(self, receive: Receive) -> Message:
        """Returns the next message."""
        if not self._more:
            return await receive()
        try:
            async with asyncio.timeout(_PAUSE_SECONDS):
                message = await receive()
        except TimeoutError:
            raise RefusedBodyError(408, f"No more of the body has arrived for {_PAUSE_SECONDS:g} s.") from None
        self._received += len(message.get("body", b""))
        self.size = max(self.size, self._received)
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        return message


class JsonBodies:
    """ASGI middleware that passes on JSON that can be stored.

    A lone surrogate, as clients send that cut a text in the middle of an emoji, becomes U+FFFD. A body that is nested
    too deeply, or is not text, is refused with 400.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["method"] in _WITH_BODY:
            try:
                receive = again(readable(await whole(receive)), receive)
            except GoneError:
                return
            except RefusedBodyError as refused:
                await refused.response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def readable(body: bytes) -> bytes:
    """Returns the body to pass on. Whether it is JSON at all is checked later.

    Raises:
        RefusedBodyError: 400.
    """
    try:
        if (encoding := json.detect_encoding(body)) != "utf-8":
            body = body.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
        body = whole_characters(body)
        if not body.isascii():
            body.decode()
    except UnicodeDecodeError as error:
        raise RefusedBodyError(400, f"The body is not valid {error.encoding.upper()}.") from error
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        try:
            from_json(body, cache_strings="none")
        except ValueError as error:
            if "recursion" in str(error):
                raise RefusedBodyError(400, f"The body is nested more than {MAX_DEPTH} levels deep.") from error
    return body
