"""ADK's session contract over the K/V of one user. No other module knows its rules."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.state import State
from pydantic_core import to_json

from adk_chat.protocol.errors import BadRequestError, TooLargeError
from adk_chat.protocol.events import event_json
from adk_chat.protocol.json import Json, json_safe
from adk_chat.protocol.limits import MAX_BYTES, MAX_STATE_BYTES, shallow, sized
from adk_chat.protocol.sessions import AppendEvents
from adk_chat.protocol.turns import TurnEvents
from adk_chat.sessions.deletions import Deletions
from adk_chat.sessions.index import SessionIndex
from adk_chat.sessions.layout import INDEX, Keys, KeyValue, SessionRecord


class ScopedState:
    """A state or a delta, split by ADK's prefixes. State of a single turn (`temp:`) is dropped."""

    def __init__(self, state: Json) -> None:
        state = json_safe(state)
        self.app = _unprefixed(state, State.APP_PREFIX)
        self.user = _unprefixed(state, State.USER_PREFIX)
        prefixes = (State.APP_PREFIX, State.USER_PREFIX, State.TEMP_PREFIX)
        self.session = {key: value for key, value in state.items() if not key.startswith(prefixes)}


def _unprefixed(state: Json, prefix: str) -> Json:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def merged(session: Json, user: Json, app: Json) -> Json:
    """Returns the state that an agent sees."""
    return {
        **session,
        **{State.USER_PREFIX + key: value for key, value in user.items()},
        **{State.APP_PREFIX + key: value for key, value in app.items()},
    }


def taken_away(actions: Json) -> set[str]:
    """Returns the keys of a session's state that an event with these actions removes.

    ADK's rewind sets keys to None that did not exist at the point it returns to. Here they are removed, as was meant:
    code that counts with `state.get("n", 0) + 1` fails on None.
    """
    if "rewindBeforeInvocationId" not in actions:
        return set()
    return {key for key, value in actions.get("stateDelta", {}).items() if value is None}


def events_delta(events: Iterable[Json], state: Json | None = None) -> ScopedState:
    """Returns what `events` change in the state, later ones over earlier ones, all of them over `state`."""
    delta = dict(state or {})
    for event in events:
        delta.update(event.get("actions", {}).get("stateDelta", {}))
    return ScopedState(delta)


def without_temp(event: Json) -> Json:
    """Returns `event` as stored: without `temp:` keys in its state delta."""
    delta = event.get("actions", {}).get("stateDelta", {})
    if not any(key.startswith(State.TEMP_PREFIX) for key in delta):
        return event
    kept = {key: value for key, value in delta.items() if not key.startswith(State.TEMP_PREFIX)}
    actions = {key: value for key, value in event["actions"].items() if key != "stateDelta"}
    if kept:
        actions["stateDelta"] = kept
    return {**event, "actions": actions} if actions else {key: event[key] for key in event if key != "actions"}


@dataclass
class Write:
    """A change to a session, checked and ready to be written. Nothing is written yet."""

    record: SessionRecord
    user: Json | None
    """The whole `user:` state after the change; None if it does not change."""
    app: Json
    """What changes in the `app:` state."""
    events: int | None = None
    """How many events are new; None for a new session."""


