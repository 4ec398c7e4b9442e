"""The routes beside ADK's API: turns can be watched, listed and cancelled."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import JSONResponse, Response, StreamingResponse
from google.adk.events.event import Event
from pydantic_core import to_json

from adk_chat.gateway import seams
from adk_chat.gateway.auth.tickets import Ticket, Tickets
from adk_chat.gateway.streams.reader import Mark, TurnFailedError, TurnReader
from adk_chat.gateway.streams.run_request import TURN_ID
from adk_chat.gateway.streams.sse import END, END_ID, RESET, SOME_DATA
from adk_chat.gateway.turns import Pending, RefusedError, Turns
from adk_chat.process.readiness import Readiness
from adk_chat.protocol.turn_id import TurnId, TurnKey

_RESET = RESET + SOME_DATA + b"\n"


def ready_route(readiness: Readiness) -> APIRouter:
    """`GET /ready`, beside ADK's `/health`."""
    router = APIRouter()

    @router.get("/ready")
    async def ready() -> JSONResponse:
        """Whether the gateway can work: 200, or 503, and what is missing."""
        return await readiness.answer()

    return router


def turn_routes(turns: Turns, reader: TurnReader, tickets: Tickets, aliases: Mapping[str, str]) -> APIRouter:
    """Returns the routes. `aliases` are aliases of apps."""
    router = APIRouter(tags=["Turns"])

    @router.get("/turns/{turn_id}/events")
    async def events(
        turn_id: str, after: str | None = None, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        """The events of a turn as server-sent events: those after `Last-Event-ID` or `after`, and then live.

        A browser's EventSource cannot send a token and passes a `ticket` in the query. After `event: end` the answer is
        204.
        """
        reached = last_event_id or after
        if reached == END_ID:
            return Response(status_code=204)
        wanted = await _known(turns, turn_id)
        mark = _mark(reached)
        return StreamingResponse(
            _stream(reader, wanted, mark), media_type="text/event-stream", headers={TURN_ID: turn_id}
        )

    @router.post("/turns/{turn_id}/cancel")
    async def cancel(turn_id: str) -> dict[str, bool]:
        """Cancel a turn that is running or queued. Answers whether it was."""
        return {"cancelled": await turns.cancel(await _known(turns, turn_id))}

    @router.post("/turns/{turn_id}/ticket")
    async def ticket(turn_id: str) -> Ticket:
        """A ticket with which the turn's events can be read without a token: `/turns/{turn_id}/events?ticket=`."""
        return tickets.issue(str(await _known(turns, turn_id)))

    @router.get("/apps/{app_name}/users/{user_id}/sessions/{session_id}/turns", response_model_exclude_none=True)
    async def pending(app_name: str, user_id: str, session_id: str) -> list[Pending]:
        """The turns of a session that have not ended, in the order in which they run."""
        if not session_id.strip():  # no session has a blank id
            return []
        key = TurnKey(user_id=user_id, app_name=aliases.get(app_name, app_name), session_id=session_id)
        return await turns.pending(key)

    return router


async def _known(turns: Turns, text: str) -> TurnId:
    try:
        turn_id = TurnId.parse(text)
    except ValueError as error:
        raise HTTPException(404, str(error)) from error
    if not await turns.exists(turn_id):
        raise HTTPException(404, "There is no such turn, or it was cancelled before it began.")
    return turn_id


def _mark(text: str | None) -> Mark | None:
    if not text:
        return None
    try:
        return Mark.parse(text)
    except ValueError as error:
        raise HTTPException(400, f"Last-Event-ID or after: {error}") from error


async def _stream(reader: TurnReader, turn_id: TurnId, mark: Mark | None) -> AsyncGenerator[bytes, None]:
    last = mark or Mark()
    try:
        async with aclosing(reader.read(turn_id, mark)) as shown:
            async for item in shown:
                last = item.mark
                event = _RESET if item.event is None else _data(seams.public_json(Event.model_validate(item.event)))
                yield _id(last) + event
    except (TurnFailedError, RefusedError) as error:
        yield _id(last) + _data({"error": f"{type(error).__name__}: {error}"})
    yield END + SOME_DATA + b"\n"


def _id(mark: Mark) -> bytes:
    return b"id: %s\n" % str(mark).encode()


def _data(value: Any) -> bytes:
    return b"data: " + to_json(value) + b"\n\n"
