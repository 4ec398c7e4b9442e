"""Turns, as they are reached from outside: posting, cancelling, their end, and their events in the store."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from google.adk.errors.session_not_found_error import SessionNotFoundError
from pydantic import BaseModel, Field
from pydantic_core import to_json

from adk_chat.gateway import invocations
from adk_chat.gateway.transport import GatewayTransport
from adk_chat.readiness import Readiness
from adk_chat.sessions.contract import Json, SessionRequest
from adk_chat.sessions.history import GetHistory, newest_first
from adk_chat.sessions.transport import (
    RETRY_AFTER,
    STATUS,
    AnswerError,
    NoAnswerError,
    UnansweredError,
    status_of,
)
from adk_chat.sessions.turn_end import KILLED, KILLED_SENTENCE, NOT_BEGUN, is_shown
from adk_chat.sessions.turn_id import TurnId, TurnKey

logger = logging.getLogger(__name__)

_PAUSE = 0.5
_ATTACHED_SECONDS = 60
"""How long one request waits for the end of a turn; a connection that died unnoticed is found out by then."""
_UNKNOWN = "not found"
_ABSENT, _MEANINGLESS, _NOT_DONE = 404, 400, 470
"""What the ingress says of the outcome of a Restate invocation that there is not, cannot be, and goes on."""
_CANCELLED, _AWAY = 409, 503
_UNCLEAR = "Which turns there are is not known at the moment. Try again soon."
_SHOWN_SECONDS = 5.0
"""How long the admin API may not show a turn that the ingress knows, as after a restart."""
_SENTENCES = {
    "canceled": NOT_BEGUN,
    KILLED: KILLED_SENTENCE,
}
"""What is meant where the engine itself says how a Restate invocation ended."""
_GOES_ON = "The service does not answer. The turn goes on when it is back; GET /turns/{}/events shows it then."
_ERRORS: tuple[type[Exception], ...] = (*STATUS, AnswerError, NoAnswerError)


class RefusedError(HTTPException):
    """A turn that did not come to anything, with what ADK's server is to answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status, sentence, RETRY_AFTER if status == _AWAY else None)

    def __str__(self) -> str:
        return str(self.detail)


class Post(SessionRequest):
    """What `Chat/post` takes."""

    parts: list[Json] | None = None
    without_parts: bool
    state_delta: Json | None = None
    run_config: Json | None = None
    invocation_id: str | None = None
    create: bool
    multitask_strategy: str
    fingerprint: str | None = None


class _Cancel(SessionRequest):
    turn_id: str


class Pending(BaseModel):
    """A turn that has not ended."""

    turn_id: str = Field(serialization_alias="turnId")
    status: str = Field(
        description="running, queued behind another turn of its session, waiting for one of Restate's slots, retrying "
        "after a failure, or paused until an operator resumes it"
    )
    created_at: str = Field(serialization_alias="createdAt")
    attempts: int = Field(1, description="How often it was begun; more than once after a failure or a crash.")
    last_failure: str | None = Field(None, serialization_alias="lastFailure", description="Of an attempt, if any.")


@dataclass(frozen=True)
class Outcome:
    """How a turn ended: an HTTP status, and what was said if it is an error."""

    status: int
    sentence: str = ""


