"""A gateway that does what a real one does only when something is killed, and records its requests."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TURN_ID = "inv_1x.dXNlci94L3M"
RESET = "event: reset\ndata: {}\n\n"


class BrokenError(Exception):
    """Breaks the connection."""


def says(text: str, id_: int, **more: Any) -> str:
    """An event in which the agent says something."""
    event = {"author": "x", "content": {"role": "model", "parts": [{"text": text}]}, **more}
    return f"id: {id_}\ndata: {json.dumps(event)}\n\n"


class FakeGateway:
    """The message says what happens."""

    def __init__(self) -> None:
        self.came_back: list[str | None] = []
        self.cancelled = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/list-apps", self.apps),
                Route("/apps/x/users/user/sessions", self.create, methods=["POST"]),
                Route("/apps/x/users/user/sessions/s/turns", self.turns),
                Route("/run_sse", self.run, methods=["POST"]),
                Route("/turns/{turn_id}/events", self.events),
                Route("/turns/{turn_id}/cancel", self.cancel, methods=["POST"]),
            ]
        )

    async def apps(self, request: Request) -> Response:
        return JSONResponse(["x"])

    async def create(self, request: Request) -> Response:
        return JSONResponse({"id": "s"})

    async def turns(self, request: Request) -> Response:
        return JSONResponse([{"turnId": TURN_ID, "status": "running"}])

    async def run(self, request: Request) -> Response:
        text = (await request.json())["newMessage"]["parts"][0]["text"]
        return StreamingResponse(getattr(self, text)(), media_type="text/event-stream", headers={"x-turn-id": TURN_ID})

    async def events(self, request: Request) -> Response:
        self.came_back.append(request.headers.get("last-event-id"))
        if len(self.came_back) == 1:
            return JSONResponse({"detail": "not yet"}, 503)
        return StreamingResponse(self.rest(), media_type="text/event-stream")

    async def cancel(self, request: Request) -> Response:
        assert request.path_params["turn_id"] == TURN_ID
        self.cancelled.set()
        return JSONResponse({"cancelled": True})

    async def restart(self) -> AsyncIterator[str]:
        yield says("once ", 1, partial=True)
        yield RESET
        yield says("twice ", 2, partial=True)
        yield says("twice upon", 3)

    async def again(self) -> AsyncIterator[str]:
        yield says("once ", 1, partial=True)
        yield RESET
        yield says("on", 2, partial=True)
        yield says("ce upon ", 3, partial=True)
        yield says("once upon a time", 4)

    async def broken(self) -> AsyncIterator[str]:
        yield says("one ", 1, partial=True)
        yield says("two ", 2, partial=True)
        raise BrokenError

    async def rest(self) -> AsyncIterator[str]:
        yield says("three", 3, partial=True)
        yield says("one two three", 4)

    async def slow(self) -> AsyncIterator[str]:
        yield says("wait ", 1, partial=True)
        await self.cancelled.wait()
        yield says("wait ", 2, interrupted=True)

    async def stubborn(self) -> AsyncIterator[str]:
        yield says("never ", 1, partial=True)
        await asyncio.Event().wait()

    async def failed(self) -> AsyncIterator[str]:
        yield says("but ", 1, partial=True)
        yield says("", 2, errorCode="OUT", errorMessage="The model is out of order.")
        yield 'data: {"error": "OUT: The model is out of order."}\n\n'

    async def rude(self) -> AsyncIterator[str]:
        yield says("\x1b]0;title\x07\x1b[2Jhello", 1)
