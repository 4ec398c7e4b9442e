"""Turns as clients reach them: posting, cancelling, waiting for the end, and reading the stored events."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from google.adk.errors.session_not_found_error import SessionNotFoundError
from pydantic import BaseModel, Field
from pydantic_core import to_json

from adk_chat.protocol.errors import RETRY_AFTER, STATUS, AnswerError, NoAnswerError, status_of
from adk_chat.protocol.json import Json
from adk_chat.protocol.messages import CancelTurn, Message
from adk_chat.protocol.paging import newest_first
from adk_chat.protocol.sessions import GetHistory, SessionRequest
from adk_chat.protocol.turn_end import CANCELED, KILLED, KILLED_SENTENCE, NOT_BEGUN
from adk_chat.protocol.turn_id import TurnId, TurnKey
from adk_chat.restate_api import AdminApi, AdminError, Ingress, UnansweredError
from adk_chat.restate_api.admin import is_invocation
from adk_chat.restate_api.invocations import SOURCE, TURNS
from adk_chat.restate_api.invocations import STATUS as STATUS_COLUMN
from adk_chat.restate_api.invocations import status_of as turn_status
from adk_chat.sessions.client import IngressClient

logger = logging.getLogger(__name__)

_PAUSE = 0.5
_ATTACHED_SECONDS = 60
"""How long one request waits for the end of a turn. A dead connection is noticed after this time."""
_UNKNOWN = "not found"
_ABSENT, _INVALID, _NOT_DONE = 404, 400, 470
"""The ingress's status for the result of a Restate invocation that does not exist, cannot exist, or is running."""
_CANCELLED, _AWAY = 409, 503
_UNCLEAR = "The list of turns is unavailable. Try again soon."
_SHOWN_SECONDS = 5.0
"""For how long after a restart the admin API may not show a turn that the ingress knows."""
_SENTENCES = {CANCELED: NOT_BEGUN, KILLED: KILLED_SENTENCE}
"""Our sentences for Restate's own messages about how a Restate invocation ended."""
_CONTINUES = "The service does not answer. The turn continues when it is back; GET /turns/{}/events shows it then."
_ERRORS: tuple[type[Exception], ...] = (*STATUS, AnswerError, NoAnswerError)


