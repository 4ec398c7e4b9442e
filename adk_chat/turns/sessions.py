"""The session service of a running turn: it has the turn's session, and sends appended events to Chat in batches."""

import sys
from collections.abc import Callable, Sequence
from types import FrameType

from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig, ListSessionsResponse
from google.adk.sessions.session import Session
from pydantic_core import from_json, to_json
from typing_extensions import override

from adk_chat.durable import Journal
from adk_chat.durable.adk.state import RecordedState, at_once, known
from adk_chat.protocol.errors import BadRequestError
from adk_chat.protocol.events import APPENDED, event_json, unmarked
from adk_chat.protocol.json import Json
from adk_chat.protocol.limits import MAX_STATE_BYTES, shallow, sized
from adk_chat.protocol.paging import within
from adk_chat.protocol.turn_id import TurnKey
from adk_chat.sessions import RestateSessionService
from adk_chat.sessions.client import ChatClient, ContextClient, handler_context
from adk_chat.sessions.store import ScopedState, taken_away, without_temp
from adk_chat.sessions.stored import StoredSession
from adk_chat.turns.cancellation import Cancellation
from adk_chat.turns.outbox import MAX_EVENT_BYTES, Outbox
from adk_chat.turns.publisher import Publisher


class TurnSessions(RestateSessionService):
    """ADK's session service for one turn. Events appended to its own session go into an `Outbox`.

    Args:
        journal: of the attempt.
        key: of the turn.
        session: the session that the turn found.
        outbox: where events go.
        live: who may be watching.
        cancellation: of the turn.
        outside: reads and writes other sessions, those of all users included, inside a tool's step, where nothing can
            be journaled.
        whole: whether `session` has all of its events.
        mark: called with each event that is appended, to note in its metadata what of it is a frontend's.
    """

    def __init__(
        self,
        journal: Journal,
        key: TurnKey,
        session: StoredSession,
        outbox: Outbox,
        live: Publisher | None,
        cancellation: Cancellation,
        outside: RestateSessionService,
        *,
        whole: bool,
        mark: Callable[[Event], None] | None = None,
    ) -> None:
        super().__init__()
        self._outside = outside
        self._journal = journal
        self._key = key
        self._live = live
        self._outbox = outbox
        self._cancellation = cancellation
        self.session = session
        self.session.state = RecordedState(self.session.state)
        self._before = to_json(self.session.state)
        self._state_bytes = len(self._before)
        self._whole = whole
        self._mark = mark
        self._is_given_out = False
        self._actions: list[Json] = []
        """The actions of `events`, as stored."""
        self.events: list[Event] = []
        """The events of this turn."""
        self.new: set[str] = set()
        """Ids of the events that no earlier attempt had."""

    @property
    def before(self) -> Json:
        """The state that the turn found."""
        state: Json = from_json(self._before)
        return state

    @override
    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """As in ADK. Of the turn's own session it returns a copy with everything that is stored or being sent.

        State that code has only assigned is not in it. The first caller is ADK's Runner, which gets the session of the
        turn itself.
        """
        if not self._is_own(app_name, user_id, session_id):
            return await super().get_session(app_name=app_name, user_id=user_id, session_id=session_id, config=config)
        if not self._is_given_out:
            self._is_given_out = True
            return self.session
        config = config or GetSessionConfig()
        here = self.session.events
        if not self._whole and (config.num_recent_events is None or config.num_recent_events > len(here)):
            stored = await super().get_session(app_name=app_name, user_id=user_id, session_id=session_id)
            before = stored.events if stored is not None else []
            of_turn = {event.id for event in self.events}
            here = [*(event for event in before if event.id not in of_turn), *self.events]
        return self._stored(within(here, config.num_recent_events, config.after_timestamp))

    @override
    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """As in ADK. The turn's own session is listed as it is here, since its events may not be stored yet."""
        listed = (await super().list_sessions(app_name=app_name, user_id=user_id)).sessions
        if app_name == self._key.app_name and user_id in (None, self._key.user_id):
            listed = [one for one in listed if not self._is_own(one.app_name, one.user_id, one.id)]
            listed.append(self._stored([]))
        return ListSessionsResponse(sessions=listed)

    def _stored(self, events: Sequence[Event]) -> Session:
        """Returns the turn's session with these events, as it is or will be stored."""
        state: Json = from_json(self._before)
        for actions in self._actions:
            state.update(actions.get("stateDelta", {}))
            for key in taken_away(actions):
                state.pop(key, None)
        return Session(
            id=self._key.session_id,
            app_name=self._key.app_name,
            user_id=self._key.user_id,
            state=state,
            events=[event.model_copy(deep=True) for event in events],
            last_update_time=self.session.last_update_time,
        )

    def _is_own(self, *of: str) -> bool:
        return of == (self._key.app_name, self._key.user_id, self._key.session_id)

    @override
    def _client(self) -> ChatClient:
        context = handler_context()
        return self._outside._client() if context is None else ContextClient(context)

    @override
    async def _users(self) -> list[str]:
        return await self._outside._users()

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        own = session is self.session or self._is_own(session.app_name, session.user_id, session.id)
        if event.partial or not own:
            return await super().append_event(session, event)
        unmarked(event)
        if not _is_of_adk(sys._getframe(1)):
            event.custom_metadata = {**(event.custom_metadata or {}), APPENDED: True}
        if self._mark is not None:
            self._mark(event)
        await self.keep_cut_off()
        added = await self.add(event)
        if session is not self.session:  # a copy that the agent's code holds
            await BaseSessionService.append_event(self, session, added)
        return added

    async def keep_cut_off(self) -> None:
        """Appends the answers that a cancellation interrupted, unless that is done."""
        for answer in self._cancellation.cut_off():
            await self.add(answer)

    async def add_left(self) -> None:
        """Adds what earlier attempts sent, and is stored, and this cancelled one did not reach."""
        for left in self._outbox.left():
            await self._append(Event.model_validate(left), left)

    async def add(self, event: Event) -> Event:
        """Appends an event to the session of the turn, after any interrupted answers."""
        if self._journal.pump.over is not None:
            raise self._journal.pump.over
        of_tool = Journal.current() is None  # inside a step, which a replay does not run again
        dumped = without_temp(event_json(event))
        for left in [] if of_tool else self._outbox.left_by_tools(dumped):
            await self._append(Event.model_validate(left), left)
        sent = self._outbox.sent_before(event, dumped, of_tool=of_tool)
        if sent or event.id != dumped["id"]:
            dumped = without_temp(event_json(event))
        data = sized(_json(dumped, event.author), f"An event of {event.author}", MAX_EVENT_BYTES)
        shallow(dumped, data, f"An event of {event.author}")
        size = len(data)
        self._limit_state(event, size)
        await self._append(event, dumped)
        if not sent:
            if of_tool:
                self._outbox.flush()
            self._outbox.add(dumped, size)
            self.new.add(event.id)
            if of_tool:
                self._outbox.flush(of_tool=True)
        return event

    async def _append(self, event: Event, dumped: Json) -> None:
        with known():
            at_once(BaseSessionService.append_event(self, self.session, event))
        for key in taken_away(dumped.get("actions", {})):
            self.session.state.pop(key, None)
        self.session.last_update_time = event.timestamp
        self.events.append(event)
        self._actions.append(dumped.get("actions", {}))
        if self._live is not None:
            self._live.appended(dumped)

    def _limit_state(self, event: Event, size: int) -> None:
        """Refuses here what Chat would refuse, so that the turn can store its failure."""
        if not event.actions.state_delta:
            return
        self._state_bytes += size  # an upper bound; the exact size is computed only if this is too much
        if self._state_bytes > MAX_STATE_BYTES:
            state = ScopedState({**self.session.state, **event.actions.state_delta})
            for scope in (state.session, state.user, state.app):
                sized(to_json(scope), f"The state with that of an event of {event.author}", MAX_STATE_BYTES)


def _is_of_adk(caller: FrameType) -> bool:
    """Returns whether ADK appends the event, which its Runner then yields, rather than code of an agent."""
    return str(caller.f_globals.get("__name__")).startswith("google.adk.")


def _json(event: Json, author: str) -> bytes:
    try:
        return to_json(event)
    except ValueError as error:  # half a character, most likely
        raise BadRequestError(f"An event of {author} cannot be stored: {error}") from error
