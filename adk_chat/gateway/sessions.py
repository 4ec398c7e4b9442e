"""The session service of the gateway."""

import copy
from collections.abc import Collection
from typing import Any

from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.sessions.session import Session
from typing_extensions import override

from adk_chat.sessions import RestateSessionService
from adk_chat.sessions.contract import StoredSession
from adk_chat.sessions.transport import AnswerError

_ATTEMPTS = 8


class GatewaySessions(RestateSessionService):
    """What ADK's server appends, state edits and imported events, holds whatever a turn has said in between.

    Args:
        apps: those whose sessions can be created.
        where: the arguments of `RestateSessionService`.
    """

    def __init__(self, apps: Collection[str], *where: Any, **more: Any) -> None:
        super().__init__(*where, **more)
        self._apps = apps

    @override
    async def create_session(self, *, app_name: str, **arguments: Any) -> Session:
        if app_name not in self._apps:
            raise AnswerError(404, f"There is no app {app_name} here; there is {', '.join(self._apps)}.")
        return await super().create_session(app_name=app_name, **arguments)

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
