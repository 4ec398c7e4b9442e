"""An endpoint, some of whose attempts fail on purpose after a given number of journal entries."""

import asyncio
import re
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from adk_chat.durable.journal.entries import Message
from tests.fidelity import run

_HEADER = struct.Struct(">HHI")  # type, flags, length: Restate's service protocol
_ERROR = 0x0002
_END = 0x0003
_PROPOSAL = 0x0005
_OUTPUT = 0x0401
_RUN = 0x0411
_COMMANDS = range(0x0401, 0x8000)
_STEP = re.compile(r"(?:model \S+ \((?P<model>.*)\)|\S+ (?P<other>.*)) \[[0-9a-f ]+\]")
_START = re.compile(rb"(inv_\w+).*?(user-\d+)/", re.DOTALL)

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class Failing:
    """Wraps the ASGI app of an endpoint."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].endswith("/Turn/run"):
            await self._app(scope, receive, send)
            return
        first = await receive()
        found = _START.search(first["body"])
        assert found is not None, first
        turn, user = (group.decode() for group in found.groups())
        noted = run.runs[user]
        attempt = noted.begin(turn)
        earlier = len(noted.turns[turn]) - 1
        fail_after = (noted.breaks.later if earlier else noted.breaks.first) if noted.breaks else None
        connection = _Connection(attempt, fail_after, first, receive, send)
        await self._app(scope, connection.receive, connection.send)
        await connection.ended()


class _Connection:
    """What an attempt receives from Restate and sends to it, until it fails."""

    def __init__(self, attempt: run.Attempt, fail_after: int | None, first: Any, receive: Any, send: Any) -> None:
        self._attempt = attempt
        self._fail_after = fail_after
        self._first = first
        self._receive = receive
        self._send = send
        self._event: asyncio.Future[Any] | None = None
        self._failed = asyncio.get_running_loop().create_future()
        self._rest = b""

    async def receive(self) -> Any:
        """See ASGI."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if not self._failed.done():
            event = self._next()
            await asyncio.wait([self._failed, event], return_when=asyncio.FIRST_COMPLETED)
            if event.done():
                self._event = None
                return event.result()
        return {"type": "http.disconnect"}

    def _next(self) -> asyncio.Future[Any]:
        # The receiver may be cancelled, and nothing that Restate says may be lost by that.
        self._event = self._event or asyncio.ensure_future(self._receive())
        return self._event

    async def send(self, event: Any) -> None:
        """See ASGI."""
        if self._failed.done():
            return
        if event["type"] != "http.response.body":
            await self._send(event)
            return
        self._rest += event.get("body", b"")
        body = b""
        for frame in self._frames():
            body += frame
            self._note(_HEADER.unpack_from(frame)[0], frame[_HEADER.size :])
            if self._attempt.entries == self._fail_after:
                await self._fail(body)
                return
        await self._send({**event, "body": body})

    async def ended(self) -> None:
        """A response that ended before Restate stopped sending would break the whole connection."""
        if self._failed.done():
            while (event := await self._next())["type"] == "http.request" and event.get("more_body", False):
                self._event = None
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        elif self._event is not None:
            self._event.cancel()

    def _frames(self) -> Iterator[bytes]:
        while len(self._rest) >= _HEADER.size:
            length = _HEADER.size + _HEADER.unpack_from(self._rest)[2]
            if len(self._rest) < length:
                return
            frame, self._rest = self._rest[:length], self._rest[length:]
            yield frame

    def _note(self, kind: int, body: bytes) -> None:
        self._attempt.entries += kind in _COMMANDS or kind == _PROPOSAL
        if kind == _RUN:
            command = Message(body)
            found = _STEP.fullmatch(command.text(12))
            self._attempt.steps[command.number(11)] = found["model"] or found["other"] if found else ""
        elif kind == _PROPOSAL:
            self._attempt.journaled[self._attempt.steps[Message(body).number(1)]] += 1
        elif kind in (_OUTPUT, _END):
            self._attempt.ended = True

    async def _fail(self, last: bytes) -> None:
        self._attempt.ended = False  # there will be another one, whether or not the output was journaled
        text = b"failed on purpose"
        body = b"\x08\xf4\x03" + b"\x12" + bytes([len(text)]) + text + b"\x40\x01"  # code 500, and again in 1 ms
        await self._send(
            {"type": "http.response.body", "body": last + _HEADER.pack(_ERROR, 0, len(body)) + body, "more_body": True}
        )
        self._failed.set_result(None)
