"""The session service of a running turn: its own session is at hand, and what is appended goes to Chat in batches."""

from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.sessions.session import Session
from pydantic_core import from_json, to_json
from typing_extensions import override

from adk_chat.durable import Journal
from adk_chat.objects.cancellation import Cancellation
from adk_chat.objects.live import LiveTurn
from adk_chat.objects.outbox import MUCH, Outbox
from adk_chat.objects.requests import TurnRequest
from adk_chat.sessions import RestateSessionService
from adk_chat.sessions.contract import MAX_STATE_BYTES, Json, StoredSession, event_json, sized
from adk_chat.sessions.store import ScopedState, merged, taken_away, without_temp
from adk_chat.sessions.turn_id import TurnKey


class TurnSessions(RestateSessionService):
    """ADK's session service for one turn; what is appended to its own session goes into an `Outbox`."""

    def __init__(
        self,
        journal: Journal,
        key: TurnKey,
        request: TurnRequest,
        outbox: Outbox,
        live: LiveTurn | None,
        cancellation: Cancellation,
    ) -> None:
        super().__init__()
        self._journal = journal
        self._key = key
        self._request = request
        self._live = live
        self._outbox = outbox
        self._cancellation = cancellation
        self.session = self._load(request)
        self._before = to_json(self.session.state)
        self._state_bytes = len(self._before)
        self.events: list[Event] = []
        """What this turn has brought forth."""
        self.new: set[str] = set()
        """The ids of those that no attempt before this one has."""

    def _load(self, request: TurnRequest) -> StoredSession:
        if request.session is not None:
            return StoredSession.parse(request.session)
        return StoredSession(
            id=self._key.session_id,
            app_name=self._key.app_name,
            user_id=self._key.user_id,
            state=merged({}, request.user_state, request.app_state),
            last_update_time=self._journal.time(),
        )

    @property
    def before(self) -> Json:
        """The state that the turn found."""
        state: Json = from_json(self._before)
        return state

    @override
    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        if (app_name, user_id, session_id) == (self._key.app_name, self._key.user_id, self._key.session_id):
            return self.session
        return await super().get_session(app_name=app_name, user_id=user_id, session_id=session_id, config=config)

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        if event.partial or session is not self.session:
            return await super().append_event(session, event)
        await self.keep_cut_off()
        return await self.add(event)

    async def keep_cut_off(self) -> None:
        """Append what models had said of the answers that a cancellation has cut off, unless that is done."""
        for answer in self._cancellation.cut_off():
            await self.add(answer)

    async def add(self, event: Event) -> Event:
        """Append an event to the session of the turn, whatever was cut off."""
        if self._journal.pump.over is not None:
            raise self._journal.pump.over
        dumped = without_temp(event_json(event))
        sent = self._outbox.sent_before(event, dumped)
        if sent:
            dumped = without_temp(event_json(event))
        # Such an event, what is kept back and the reply fit into one message.
        size = len(sized(to_json(dumped), f"An event of {event.author}", 2 * MUCH))
        self._limit_state(event, size)
        event = await BaseSessionService.append_event(self, self.session, event)
        for key in taken_away(dumped.get("actions", {})):
            self.session.state.pop(key, None)
        self.session.last_update_time = event.timestamp
        self.events.append(event)
        if not sent:
            self._outbox.add(dumped, size)
            self.new.add(event.id)
            if Journal.current() is None:  # in a step of a tool, which a replay does not run again
                self._outbox.flush()
        if self._live is not None:
            self._live.appended(dumped)
        return event

    def _limit_state(self, event: Event, size: int) -> None:
        """Refuse here what Chat would, so that the turn can store that it failed."""
        if not event.actions.state_delta:
            return
        self._state_bytes += size  # at most; what it takes exactly is asked only if that might be too much
        if self._state_bytes > MAX_STATE_BYTES:
            state = ScopedState({**self.session.state, **event.actions.state_delta})
            for scope in (state.session, state.user, state.app):
                sized(to_json(scope), f"The state with that of an event of {event.author}", MAX_STATE_BYTES)
