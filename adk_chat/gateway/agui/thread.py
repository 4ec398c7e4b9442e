"""What is stored of a thread, which is a session, as far as a run has to know it."""

import asyncio
from collections.abc import Collection
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from google.adk.errors.session_not_found_error import SessionNotFoundError

from adk_chat.gateway.agui.interrupts import Question, question_of
from adk_chat.gateway.agui.messages import is_of_user, messages_of
from adk_chat.gateway.turns import refused
from adk_chat.protocol.events import without_rewound
from adk_chat.protocol.frontend import origin_of
from adk_chat.protocol.json import Json
from adk_chat.protocol.paging import newest_first
from adk_chat.protocol.sessions import GetHistory, GetSession
from adk_chat.protocol.turn_id import TurnId, TurnKey
from adk_chat.sessions.client import IngressClient

_MOST_PAGES = 3
"""How many pages of events are searched for a message of the frontend."""
_HIDDEN = ("temp:", "__session_metadata__")


@dataclass(frozen=True)
class Call:
    """A call of a tool, and the ADK invocation in which it was made."""

    id: str
    name: str
    invocation_id: str


class Thread:
    """A thread.

    Args:
        key: of its session.
        state: its state; None if it does not exist yet.
        events: its newest events, oldest first.
    """

    def __init__(self, key: TurnKey, state: Json | None, events: list[Json]) -> None:
        self.key = key
        self.exists = state is not None
        self.state = shown_state(state or {})
        self.events = without_rewound(
            events,
            lambda event: event.get("invocationId", ""),
            lambda event: event.get("actions", {}).get("rewindBeforeInvocationId"),
        )

    @cached_property
    def message_ids(self) -> set[str]:
        """The ids of the messages that are stored, and of the events."""
        return _ids(self.events)

    @cached_property
    def calls(self) -> dict[str, Call]:
        """The calls of tools, by id."""
        return {
            call["id"]: Call(call["id"], call.get("name", ""), event.get("invocationId", ""))
            for event in self.events
            for call in _of(event, "functionCall")
            if call.get("id") and question_of(call, "") is None
        }

    @cached_property
    def answered(self) -> set[str]:
        """The ids of the calls that are answered."""
        return {
            response["id"]
            for event in self.events
            if not is_put_off(event)
            for response in _of(event, "functionResponse")
            if response.get("id")
        }

    @cached_property
    def questions(self) -> dict[str, Question]:
        """The questions that the user has not answered, by id."""
        found: dict[str, Question] = {}
        for event in self.events:
            note_questions(found, event)
        return found

    def turns(self, run_id: str) -> list[TurnId]:
        """Returns the turns of a run, if they have stored something."""
        origins = [origin_of(event.get("customMetadata")) for event in self.events if is_of_user(event)]
        turns = [one.turn for one in origins if one is not None and one.run_id == run_id]
        return [TurnId(invocation_id=turn, key=self.key) for turn in dict.fromkeys(turns)]

    def messages_sent(self, turn_ids: Collection[TurnId]) -> set[str]:
        """Returns the ids of the frontend's messages that some turns stored."""
        origins = [origin_of(event.get("customMetadata")) for event in self.events if is_of_user(event)]
        turns = {turn.invocation_id for turn in turn_ids}
        return {message.id for one in origins if one is not None and one.turn in turns for message in one.messages}

    def before(self, turn_ids: Collection[TurnId]) -> list[Json]:
        """Returns the messages before what the agents said in some turns."""
        return messages_of(
            event for event in self.events if is_of_user(event) or not any(turn.owns(event) for turn in turn_ids)
        )

    @property
    def pending(self) -> list[str]:
        """The ids of the tool calls that wait for an answer."""
        waiting = [call for event in self.events for call in event.get("longRunningToolIds", [])]
        return [call for call in dict.fromkeys(waiting) if call in self.calls and call not in self.answered]

    @property
    def messages(self) -> list[Json]:
        """The messages."""
        return messages_of(self.events)


class Threads:
    """Reads threads.

    Args:
        chat: calls the handlers of Chat.
    """

    def __init__(self, chat: IngressClient) -> None:
        self._chat = chat

    async def read(self, key: TurnKey, known: Collection[str] | None = None, wanted: Collection[str] = ()) -> Thread:
        """Returns a thread.

        Args:
            key: of its session.
            known: ids of messages that the frontend knows to be stored. Pages of events before one of them are left
                out; None for all events.
            wanted: ids of calls whose events are not left out, if they are stored.

        Raises:
            RefusedError: if it cannot be read.
        """
        session = GetSession(app_name=key.app_name, session_id=key.session_id, num_recent_events=0)
        with refused():
            found, events = await asyncio.gather(
                self._chat.call("get_session", key.user_id, session), self._events(key, known, set(wanted))
            )
        return Thread(key, None if found is None else found["state"], events)

    async def _events(self, key: TurnKey, known: Collection[str] | None, wanted: set[str]) -> list[Json]:
        found: list[Json] = []
        pages_read = 0

        async def page(limit: int, before: str | None) -> list[Json]:
            request = GetHistory(app_name=key.app_name, session_id=key.session_id, limit=limit, before=before)
            events: list[Json] = await self._chat.call("get_history", key.user_id, request)
            return events

        with suppress(SessionNotFoundError):
            async with aclosing(newest_first(page)) as pages:
                async for events in pages:
                    found = events + found
                    if known is None:
                        continue
                    pages_read += 1
                    ids = _ids(events)
                    wanted -= ids
                    # Turn checks all events. This is only to know what to show.
                    if not wanted and (pages_read >= _MOST_PAGES or not ids.isdisjoint(known)):
                        break
        return found


def shown_state(state: Json) -> Json:
    """Returns the state as a frontend sees it."""
    return {name: value for name, value in state.items() if not name.startswith(_HIDDEN)}


def note_questions(found: dict[str, Question], event: Json) -> None:
    """Adds the questions in an event to those that are open, and removes those that it answers."""
    for response in _of(event, "functionResponse"):
        found.pop(response.get("id", ""), None)
    for call in _of(event, "functionCall"):
        if (question := question_of(call, event.get("invocationId", ""))) is not None:
            found[question.id] = question


def is_put_off(event: Json) -> bool:
    """Returns whether the responses in an event only say that the user has not answered yet."""
    origin = origin_of(event.get("customMetadata")) if is_of_user(event) else None
    return origin is not None and origin.pending


def _ids(events: list[Json]) -> set[str]:
    """Returns the ids of events, of the frontend's messages in them, and of the calls that they make."""
    found = {str(event["id"]) for event in events}
    for event in events:
        found |= {call["id"] for call in _of(event, "functionCall") if call.get("id")}
        if (origin := origin_of(event.get("customMetadata"))) is not None:
            found |= {message.id for message in origin.messages}
    return found


def _of(event: Json, kind: str) -> list[Any]:
    return [part[kind] for part in event.get("content", {}).get("parts") or [] if kind in part]