class SessionStore:
    """The sessions that one user has in one app.

    `create` and `append` prepare a write, or refuse it as the contract says; `commit` hands it to the K/V. `app:` state
    is not in this K/V: the caller stores it, and merges it into answers.
    """

    def __init__(self, kv: KeyValue, user_id: str, app_name: str, default_app: str) -> None:
        self.kv = kv
        self._user_id = user_id
        self.app_name = app_name
        self.keys = Keys(app_name, default_app)
        self.index = SessionIndex(kv, default_app)
        self._deletions = Deletions(kv, self.index)
        self._left: Json = {}
        """The `user:` state in the session that was read, where `restate.ext.adk` left it."""

    async def head(self, session_id: str) -> tuple[SessionRecord | None, Json]:
        """Reads the session's record, or None, and the `user:` state, in as few reads as possible."""
        await self.prefetch(session_id)
        return await self.read(session_id), await self.user_state()

    async def read(self, session_id: str) -> SessionRecord | None:
        """Returns the session's record, or None."""
        (value,) = await self.kv.get(self.keys.session(session_id))
        if value is None:
            return None
        record = SessionRecord.load(value, self.app_name)
        if not record.is_of_ours:  # restate.ext.adk keeps all scopes in one
            self._left = _unprefixed(record.state, State.USER_PREFIX)
            record.state = {k: v for k, v in record.state.items() if not k.startswith(State.USER_PREFIX)}
        return record

    async def prefetch(self, session_id: str, *, first: bool = False) -> None:
        """Reads at once what a write to the session will read. `first` says that it will be the user's first write."""
        await self.kv.prefetch(self.keys.session(session_id), INDEX, keys=first)

    async def user_state(self) -> Json:
        """Returns the `user:` state, keys without their prefix."""
        return {**self._left, **(await self._shared(self.keys.user_state) or {})}

    async def app_state_version(self) -> int:
        """Returns the version of the `app:` state after this user's last change to it; 0 if there was none."""
        return int(await self._shared(self.keys.app_state_version) or 0)

    async def _shared(self, name: str) -> Any:
        """Returns a value that the user's sessions share. It is read only if the index says that it exists."""
        if not await self.index.has(name):
            return None
        (value,) = await self.kv.get(name)
        return value

    async def share(self, name: str, value: object) -> None:
        """Has the K/V store a value that the user's sessions share."""
        await self.index.note(name)
        self.kv.set(name, value)

    async def events(
        self,
        record: SessionRecord,
        last: int | None = None,
        after: float | None = None,
        before: str | None = None,
        skip: int = 0,
        cut: int | None = None,
    ) -> list[Json]:
        """Returns the session's events, or a part of them, oldest first.

        Args:
            record: the session.
            last: only this many of the newest.
            after: only those after the last one that is older than this time.
            before: only those before the one with this id.
            skip: leave out this many of the newest.
            cut: if they would take more than this many bytes, leave out the oldest instead of refusing.

        Raises:
            TooLargeError: if the events do not fit into one answer.
            BadRequestError: if no event has the id `before`.
        """
        if last is None and after is None and record.sealed_bytes < MAX_BYTES:
            await self.kv.prefetch(*(self.keys.run(record.id, number) for number in range(record.sealed_runs)))
        found: list[Json] = []
        size = 0
        beyond = before is None
        async for event in self._newest_first(record):
            if (last is not None and len(found) >= last) or (after is not None and event["timestamp"] < after):
                break
            if not beyond:
                beyond = event["id"] == before
                continue
            if skip:
                skip -= 1
                continue
            size += len(to_json(event))
            if cut is not None and size > cut and found:
                break
            if size > MAX_BYTES:
                raise TooLargeError(f"Session {record.id}: the events take more than {MAX_BYTES} bytes. Set a limit.")
            found.append(event)
        if not beyond:
            raise BadRequestError(f"before: session {record.id} has no event {before}.")
        return found[::-1]

    async def _newest_first(self, record: SessionRecord) -> AsyncIterator[Json]:
        for event in reversed(record.events):
            yield event
        for number in reversed(range(record.sealed_runs)):
            (run,) = await self.kv.get(self.keys.run(record.id, number))
            for event in reversed(run):
                yield event

    async def create(self, session_id: str, state: Json, time: float, events: Sequence[Event] = ()) -> "Write":
        """Prepares a new session and its initial events.

        Raises:
            AlreadyExistsError: if the user has a session with this id in this app.
            BadRequestError: if its state or an event is nested too deep.
            TooLargeError: if its state is too large.
        """
        shallow(state, to_json(json_safe(state)), "The state")
        given = _stored_form(events)
        await self.prefetch(session_id)
        if await self.read(session_id) is not None:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.")
        record = self._new(session_id, ScopedState(state).session, time)
        write = Write(record, None, {})
        await self._extend(write, given, events_delta(given, state))
        return write

    async def append(self, request: AppendEvents) -> "Write":
        """Prepares appending events to a session. An event equal to a stored one is not stored again.

        Raises:
            SessionNotFoundError: if there is no such session.
            StaleSessionError: if the writer's copy is outdated.
            TooLargeError: if the state would become too large.
        """
        await self.prefetch(request.session_id)
        record = await self.read(request.session_id)
        if record is None:
            raise SessionNotFoundError(f"Session {request.session_id} not found.")
        given = _stored_form(request.events)
        ids = {event["id"] for event in given}
        known = [event for event in await self._since(record, given) if event["id"] in ids]
        events = [event for event in given if event not in known]
        if events:
            self._refuse_outdated(record, request)
            record.mark = None
        return await self._appended(record, events)

    async def _since(self, record: SessionRecord, events: list[Json]) -> list[Json]:
        """Returns the events of a session that may equal the given ones."""
        if not record.sealed_runs:
            return record.events
        until = record.sealed_until
        if until is not None and all(event["timestamp"] > until for event in events):
            return record.events  # equal events have equal times
        found = await self.events(record, cut=MAX_BYTES)
        if until is None and len(found) == record.event_count:  # an earlier version did not note it
            record.sealed_until = max(event["timestamp"] for event in found[: -len(record.events)])
        return found

    async def belongs(
        self, record: SessionRecord | None, session_id: str, created: float | None, deletions: int | None
    ) -> bool:
        """Returns whether a session is the one that a turn belongs to, as in `TurnEvents`, or may be created for it."""
        if created is not None:
            return record is not None and record.create_time == created
        return deletions is None or not await self._deletions.since(self.keys.session(session_id), deletions)

    async def append_turn(self, request: TurnEvents) -> "Write":
        """Prepares storing a batch of a turn. It is never outdated: only the session's one Turn writes batches.

        Invariant: a batch counts as a repeat only if the same turn stored it. One that is no repeat and does not follow
        the last one is refused.

        Raises:
            SessionNotFoundError: if the session was deleted while the turn ran. One created since under the same id is
                a different session.
            TooLargeError: if the state would become too large.
        """
        session_id = request.session_id
        record = await self.read(session_id)
        if not await self.belongs(record, session_id, request.created, request.deletions):
            record = None
        elif record is None and request.create:
            record = self._new(session_id, {}, request.events[0]["timestamp"])
        if record is not None and request.batch <= record.batches and request.turn == record.turn:
            return Write(record, None, {}, 0)
        if record is None or request.batch != record.batches + 1:
            raise SessionNotFoundError(
                f"Session {session_id} was deleted while its turn ran, or an earlier part of the turn was refused."
            )
        record.batches, record.mark, record.turn = request.batch, request.mark, request.turn
        return await self._appended(record, request.events)

    async def _appended(self, record: SessionRecord, events: list[Json]) -> "Write":
        write = Write(record, None, {}, len(events))
        if events:
            await self._extend(write, events, events_delta(events))
        return write

    async def _extend(self, write: "Write", events: list[Json], delta: ScopedState) -> None:
        record = write.record
        if delta.user or self._left:
            write.user = {**await self.user_state(), **delta.user}
        write.app.update(delta.app)
        record.state.update(delta.session)
        for event in events:
            for key in taken_away(event.get("actions", {})) & record.state.keys():
                _take_away(record, key)
        record.events.extend(events)
        record.event_count += len(events)
        if events:
            record.last_update_time = events[-1]["timestamp"]
        _limit_state(write, delta)

    async def delete(self, session_id: str) -> bool:
        """Has the K/V delete a session and its events. Returns whether it existed.

        Turns accepted before belong to it, even if it does not exist yet, and can store nothing any more.
        """
        key = self.keys.session(session_id)
        record = await self.read(session_id)
        await self._deletions.note(key)
        if record is None:
            return False
        await self.index.take_out(record, key)
        for number in range(record.sealed_runs):
            self.kv.clear(self.keys.run(session_id, number))
        self.kv.clear(key)
        return True

    def _new(self, session_id: str, state: Json, time: float) -> SessionRecord:
        return SessionRecord(
            id=session_id,
            app_name=self.app_name,
            user_id=self._user_id,
            create_time=time,
            last_update_time=time,
            state=state,
            initial=dict(state) or None,
        )

    def _refuse_outdated(self, record: SessionRecord, request: AppendEvents) -> None:
        behind = request.revision is not None and request.revision != record.revision
        before = request.revision is None and request.last_update_time is not None
        if behind or (before and request.last_update_time != record.last_update_time):
            raise StaleSessionError(
                f"Session {record.id} has changed since it was read, to revision {record.revision}. Read it again."
            )

    async def commit(self, write: "Write") -> None:
        """Has the K/V store what was prepared. The caller stores the `app:` state."""
        if write.events == 0:
            return
        record, key = write.record, self.keys.session(write.record.id)
        record.revision += 1
        sealed = record.retitled().seal()
        await self.index.put(record, key)
        for number, run in enumerate(sealed, record.sealed_runs - len(sealed)):
            self.kv.set(self.keys.run(record.id, number), run)
        self.kv.set(key, record.dump())
        if write.user is not None:
            await self.share(self.keys.user_state, write.user)


def _stored_form(events: Sequence[Event]) -> list[Json]:
    given = [without_temp(event_json(event)) for event in events]
    for event in given:
        shallow(event, to_json(event), f"Event {event['id']}")
    return given


def _take_away(record: SessionRecord, key: str) -> None:
    # The initial state is in no event, so ADK's rewind does not restore it.
    if record.state[key] is not None:
        return  # an event after the rewind set it
    if record.initial is not None and key in record.initial:
        record.state[key] = record.initial[key]
    else:
        del record.state[key]


def _limit_state(write: Write, changed: ScopedState) -> None:
    """Refuses a state that has become too large. AppState limits that of the app."""
    if changed.session:
        sized(to_json(write.record.state), f"The state of session {write.record.id}", MAX_STATE_BYTES)
    if changed.user:
        sized(to_json(write.user), "The user: state", MAX_STATE_BYTES)
