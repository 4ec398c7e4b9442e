"""The events that a turn starts from. A process caches parsed sessions, and reads only what is missing.

Stored events never change, so the first n events of a session are the same everywhere. The journal notes which of them
were cached, not what they are; a replay in a process that lacks them asks Chat for the same ones.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

import restate
from google.adk.events.event import Event
from pydantic import BaseModel
from pydantic_core import from_json, to_json

from adk_chat.objects.calls import ask
from adk_chat.protocol.json import Json
from adk_chat.protocol.limits import HISTORY_BYTES
from adk_chat.protocol.paging import within
from adk_chat.protocol.sessions import CHAT
from adk_chat.protocol.turn_id import TurnKey
from adk_chat.protocol.turns import LoadedSession, LoadSession, SessionHead, TurnRequest
from adk_chat.sessions.client import request_json
from adk_chat.turns.copier import Copier
from adk_chat.turns.outbox import Outbox

_EVENT_BYTES = 4 * 1024
RECENT_EVENTS = 200
"""How many events are checked for what a killed turn left."""


class Stored:
    """A stored event, parsed from its JSON."""

    __slots__ = ("copier", "size", "timestamp")

    def __init__(self, event: Json) -> None:
        parsed = Event.model_validate(event)
        self.copier = Copier(parsed)
        self.size = len(to_json(event))
        """Bytes of its JSON."""
        self.timestamp = parsed.timestamp


@dataclass
class Events:
    """Consecutive events of a session, starting at the given number."""

    first: int = 0
    events: list[Stored] = field(default_factory=list)

    @cached_property
    def size(self) -> int:
        """Bytes of their JSON."""
        return sum(event.size for event in self.events)

    @property
    def until(self) -> int:
        """The number after the last event here."""
        return self.first + len(self.events)

    def part(self, first: int, until: int) -> "Events":
        """Returns the events from one number up to another."""
        return Events(max(first, self.first), self.events[max(0, first - self.first) : max(0, until - self.first)])

    def with_stored(self, stored: list[Json]) -> "Events":
        """Returns these events followed by others."""
        return Events(self.first, self.events + [Stored(event) for event in stored])

    def within(self, most: int) -> "Events":
        """Returns the newest events that take no more than this many bytes, at least one."""
        size, first = self.size, 0
        while size > most and first < len(self.events) - 1:
            size -= self.events[first].size
            first += 1
        return self.part(self.first + first, self.until) if first else self


@dataclass
class Pending:
    """What a turn sent to be stored, and the session as it will be if nobody else writes to it."""

    revision: int
    count: int
    mark: str
    """Of the last batch. If this was lost, the attempt elsewhere drew another mark."""
    events: list[bytes]
    """As JSON, which takes a third of the memory. They are parsed when the session's next turn starts."""

    def is_in(self, head: SessionHead) -> bool:
        """Returns whether the session is in exactly this state."""
        return (self.revision, self.count, self.mark) == (head.revision, head.count, head.mark)


@dataclass
class Known:
    """What a process has cached of a session. It says nothing about a later session with the same id."""

    created: float
    events: Events
    whole: bool
    """Whether these are all the events that a turn could be shown."""
    pending: Pending | None = None

    @cached_property
    def size(self) -> int:
        """How many events they count as. A large event counts as several."""
        pending = self.pending.events if self.pending else []
        size = self.events.size + sum(map(len, pending))
        return len(self.events.events) + len(pending) + size // _EVENT_BYTES


class Have(BaseModel):
    """Which of a session's events a turn had cached: how many, from which number on."""

    first: int
    count: int


