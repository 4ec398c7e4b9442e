"""The session service of a running turn: its own session is at hand, and what is appended goes to Chat in batches."""

from collections.abc import Awaitable, Callable
from itertools import accumulate

import restate
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig
from google.adk.sessions.session import Session
from pydantic_core import from_json, to_json
from restate.serde import BytesSerde
from typing_extensions import override

from adk_chat.durable import Journal
from adk_chat.objects.live import LiveTurn
from adk_chat.objects.requests import Reply, TurnEvents, TurnRequest
from adk_chat.sessions import RestateSessionService
from adk_chat.sessions.contract import CHAT, MAX_STATE_BYTES, Json, StoredSession, event_json, sized
from adk_chat.sessions.service import adopt
from adk_chat.sessions.store import ScopedState, merged, without_temp
from adk_chat.sessions.turn_id import TurnKey

_MUCH = 4 * 1024 * 1024  # of events go into one batch, or one event that is larger
CANCELLED = 409
"""The status with which the SDK tells a handler that its Restate invocation is cancelled."""


class TurnSessions(RestateSessionService):
    """ADK's session service for one turn.

    Events of the turn's session are kept back while nothing is waited for, and sent when a step turns out to be slow
    and at the end; where somebody may be watching, as soon as a step begins. Each batch is journaled before it is sent:
    what an agent's own code put into an event may differ on a replay, what is stored does not.
    """

    def __init__(
        self,
        context: restate.ObjectContext,
        journal: Journal,
        key: TurnKey,
        request: TurnRequest,
        live: LiveTurn | None,
    ) -> None:
        super().__init__()
        self._context = context
        self._journal = journal
        self._key = key
        self._request = request
        self._live = live
        self._refused: restate.TerminalError | None = None
        self._pending: list[tuple[Event, bytes]] = []
        self._batching = False
        self._create = request.session is None
        self.session = self._load(request)
        self.batches = request.batches
        """How often the turns of this session have sent events to Chat."""
        self._before = to_json(self.session.state)
        self._state_bytes = len(self._before)
        self.events: list[Event] = []
        """What this turn has brought forth."""
        self.before_append: Callable[[], Awaitable[None]] | None = None
        """Awaited before the next event is appended, if it is set; it may append events itself."""

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
        if self.before_append is not None:
            before, self.before_append = self.before_append, None
            await before()
        dumped = without_temp(event_json(event))
        # Such an event, what is kept back and the reply fit into one message.
        data = sized(to_json(dumped), f"An event of {event.author}", 2 * _MUCH)
        self._limit_state(event, len(data))
        event = await BaseSessionService.append_event(self, session, event)
        session.last_update_time = event.timestamp
        self._pending.append((event, data))
        self.events.append(event)
        if self._live is None:
            self._journal.on_slow_step = self.send
        else:
            self._live.appended(dumped)
            self._journal.before_step = self.send
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

    async def send(self) -> None:
        """Send what is pending on its way to Chat."""
        while self._pending and (batch := await self._batch()) is not None:
            self._send(batch)

    async def store(self, reply: Reply | None = None) -> None:
        """Store what is pending, and with it all that was sent before.

        Args:
            reply: sent along for Chat to give to who waits for it, once all is stored; this then waits for nothing,
                unless somebody may be watching.

        Raises:
            restate.TerminalError: 404, the session was deleted while the turn ran.
        """
        batch = await self._batch(reply)
        while batch is not None and self._pending:
            self._send(batch)
            batch = await self._batch(reply)
        if self._live is not None:
            if batch is not None:
                self._send(batch)
            await self._journal.settle()
            if self._refused is not None:
                raise self._refused
        elif reply is not None and batch is not None:
            self._send(batch)
        elif batch is not None:
            await self._call(batch)

    async def _call(self, batch: TurnEvents) -> None:
        body = _json(batch)
        try:
            await self._context.generic_call(CHAT, "append_turn", body, key=self._key.user_id)
        except restate.TerminalError as error:
            if error.status_code == CANCELLED:
                # The cancellation reached the append as well, or did not; a batch that comes twice is stored once.
                self._context.generic_send(CHAT, "append_turn", body, key=self._key.user_id)
            raise

    def _send(self, batch: TurnEvents) -> None:
        """Send a batch. Where somebody may be watching, Chat confirms it; a call would be cancelled with the turn."""
        if self._live is not None:
            batch.confirm_to, confirmed = self._context.awakeable(serde=BytesSerde())

            async def then() -> None:
                try:
                    await confirmed
                except restate.TerminalError as error:
                    self._refused = self._refused or error
                else:
                    live.stored(batch.events)

            live = self._live
            self._journal.watch(confirmed, then)
        self._context.generic_send(CHAT, "append_turn", _json(batch), key=self._key.user_id)

    async def _batch(self, reply: Reply | None = None) -> TurnEvents | None:
        """The next events to send, the last of them with the reply; None where there are none, or another is at it."""
        if self._batching or (not self._pending and reply is None):
            return None
        sizes = accumulate(len(data) for _, data in self._pending)
        count = max(1, sum(size <= _MUCH for size in sizes))
        data = b"[" + b",".join(data for _, data in self._pending[:count]) + b"]"
        # A strand of the agent that runs in parallel may be cancelled here; what was pending still is then.
        self._batching = True
        try:
            recorded = await self._journal.record("events", lambda: data)
        finally:
            self._batching = False
        # How many there are is as it was journaled, too.
        stored: list[Json] = from_json(recorded)
        sent, self._pending = self._pending[: len(stored)], self._pending[len(stored) :]
        if not self._pending:
            self._journal.on_slow_step = self._journal.before_step = None
        for (event, _), as_stored in zip(sent, stored, strict=True):
            if recorded != data:
                adopt(event, as_stored)
            self._journal.advance(event.timestamp)
        self.batches += 1
        batch = TurnEvents(
            app_name=self._key.app_name,
            session_id=self._key.session_id,
            events=stored,
            batch=self.batches,
            create=self._create,
            created=self._request.created,
            index_page=self._request.index_page,
            first_session=self._request.first_session,
            reply=None if self._pending else reply,
        )
        self._create = False
        return batch


def _json(batch: TurnEvents) -> bytes:
    return batch.model_dump_json(exclude_none=True, exclude_defaults=True).encode()
