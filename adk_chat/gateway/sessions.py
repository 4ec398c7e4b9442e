"""The session service of the gateway."""

import copy
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from google.adk.artifacts.base_artifact_service import BaseArtifactService
from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.sessions.session import Session
from typing_extensions import override

from adk_chat.protocol.errors import AnswerError
from adk_chat.protocol.sessions import CreateSession
from adk_chat.restate_api import AdminApi
from adk_chat.sessions import RestateSessionService
from adk_chat.sessions.artifacts import delete_artifacts
from adk_chat.sessions.client import IngressClient
from adk_chat.sessions.stored import StoredSession

_ATTEMPTS = 8
_beginning: ContextVar[Sequence[Event]] = ContextVar("beginning", default=())


class GatewaySessions(RestateSessionService):
    """ADK's server edits state and imports events through it. Such an edit never fails because a turn came in between.

    Args:
        apps: the apps whose sessions can be created.
        chat: calls the handlers of Chat.
        admin: Restate's admin API, if it is known.
        own_artifacts: an artifact service that the handlers cannot reach. Deleting a session clears it here.
    """

    def __init__(
        self,
        apps: Collection[str],
        chat: IngressClient,
        admin: AdminApi | None,
        own_artifacts: BaseArtifactService | None = None,
    ) -> None:
        super().__init__()
        self._apps = apps
        self._own_artifacts = own_artifacts
        self._ingress = chat
        self._admin = admin

    @contextmanager
    def beginning_with(self, events: Sequence[Event]) -> Iterator[None]:
        """Makes the session that is created within the context start with these events."""
        token = _beginning.set(events)
        try:
            yield
        finally:
            _beginning.reset(token)

    @override
    async def _create(self, user_id: str, request: CreateSession, events: Sequence[Event] = ()) -> Session:
        if request.app_name not in self._apps:
            raise AnswerError(404, f"There is no app {request.app_name}. The apps are: {', '.join(self._apps)}.")
        return await super()._create(user_id, request, events or _beginning.get())

    @override
    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        await super().delete_session(app_name=app_name, user_id=user_id, session_id=session_id)
        if self._own_artifacts is not None:
            await delete_artifacts(self._own_artifacts, app_name, user_id, session_id)

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        for _ in range(_ATTEMPTS - 1):
            try:
                return await super().append_event(session, copy.deepcopy(event))
            except StaleSessionError:
                await self._read_again(session)
        return await super().append_event(session, event)

    async def _read_again(self, session: Session) -> None:
        current = await self.get_session(app_name=session.app_name, user_id=session.user_id, session_id=session.id)
        if isinstance(current, StoredSession) and isinstance(session, StoredSession) and current.revision is not None:
            session.state, session.events = current.state, current.events
            session.last_update_time, session.revision = current.last_update_time, current.revision