class SessionCache:
    """The most recently used sessions whose events this process has parsed.

    Args:
        most: how many events to keep. One takes about 4 KB; a larger one counts as several.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._events = 0

    def get(self, key: str, created: float | None) -> Known | None:
        """Returns what is cached of a session; nothing if another session has the same id."""
        known = self._known.get(key)
        if known is None or known.created != created:
            return None
        self._known.move_to_end(key)
        return known

    def at(self, key: str, head: SessionHead) -> Known | None:
        """Returns what is cached of a session in the state `head`, with what its last turn sent, if stored."""
        known = self.get(key, head.created)
        if known is None or known.pending is None:
            return known
        pending = known.pending
        events = known.events
        if pending.is_in(head):
            events = events.with_stored([from_json(event) for event in pending.events])
        known = Known(known.created, events, known.whole)
        self._put(key, known)
        return known

    def keep(self, key: str, known: Known) -> None:
        """Caches what was read, unless more of it is cached already."""
        kept, new = self.get(key, known.created), known.events
        more = kept is not None and kept.events.first <= new.first and kept.events.until >= new.until
        if kept is None or not more or known.whole > kept.whole:
            self._put(key, known)

    def expect(self, key: str, created: float, pending: Pending) -> None:
        """Caches what a turn sent, together with the events before it, until the session is read again."""
        before = self.get(key, created)
        if before is None and pending.count == len(pending.events):  # the session is new
            before = Known(created, Events(), whole=True)
        if before is not None and before.events.until == pending.count - len(pending.events):
            self._put(key, Known(created, before.events, before.whole, pending))

    def _put(self, key: str, known: Known) -> None:
        before = self._known.pop(key, None)
        self._events += known.size - (before.size if before else 0)
        self._known[key] = known
        while self._events > self._most and self._known:
            _, gone = self._known.popitem(last=False)
            self._events -= gone.size


class TurnHistory:
    """The events that one turn starts from.

    Args:
        key: of the turn.
        request: the turn to run.
        window: how many of the newest events the turn sees, and from which time on, if not all.
        cache: the sessions that this process has cached.
    """

    def __init__(
        self,
        key: TurnKey,
        request: TurnRequest,
        window: tuple[int | None, float | None],
        cache: SessionCache,
    ) -> None:
        self._key = key
        self._request = request
        self._last, self._after = window
        self._cache = cache

    def have(self) -> Have | None:
        """Returns what is cached now, to be noted before anything is journaled; None if it is of no use."""
        head = self._request.head
        known = self._cache.at(str(self._key), head)
        if known is None or not known.events.events or self._request.events is not None:
            return None
        events = known.events
        enough = known.whole or (self._last is not None and head.count - events.first >= self._last)
        if not enough and (self._after is None or events.events[0].timestamp >= self._after):
            return None
        return Have(first=events.first, count=len(events.events))

    async def read(
        self, ctx: restate.ObjectContext, have: Have | None, *, again: bool
    ) -> tuple[SessionHead, list[Event]]:
        """Returns the session without its events, and copies of the events that the turn sees.

        Args:
            ctx: the handler's context.
            have: what the first attempt had cached.
            again: whether the session has changed since Chat read it.

        Raises:
            restate.TerminalError: 404 if the session of the turn was deleted.
        """
        head, given = self._request.head, self._request.events
        if given is not None and not again:
            return head, self._shown(Events().with_stored(given))
        found = await self._had(ctx, have) if have is not None else Events()
        until = found.until if have is not None else 0
        if again or head.count > until:
            window = self._last, self._after
            loaded = await load(ctx, self._key, *window, until, created=head.created, deletions=head.deletions)
            fits = loaded.created == head.created and found.first <= loaded.first <= found.until
            found = found.part(0, loaded.first) if fits else Events(loaded.first)
            head, found = loaded, found.with_stored(loaded.events)
        else:
            found = found.part(0, head.count)
        kept = found.within(HISTORY_BYTES)
        if head.created is not None:
            all_wanted = self._last is None and self._after is None
            self._cache.keep(str(self._key), Known(head.created, kept, kept.first == 0 or all_wanted))
        return head, self._shown(kept)

    def expect(self, head: SessionHead, outbox: Outbox) -> None:
        """Caches the turn's events, which are stored or will be, for the next turn in this process."""
        events = outbox.events
        if not events or self._request.events is not None:
            return
        pending = Pending(
            revision=head.revision + outbox.batches - head.batches,
            count=head.count + len(events),
            mark=outbox.mark,
            events=[to_json(event) for event in events],
        )
        self._cache.expect(str(self._key), head.created or events[0]["timestamp"], pending)

    def _shown(self, found: Events) -> list[Event]:
        # The agent's code may change what it gets.
        return [event.copier.copy() for event in within(found.events, self._last, self._after)]

    async def _had(self, ctx: restate.ObjectContext, have: Have) -> Events:
        created, until = self._request.head.created, have.first + have.count
        known = self._cache.get(str(self._key), created)
        found = known.events.part(have.first, until) if known is not None else Events()
        if (found.first, found.until) != (have.first, until):
            # Another process had them cached. This is the first attempt in a process that has not.
            loaded = await load(ctx, self._key, have=have.first, until=until, created=created)
            found = Events(loaded.first).with_stored(loaded.events)
            if loaded.created != created or (found.first, found.until) != (have.first, until):
                raise restate.TerminalError(f"Session {self._key.session_id} was deleted while its turn ran.", 404)
        return found


async def load(
    ctx: restate.ObjectContext,
    key: TurnKey,
    last: int | None = None,
    after: float | None = None,
    have: int = 0,
    until: int | None = None,
    created: float | None = None,
    deletions: int | None = None,
) -> LoadedSession:
    """Loads a session from Chat, once everything sent before is stored.

    Args:
        ctx: the handler's context.
        key: of the turn.
        last: how many of the newest events to return, if not all.
        after: from which time on.
        have: how many of the first events to leave out, since they are cached.
        until: also leave out the events from this number on.
        created: leave them out only if the session was created at this time.
        deletions: with `created`, which session the turn belongs to, as in `TurnEvents`; None to load any.

    Raises:
        restate.TerminalError: 404 if that session was deleted.
    """
    request = LoadSession(
        app_name=key.app_name,
        session_id=key.session_id,
        num_recent_events=last,
        after_timestamp=after,
        have=have,
        until=until,
        created=created,
        deletions=deletions,
    )
    answer = await ask(ctx, CHAT, "load_session", request_json(request), key.user_id)
    return LoadedSession.model_validate_json(answer)


async def recent_events(ctx: restate.ObjectContext, key: TurnKey) -> list[Event]:
    """Returns the newest events of a session, however few of them its turns see."""
    return [Event.model_validate(event) for event in (await load(ctx, key, RECENT_EVENTS)).events]