class Turns:
    """The turns of a service, through its ingress, and its admin API for those that are queued.

    Args:
        ingress_url: where the ingress is.
        admin_url: where the admin API is.
        headers: sent with every request to either.
        readiness: knows whether the handlers answer, if it is there.
    """

    def __init__(
        self,
        ingress_url: str,
        admin_url: str | None,
        headers: Mapping[str, str] | None = None,
        readiness: Readiness | None = None,
    ) -> None:
        self._ingress_url = ingress_url
        self._chat = GatewayTransport(ingress_url, headers, readiness)
        self._admin = GatewayTransport(admin_url, headers) if admin_url else None

    async def close(self) -> None:
        """Close what is open."""
        for transport in (self._chat, self._admin):
            if transport is not None:
                await transport.close()

    async def post(self, key: TurnKey, post: Post, idempotency_key: str | None = None) -> TurnId:
        """Post a message; its turn is durable then.

        Args:
            key: of the session.
            post: the message.
            idempotency_key: of a client. The same message to the same session with the same key is the same turn,
                streamed or not.

        Raises:
            RefusedError: it was; with 422 where another message came with that key before.
        """
        if idempotency_key is None:
            return TurnId.parse((await self._call("post", key, post))["turn_id"])
        # Restate knows keys by the user alone, and has no eye for what is sent with one that it knows.
        scope = [idempotency_key, key.app_name, key.session_id]
        said = post.model_dump(mode="json")
        said["run_config"] = {name: to for name, to in (post.run_config or {}).items() if name != "streaming_mode"}
        sent = post.model_copy(update={"fingerprint": _digest(said)})
        answer = await self._call("post", key, sent, _digest(scope))
        if answer.get("fingerprint", sent.fingerprint) != sent.fingerprint:
            raise RefusedError(
                422,
                f"idempotency-key: {idempotency_key} was sent before with another message to session "
                f"{key.session_id}. Send this message with a key of its own.",
            )
        return TurnId.parse(answer["turn_id"])

    async def outcome(self, turn_id: TurnId, patience: float = math.inf) -> Outcome:
        """Wait for the end of a turn, however long that takes.

        Raises:
            RefusedError: 503, Restate is away for longer than `patience` seconds.
        """
        seen = time.monotonic()
        path = f"/restate/invocation/{turn_id.invocation_id}/attach"
        arrived = False
        while True:
            try:
                answer = await self._chat.attempt("GET", path, None, {}, _ATTACHED_SECONDS)
                said = answer.said_by("invocation")
                if answer.is_success:
                    return Outcome(answer.status)
                if (
                    said == _UNKNOWN and arrived
                ):  # which is how the engine speaks of one that was cancelled in its queue
                    return Outcome(_CANCELLED, NOT_BEGUN)
                if said == _UNKNOWN:
                    await self._arrived(turn_id.key)
                    arrived = True
                    continue
                if said == KILLED:
                    with suppress(RefusedError):  # nobody may have stored that yet; the next turn would
                        await self._call("cancel", turn_id.key, _cancelling(turn_id))
                if said is not None:
                    return Outcome(answer.status, _SENTENCES.get(said, said))
                seen = time.monotonic()
            except (UnansweredError, RefusedError) as error:
                if isinstance(error, UnansweredError) and error.timed_out:  # it listens, and the turn goes on
                    seen = time.monotonic()
                if time.monotonic() - seen > patience:
                    logger.warning("No answer from Restate at %s: %s", self._ingress_url, error)
                    raise RefusedError(_AWAY, _GOES_ON.format(turn_id)) from error
            await asyncio.sleep(_PAUSE)

    async def exists(self, turn_id: TurnId) -> bool:
        """Whether there is such a turn, be it running, queued, or ended, and whether it is of the session it names.

        That there is none is said only when it is known: after all that was posted to the session has arrived.

        Raises:
            RefusedError: 503, nobody can tell at the moment.
        """
        with suppress(RefusedError):
            if self._admin is not None and await self._query(turn_id.key, _is(turn_id)):
                return True
        if await self._status(turn_id) == _ABSENT:
            await self._arrived(turn_id.key)
        if await self.events(turn_id):
            return True
        if await self._status(turn_id) in (_ABSENT, _MEANINGLESS):
            return False
        # It runs, or is queued. Which session it is of only the admin API can tell.
        end = time.monotonic() + _SHOWN_SECONDS
        while (key := await self._key(turn_id)) is None:
            if time.monotonic() > end:
                raise RefusedError(_AWAY, _UNCLEAR)
            await asyncio.sleep(_PAUSE)
        return key == str(turn_id.key)

    async def _arrived(self, key: TurnKey) -> None:
        """Wait until all that was posted to a session has arrived at the engine's queue of it.

        Invariant: what Chat sends to one Turn arrives in order. An answer to what is asked now comes after all that.
        """
        await self._call("running_turn", key, _session(key))

    async def _status(self, turn_id: TurnId) -> int:
        """What the ingress says of the outcome of a turn: `_ABSENT`, `_MEANINGLESS`, `_NOT_DONE`, or how it ended."""
        with _refused():
            return (await self._chat.send("GET", f"/restate/invocation/{turn_id.invocation_id}/output")).status

    async def events(self, turn_id: TurnId) -> list[Json]:
        """What the store has of a turn as ADK's Runner would have yielded it, oldest first."""
        key = turn_id.key
        found: list[Json] = []

        async def page(limit: int, before: str | None) -> list[Json]:
            request = GetHistory(app_name=key.app_name, session_id=key.session_id, limit=limit, before=before)
            events: list[Json] = await self._chat.call("get_history", key.user_id, request)
            return events

        with _refused(), suppress(SessionNotFoundError):
            async with aclosing(newest_first(page)) as pages:
                async for events in pages:
                    of_turn = [event for event in events if turn_id.brought_forth(event)]
                    found = of_turn + found
                    if found and not of_turn:
                        break
        return [event for event in found if is_shown(event)]

    async def pending(self, key: TurnKey) -> list[Pending]:
        """The turns of a session that have not ended, in the order in which they run."""
        columns = f"id, {invocations.STATUS}, created_at, retry_count, last_failure"
        rows = await self._query(key, "status != 'completed'", columns, invocations.SOURCE)
        if not rows:  # or the engine has just started, and shows none yet
            await self._arrived(key)
            rows = await self._query(key, "status != 'completed'", columns, invocations.SOURCE)
        return [
            Pending(
                turn_id=str(TurnId(invocation_id=row["id"], key=key)),
                status=invocations.status_of(row["status"]),
                created_at=row["created_at"],
                attempts=row.get("retry_count") or 1,
                last_failure=row.get("last_failure"),
            )
            for row in rows
        ]

    async def cancel(self, turn_id: TurnId) -> bool:
        """Cancel a turn that runs or is queued; gives whether it was one."""
        key = turn_id.key
        if await self._call("cancel", key, _cancelling(turn_id)):
            return True
        if self._admin is None or await self._status(turn_id) != _NOT_DONE:
            return False
        with _refused():
            answer = await self._admin.send("PATCH", f"/invocations/{turn_id.invocation_id}/cancel")
        return answer.is_success

    async def _call(
        self, handler: str, key: TurnKey, request: SessionRequest, idempotency_key: str | None = None
    ) -> Any:
        with _refused():
            return await self._chat.call(handler, key.user_id, request, idempotency_key)

    async def _query(
        self, key: TurnKey, condition: str, columns: str = "id", source: str = "sys_invocation"
    ) -> list[Json]:
        return await self._rows(f"{columns} FROM {source}", f"target_service_key = '{key}' AND {condition}")

    async def _key(self, turn_id: TurnId) -> str | None:
        """The key of a turn, whichever it is; None where the admin API knows none of that id."""
        rows = await self._rows("target_service_key FROM sys_invocation", _is(turn_id))
        return str(rows[0]["target_service_key"]) if rows else None

    async def _rows(self, what: str, condition: str) -> list[Json]:
        if self._admin is None:
            raise RefusedError(501, "The gateway was not told where Restate's admin API is: start it with --admin-url.")
        with _refused():
            answer = await self._admin.query(
                f"SELECT {what} WHERE {invocations.TURNS} AND {condition} ORDER BY created_at"
            )
        if not answer.is_success:
            logger.warning("Restate's admin API answered HTTP %d: %s", answer.status, answer.text)
            raise RefusedError(_AWAY, _UNCLEAR)
        rows: list[Json] = answer.json()["rows"]
        return rows


def _cancelling(turn_id: TurnId) -> _Cancel:
    key = turn_id.key
    return _Cancel(app_name=key.app_name, session_id=key.session_id, turn_id=str(turn_id))


def _session(key: TurnKey) -> SessionRequest:
    return SessionRequest(app_name=key.app_name, session_id=key.session_id)


def _is(turn_id: TurnId) -> str:
    # Asked for `id` itself, Restate answers with an error where it cannot be the id of any Restate invocation.
    return f"id || '' = '{turn_id.invocation_id}'"


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except _ERRORS as error:
        raise RefusedError(status_of(error) or 500, public_sentence(error)) from error


def _digest(value: object) -> str:
    return hashlib.sha256(to_json(value)).hexdigest()


def public_sentence(error: Exception) -> str:
    """What a client is told of an error; the log tells whoever runs the service what is missing, and where."""
    if isinstance(error, NoAnswerError):
        logger.warning("%s", error)
        return error.public
    return str(error)
