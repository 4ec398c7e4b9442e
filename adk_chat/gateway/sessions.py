"""The session service of the gateway."""

import copy

from google.adk.errors import StaleSessionError
from google.adk.events.event import Event
from google.adk.sessions.session import Session
from typing_extensions import override

from adk_chat.sessions import RestateSessionService
from adk_chat.sessions.contract import StoredSession

_ATTEMPTS = 8


class GatewaySessions(RestateSessionService):
    """What ADK's server appends, state edits and imported events, holds whatever a turn has said in between."""

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