class RefusedError(HTTPException):
    """A turn that did not start, with the answer of ADK's server."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status, sentence, RETRY_AFTER if status == _AWAY else None)

    def __str__(self) -> str:
        return str(self.detail)


class Pending(BaseModel):
    """A turn that has not ended."""

    turn_id: str = Field(serialization_alias="turnId")
    status: str = Field(
        description="running, queued behind another turn of its session, waiting for one of Restate's slots, retrying "
        "after a failure, or paused until an operator resumes it"
    )
    created_at: str = Field(serialization_alias="createdAt")
    attempts: int = Field(1, description="How many times it was started; more than once after a failure or a crash.")
    last_failure: str | None = Field(None, serialization_alias="lastFailure", description="The last failure, if any.")


@dataclass(frozen=True)
class Outcome:
    """How a turn ended: its HTTP status, and for an error its sentence and metadata."""

    status: int
    sentence: str = ""
    metadata: dict[str, str] | None = None


class Turns:
    """The turns of a service.

    Args:
        ingress: the ingress, for the results of turns.
        chat: calls the handlers of Chat.
        admin: the admin API, for turns in a queue; None if it is unknown.
    """

    def __init__(self, ingress: Ingress, chat: IngressClient, admin: AdminApi | None) -> None:
        self._ingress = ingress
        self._chat = chat
        self._admin = admin

    async def post(self, key: TurnKey, message: Message, idempotency_key: str | None = None) -> TurnId:
        """Posts a message. Its turn is durable when this returns.

        Args:
            key: the session.
            message: the message.
            idempotency_key: from the client. The same message to the same session with the same key is the same turn,
                whether it is streamed or not.

        Raises:
            RefusedError: if it was refused; with 422 if another message was sent with that key before.
        """
        if idempotency_key is None:
            return TurnId.parse((await self._call("post", key, message))["turn_id"])
        # Restate's scope of a key is the user, and it does not compare what is sent with it.
        scope = [idempotency_key, key.app_name, key.session_id]
        fingerprint = _digest(_identity(message))
        sent = message.model_copy(update={"fingerprint": fingerprint})
        answer = await self._call("post", key, sent, _digest(scope))
        if answer.get("fingerprint", fingerprint) != fingerprint:
            raise RefusedError(
                422,
                f"idempotency-key: {idempotency_key} was sent before with another message to session "
                f"{key.session_id}. Send this message with a key of its own.",
            )
        return TurnId.parse(answer["turn_id"])

    async def post_run(self, key: TurnKey, message: Message, run_id: str, subject: str) -> TurnId:
        """Posts a message of a frontend's run. Its turn is durable when this returns.

        Args:
            key: the session.
            message: the message.
            run_id: the run. The same subject posted in the same run is the same turn, for a day.
            subject: what the message is about: the id of a message or call of the frontend.

        Raises:
            RefusedError: if it was refused.
        """
        scope = ["run", run_id, subject, key.app_name, key.session_id]
        return TurnId.parse((await self._call("post", key, message, _digest(scope)))["turn_id"])

    async def running(self, key: TurnKey) -> TurnId | None:
        """Returns the turn that is running in a session, once everything posted to it before has arrived.

        Raises:
            RefusedError: if nobody can tell at the moment.
        """
        request = SessionRequest(app_name=key.app_name, session_id=key.session_id)
        running = (await self._call("running_turn", key, request))["turn_id"]
        return None if running is None else TurnId.parse(running)

    async def outcome(self, turn_id: TurnId, patience: float = math.inf) -> Outcome:
        """Waits for the end of a turn, however long that takes.

        Raises:
            RefusedError: 503, if Restate is unreachable for longer than `patience` seconds.
        """
        seen = time.monotonic()
        arrived = False
        while True:
            try:
                answer = await self._ingress.result(turn_id.invocation_id, seconds=_ATTACHED_SECONDS)
                if answer.is_success:
                    return Outcome(answer.status)
                message = answer.error_from("invocation")
                # This is also Restate's answer for a Restate invocation that was cancelled in its queue.
                if message == _UNKNOWN and arrived:
                    return Outcome(_CANCELLED, NOT_BEGUN)
                if message == _UNKNOWN:
                    await self._arrived(turn_id.key)
                    arrived = True
                    continue
                if message == KILLED:
                    with suppress(RefusedError):  # nobody may have stored that yet; the next turn would
                        await self._call("cancel", turn_id.key, _cancel(turn_id))
                if message is not None:
                    return Outcome(answer.status, _SENTENCES.get(message, message), answer.error().get("metadata"))
                seen = time.monotonic()
            except (UnansweredError, RefusedError) as error:
                if isinstance(error, UnansweredError) and error.timed_out:  # Restate is up, and the turn is running
                    seen = time.monotonic()
                if time.monotonic() - seen > patience:
                    logger.warning("No answer from Restate at %s: %s", self._ingress, error)
                    raise RefusedError(_AWAY, _CONTINUES.format(turn_id)) from error
            await asyncio.sleep(_PAUSE)

    async def exists(self, turn_id: TurnId) -> bool:
        """Returns whether a turn exists, be it queued, running or ended, and belongs to the session that it names.

        It returns False only once everything that was posted to the session before has arrived.

        Raises:
            RefusedError: 503, if nobody can tell at the moment.
        """
        with suppress(RefusedError):
            if self._admin is not None and await self._query(turn_id.key, is_invocation(turn_id.invocation_id)):
                return True
        if await self._status(turn_id) == _ABSENT:
            await self._arrived(turn_id.key)
        if await self.events(turn_id):
            return True
        if await self._status(turn_id) in (_ABSENT, _INVALID):
            return False
        # It is running or queued. Only the admin API knows to which session it belongs.
        end = time.monotonic() + _SHOWN_SECONDS
        while (key := await self._key(turn_id)) is None:
            if time.monotonic() > end:
                raise RefusedError(_AWAY, _UNCLEAR)
            await asyncio.sleep(_PAUSE)
        return key == str(turn_id.key)

    async def _arrived(self, key: TurnKey) -> None:
        """Waits until everything that was posted to a session has arrived in its queue.

        Invariant: what Chat sends to one Turn arrives in order, so the answer to this call comes after all of it.
        """
        await self._call("running_turn", key, SessionRequest(app_name=key.app_name, session_id=key.session_id))

    async def _status(self, turn_id: TurnId) -> int:
        """Returns `_ABSENT`, `_INVALID`, `_NOT_DONE`, or the status with which a turn ended."""
        with refused():
            return (await self._ingress.output(turn_id.invocation_id)).status

    async def events(self, turn_id: TurnId) -> list[Json]:
        """Returns all stored events of a turn, oldest first, the user's message and our records included."""
        key = turn_id.key
        found: list[Json] = []

        async def page(limit: int, before: str | None) -> list[Json]:
            request = GetHistory(app_name=key.app_name, session_id=key.session_id, limit=limit, before=before)
            events: list[Json] = await self._chat.call("get_history", key.user_id, request)
            return events

        with refused(), suppress(SessionNotFoundError):
            async with aclosing(newest_first(page)) as pages:
                async for events in pages:
                    of_turn = [event for event in events if turn_id.owns(event)]
                    found = of_turn + found
                    if found and not of_turn:
                        break
        return found

    async def pending(self, key: TurnKey) -> list[Pending]:
        """Returns the turns of a session that have not ended, in the order in which they run."""
        columns = f"id, {STATUS_COLUMN}, created_at, retry_count, last_failure"
        rows = await self._query(key, "status != 'completed'", columns, SOURCE)
        if not rows:  # or Restate has just started, and shows none yet
            await self._arrived(key)
            rows = await self._query(key, "status != 'completed'", columns, SOURCE)
        return [
            Pending(
                turn_id=str(TurnId(invocation_id=row["id"], key=key)),
                status=turn_status(row["status"]),
                created_at=row["created_at"],
                attempts=row.get("retry_count") or 1,
                last_failure=row.get("last_failure"),
            )
            for row in rows
        ]

    async def cancel(self, turn_id: TurnId) -> bool:
        """Cancels a turn. Returns whether it was running or queued."""
        key = turn_id.key
        if await self._call("cancel", key, _cancel(turn_id)):
            return True
        if self._admin is None or await self._status(turn_id) != _NOT_DONE:
            return False
        with refused(), suppress(AdminError):
            return await self._admin.end(turn_id.invocation_id, "cancel")
        return False

    async def _call(
        self, handler: str, key: TurnKey, request: SessionRequest, idempotency_key: str | None = None
    ) -> Any:
        with refused():
            return await self._chat.call(handler, key.user_id, request, idempotency_key)

    async def _query(
        self, key: TurnKey, condition: str, columns: str = "id", source: str = "sys_invocation"
    ) -> list[Json]:
        return await self._rows(f"{columns} FROM {source}", f"target_service_key = '{key}' AND {condition}")

    async def _key(self, turn_id: TurnId) -> str | None:
        """Returns the key of a turn; None if the admin API does not know its Restate invocation."""
        rows = await self._rows("target_service_key FROM sys_invocation", is_invocation(turn_id.invocation_id))
        return str(rows[0]["target_service_key"]) if rows else None

    async def _rows(self, what: str, condition: str) -> list[Json]:
        if self._admin is None:
            raise RefusedError(501, "The gateway does not know Restate's admin API. Start it with --admin-url.")
        try:
            with refused():
                return await self._admin.query(f"SELECT {what} WHERE {TURNS} AND {condition} ORDER BY created_at")
        except AdminError as error:
            logger.warning("%s", error)
            raise RefusedError(_AWAY, _UNCLEAR) from error


