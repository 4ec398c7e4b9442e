"""What requests to `/run` and `/run_sse` have beyond ADK's server. It wraps ADK's endpoints, which stay as they are.

A request may say what to do if a turn is running (`multitask_strategy`), and which earlier request it repeats (header
`idempotency-key`). The response has the turn's id (header `x-turn-id`), and every event an `id`. `event: reset` voids
partial text, and `event: end` comes last. A turn that is refused before anything was shown is answered with a status,
not with an error in a stream.
"""

from contextvars import ContextVar
from typing import Any

from google.adk.events.event import Event
from pydantic_core import from_json, to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adk_chat.gateway.auth.access import BodyError, note_user, parsed, route_path
from adk_chat.gateway.bodies import again, whole
from adk_chat.gateway.streams.reader import Mark
from adk_chat.gateway.streams.sse import END, RESET, is_stream
from adk_chat.protocol.errors import RETRY_AFTER
from adk_chat.protocol.json import Json
from adk_chat.protocol.turn_id import TurnId

TURN_ID = "x-turn-id"
_PATHS = {"/run", "/run_sse"}
_AWAY = 503
_exchange: ContextVar["Exchange | None"] = ContextVar("exchange", default=None)


def current_exchange() -> "Exchange | None":
    """Returns the exchange in which a Runner runs; None outside of one."""
    return _exchange.get()


class Exchange:
    """One request to `/run` or `/run_sse`, and its response, which begins once its turn or its refusal is known."""

    def __init__(self, route: str, multitask_strategy: str, idempotency_key: str | None, send: Send) -> None:
        self.waits = route == "/run"
        self.multitask_strategy = multitask_strategy
        self.idempotency_key = idempotency_key
        self._send = send
        self._turn_id: TurnId | None = None
        self._mark = self._before = Mark()
        self._artifacts = False
        self._refusal: tuple[int, str] | None = None
        self._held: Message | None = None
        self._begun = False
        self._stream = False
        self._over = False

    async def accepted(self, turn_id: TurnId) -> None:
        """Notes the turn, because the message was posted."""
        self._turn_id = turn_id
        await self._begin()

    def refuse(self, status: int, sentence: str) -> None:
        """Notes the answer to a turn that was refused. It is used if nothing was shown yet."""
        self._refusal = (status, sentence)

    def next_is(self, event: Event, mark: Mark) -> None:
        """Notes the event that is shown next, and its id."""
        self._before, self._mark = self._mark, mark
        self._artifacts = bool(event.actions.artifact_delta)

    async def reset(self, mark: Mark) -> None:
        """Sends that all partial text is void. Called while ADK's server waits for the next event."""
        await self._begin()
        if self._begun:
            await self._send(_body(b"id: %s\n" % str(mark).encode() + RESET + b"\n"))

    async def send(self, message: Message) -> None:
        """ASGI's send, for ADK's server."""
        if message["type"] == "http.response.start":
            self._held = message
            self._stream = is_stream(message)
            if self._turn_id is not None or not self._stream:
                await self._begin()
            return
        if message["type"] != "http.response.body" or self._over:
            if not self._over:
                await self._send(message)
            return
        if not self._begun and self._refusal is not None:
            self._over = True
            await self._refuse(*self._refusal)
            return
        await self._begin()
        data = message.get("body", b"")
        if self._turn_id is not None and data.startswith(b"data:"):
            # ADK's server shows the content of an event and its artifacts one after the other. A client that saw only
            # the first has not seen the event.
            mark = self._before if self._artifacts and not _shows_artifacts(data) else self._mark
            data = b"id: %s\n" % str(mark).encode() + data
        if self._turn_id is not None and self._stream and not message.get("more_body", False):
            await self._send(_body(END + b"\n"))
        await self._send({**message, "body": data})

    async def _begin(self) -> None:
        if self._begun or self._held is None:
            return
        self._begun = True
        if self._turn_id is not None:
            MutableHeaders(raw=self._held["headers"])[TURN_ID] = str(self._turn_id)
        await self._send(self._held)

    async def _refuse(self, status: int, sentence: str) -> None:
        body = to_json({"detail": sentence})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if status == _AWAY:
            headers += [(name.encode(), value.encode()) for name, value in RETRY_AFTER.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send(_body(body, more=False))


class Exchanges:
    """ASGI middleware that gives each run its `Exchange`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] != "POST" or route_path(scope) not in _PATHS:
            await self._app(scope, receive, send)
            return
        body = await whole(receive)
        key = Headers(scope=scope).get("idempotency-key")
        request = _read(scope, body)
        strategy = request.get("multitaskStrategy") or request.get("multitask_strategy") or "enqueue"
        if user := request.get("userId") or request.get("user_id"):
            note_user(scope, str(user))
        exchange = Exchange(route_path(scope), str(strategy), key, send)
        token = _exchange.set(exchange)
        try:
            await self._app(scope, again(body, receive), exchange.send)
        finally:
            _exchange.reset(token)


def _read(scope: Scope, body: bytes) -> Json:
    """Returns a body if it is a JSON object. ADK's server checks whether it is valid."""
    try:
        request = parsed(scope, body)
    except BodyError:  # without access control, ADK's server decides which one counts
        request = from_json(body)
    return request if isinstance(request, dict) else {}


def _shows_artifacts(data: bytes) -> bool:
    event: Any = from_json(data.removeprefix(b"data:"))
    return "content" not in event or bool(event.get("actions", {}).get("artifactDelta"))


def _body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}
