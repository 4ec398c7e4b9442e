"""`RestateSessionService`: ADK's session service as a client of Chat."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig, ListSessionsResponse
from google.adk.sessions.session import Session
from google.adk.sessions.state import State
from typing_extensions import override

from adk_chat.protocol.errors import AnswerError, TooLargeError
from adk_chat.protocol.events import event_json, in_time
from adk_chat.protocol.json import Json, json_safe
from adk_chat.protocol.limits import limited
from adk_chat.protocol.paging import newest_first
from adk_chat.protocol.sessions import (
    CHAT,
    AppendEvents,
    CreateSession,
    GetHistory,
    GetSession,
    Request,
    SessionRequest,
)
from adk_chat.restate_api import AdminApi, AdminError, Ingress
from adk_chat.sessions.client import ChatClient, ContextClient, IngressClient, handler_context
from adk_chat.sessions.store import taken_away
from adk_chat.sessions.stored import StoredSession

logger = logging.getLogger(__name__)

_DAMAGED = 500
"""The status of an answer about stored data that cannot be read."""


class RestateSessionService(BaseSessionService):
    """ADK's session service, with all sessions stored by the virtual object `Chat` of adk_chat.

    Inside a Restate handler it calls Chat through the handler's context, so every call is journaled. Anywhere else it
    calls through the ingress, so any ADK program can use it. What a method has written is durable when it returns.

    Its methods raise ADK's exceptions, `BadRequestError`, `TooLargeError`, and `NoAnswerError` if Restate does not
    answer.

    Args:
        ingress_url: Restate's ingress, such as "http://localhost:8080", or several separated by commas. Not needed
            inside handlers.
        admin_url: Restate's admin API, such as "http://localhost:9070". Only `list_sessions` without a user needs it.
        headers: sent with every request to either, as for Restate Cloud.
    """

    def __init__(
        self,
        ingress_url: str | None = None,
        *,
        admin_url: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._ingress = IngressClient(Ingress(ingress_url, headers)) if ingress_url else None
        self._admin = AdminApi(admin_url, headers) if admin_url else None

    @override
    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        request = CreateSession(app_name=app_name, session_id=session_id, state=json_safe(state or {}), any_app=True)
        return await self._create(user_id, request)

    async def import_session(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        state: dict[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Creates a session that starts with these events, in one write: all of it is stored, or nothing.

        Raises:
            AlreadyExistsError: if the user has a session with that id in this app.
            TooLargeError: if it takes more than 24 MiB as JSON.
            BadRequestError: if there are more than 20,000 events. Append the rest afterwards.
        """
        request = CreateSession(app_name=app_name, session_id=session_id, state=json_safe(state or {}), any_app=True)
        return await self._create(user_id, request, events)

    async def _create(self, user_id: str, request: CreateSession, events: Sequence[Event] = ()) -> Session:
        if not events:
            return StoredSession.parse(await self._client().call("create_session", user_id, request))
        limited(events)
        request.events = [_without_temp(in_time(event)) for event in events if not event.partial]
        answer, stored = await self._client().write("create_session", user_id, request)
        return StoredSession.parse({**answer, "events": stored})

    @override
    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        if not session_id.strip():
            return None
        config = config or GetSessionConfig()
        request = GetSession(
            app_name=app_name,
            session_id=session_id,
            num_recent_events=config.num_recent_events,
            after_timestamp=config.after_timestamp,
        )
        call = self._client().call
        try:
            answer = await call("get_session", user_id, request)
        except TooLargeError:
            answer = await call("get_session", user_id, request.model_copy(update={"num_recent_events": 0}))
            answer["events"] = await self._events(user_id, request)
        return None if answer is None else StoredSession.parse(answer)

    async def _events(self, user_id: str, request: GetSession) -> list[Json]:
        """Returns events that do not fit into one answer."""

        async def page(limit: int, before: str | None) -> list[Json]:
            part = GetHistory(
                app_name=request.app_name,
                session_id=request.session_id,
                limit=limit,
                before=before,
                after_timestamp=request.after_timestamp,
            )
            events: list[Json] = await self._client().call("get_history", user_id, part)
            return events

        found: list[Json] = []
        async with aclosing(newest_first(page)) as pages:
            async for events in pages:
                found = events + found
                if request.num_recent_events is not None and len(found) >= request.num_recent_events:
                    return found[-request.num_recent_events :]
        return found

    @override
    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        users = [user_id] if user_id is not None else await self._users()
        sessions: list[Session] = []
        for user in users:
            try:
                answer = await self._client().call("list_sessions", user, Request(app_name=app_name))
            except AnswerError as error:
                if user_id is not None or error.status != _DAMAGED:
                    raise
                logger.error("The sessions of user %r are missing from the list: %s", user, error)
                continue
            sessions += [Session.model_validate(session) for session in answer["sessions"]]
        sessions.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=sessions)

    @override
    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        if session_id.strip():
            request = SessionRequest(app_name=app_name, session_id=session_id)
            await self._client().call("delete_session", user_id, request)

    @override
    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        state: Json = await self._client().call("get_user_state", user_id, Request(app_name=app_name))
        return state

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        if event.partial:
            return event
        revision = session.revision if isinstance(session, StoredSession) else None
        request = AppendEvents(
            app_name=session.app_name,
            session_id=session.id,
            events=[_without_temp(in_time(event))],
            revision=revision,
            last_update_time=session.last_update_time if revision is None else None,
        )
        appended, (stored,) = await self._client().write("append_events", session.user_id, request)
        if appended["stored"]:
            adopt(event, stored)
            await super().append_event(session, event)
            for key in taken_away(stored.get("actions", {})):
                session.state.pop(key, None)
            session.last_update_time = appended["last_update_time"]
            if isinstance(session, StoredSession):
                session.revision = appended["revision"]
        return event

    async def close(self) -> None:
        """Closes the connections of the running event loop. A later call opens new ones."""
        if self._ingress is not None:
            await self._ingress.close()
        if self._admin is not None:
            await self._admin.close()

    def _client(self) -> ChatClient:
        context = handler_context()
        if context is not None:
            return ContextClient(context)
        if self._ingress is None:
            raise RuntimeError(
                "RestateSessionService() was used outside a Restate handler, or in a tool's step. "
                'Give it the ingress URL: RestateSessionService("http://localhost:8080").'
            )
        return self._ingress

    async def _users(self) -> list[str]:
        if self._admin is None:
            raise ValueError(
                "list_sessions without a user needs Restate's admin API. Give the session service its URL: "
                'RestateSessionService(..., admin_url="http://localhost:9070").'
            )
        query = f"SELECT DISTINCT service_key FROM state WHERE service_name = '{CHAT}' AND key LIKE 'session_%'"
        try:
            rows = await self._admin.query(query)
        except AdminError as error:
            raise AnswerError(error.status, str(error)) from error
        return sorted(row["service_key"] for row in rows)


def _without_temp(event: Event) -> Event:
    delta = {k: v for k, v in event.actions.state_delta.items() if not k.startswith(State.TEMP_PREFIX)}
    return event.model_copy(update={"actions": event.actions.model_copy(update={"state_delta": delta})})


def adopt(event: Event, stored: Json) -> None:
    """Makes `event` equal to its stored form, which a replay may have made differently."""
    if event_json(event) == stored:
        return
    temp = {k: v for k, v in event.actions.state_delta.items() if k.startswith(State.TEMP_PREFIX)}
    kept = Event.model_validate(stored)
    kept.actions.state_delta.update(temp)
    for name in Event.model_fields:
        setattr(event, name, getattr(kept, name))