def _cancel(turn_id: TurnId) -> CancelTurn:
    key = turn_id.key
    return CancelTurn(app_name=key.app_name, session_id=key.session_id, turn_id=str(turn_id))


def _identity(message: Message) -> Json:
    """Returns what makes two messages the same.

    Invariant: its JSON never changes. A request that is repeated after an upgrade must have the same fingerprint.
    """
    parts = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in message.parts or []]
    dumped = message.model_dump(mode="json", exclude={"parts"})
    config = {name: value for name, value in (dumped["run_config"] or {}).items() if name != "streaming_mode"}
    return {
        "app_name": dumped["app_name"],
        "session_id": dumped["session_id"],
        "parts": parts,
        "without_parts": dumped["without_parts"],
        "state_delta": dumped["state_delta"],
        "run_config": config,
        "invocation_id": dumped["invocation_id"],
        "create": dumped["create"],
        "multitask_strategy": dumped["multitask_strategy"],
        "fingerprint": None,
    }


@contextmanager
def refused() -> Iterator[None]:
    """Raises `RefusedError` for the exceptions of the session contract, with their status."""
    try:
        yield
    except _ERRORS as error:
        raise RefusedError(status_of(error) or 500, public_sentence(error)) from error


def _digest(value: object) -> str:
    return hashlib.sha256(to_json(value)).hexdigest()


def public_sentence(error: Exception) -> str:
    """Returns what a client is told about an error. The details of an outage go to the log."""
    if isinstance(error, NoAnswerError):
        logger.warning("%s", error)
        return error.public
    return str(error)
