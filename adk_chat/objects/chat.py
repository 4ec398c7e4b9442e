"""Chat: a user's sessions and the public interface. Its key is the user id. No handler here waits for a model."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, cast

import restate
from google.adk.artifacts.base_artifact_service import BaseArtifactService
from google.adk.errors.session_not_found_error import SessionNotFoundError
from pydantic import BaseModel
from pydantic_core import from_json, to_json
from restate.retry_policy import InvocationRetryPolicy
from restate.serde import BytesSerde

from adk_chat.objects.app_state import AppStates
from adk_chat.objects.handler import M, handler, of_app, terminal
from adk_chat.objects.kv import ObjectState
from adk_chat.objects.turn_control import AnyContext, ends, forget_failed, is_running, send_cancel
from adk_chat.protocol.events import unmarked
from adk_chat.protocol.json import Json
from adk_chat.protocol.limits import HISTORY_BYTES, MAX_BYTES, sized
from adk_chat.protocol.messages import CancelTurn, Message
from adk_chat.protocol.run_config import streams
from adk_chat.protocol.sessions import (
    CHAT,
    Appended,
    AppendEvents,
    CreateSession,
    GetSession,
    History,
    KeptRefusal,
    ListSessions,
    Request,
    SessionRequest,
)
from adk_chat.protocol.turn_end import KILLED, KILLED_SENTENCE
from adk_chat.protocol.turn_id import TurnId, TurnKey
from adk_chat.protocol.turns import (
    TRACE_HEADERS,
    TURN,
    Deleted,
    LoadedSession,
    LoadSession,
    RunningTurn,
    SessionHead,
    TurnEvents,
    TurnRequest,
)
from adk_chat.restate_api import AdminApi
from adk_chat.sessions.artifacts import delete_artifacts
from adk_chat.sessions.index import position
from adk_chat.sessions.layout import INDEX, Row, SessionRecord
from adk_chat.sessions.store import SessionStore, Write, merged

_ENVELOPE_BYTES = 64 * 1024

OUTAGE = InvocationRetryPolicy(
    initial_interval=timedelta(milliseconds=250),
    exponentiation_factor=1.5,
    max_interval=timedelta(seconds=30),
    max_attempts=6000,
    on_max_attempts="pause",
)
"""Outlasts an endpoint that is down for two days; Restate's default pauses after an hour. Only Chat relies on it."""

_AT_ONCE = InvocationRetryPolicy(max_attempts=1, on_max_attempts="kill")
"""Whoever asks whether the handlers are there wants an answer now."""


@dataclass(frozen=True)
class ChatConfig:
    """What Chat needs to know. The first of `apps` is the default; `aliases` are other names of apps."""

    apps: Sequence[str]
    aliases: Mapping[str, str]
    max_id_length: int
    max_message_bytes: int
    app_states: AppStates
    journal_retention: timedelta
    inactivity_timeout: timedelta | None
    admin: AdminApi
    artifact_service: BaseArtifactService


def chat_object(config: ChatConfig) -> restate.VirtualObject:
    """Returns the object with its handlers."""
    chat = restate.VirtualObject(
        CHAT,
        description="The sessions of one user. The key is the user's id.",
        # Otherwise every request would carry all of a user's sessions.
        state_preload=False,
        journal_retention=timedelta(0),
        invocation_retry_policy=OUTAGE,
        # These wait for other handlers and for turns. A waiting handler holds one of the engine's slots. If waiting
        # handlers held all of them, the ones they wait for would get none, and nothing would ever move.
        inactivity_timeout=config.inactivity_timeout,
    )
    handlers = _Handlers(config)

    def shown(request: type[M]) -> type[M]:
        return request if len(config.apps) == 1 else of_app(request, config.apps[0])

    turns: dict[str, Any] = {"journal_retention": config.journal_retention}
    # The engine keeps every answer for a day, whether or not the request has an idempotency key.
    reading: dict[str, Any] = {"kind": "shared", "idempotency_retention": timedelta(0)}
    handler(chat, shown(Message), kind="shared", most=MAX_BYTES, **turns)(handlers.message)
    handler(chat, shown(Message), most=MAX_BYTES, **turns)(handlers.post)
    handler(chat, shown(CancelTurn), kind="shared")(handlers.cancel)
    handler(chat, shown(SessionRequest), **reading)(handlers.running_turn)
    handler(chat, shown(History), **reading)(handlers.get_history)
    handler(chat, shown(ListSessions), **reading)(handlers.list_sessions)
    handler(chat, shown(GetSession), **reading)(handlers.get_session)
    handler(chat, shown(CreateSession), most=MAX_BYTES)(handlers.create_session)
    handler(chat, shown(AppendEvents), most=MAX_BYTES)(handlers.append_events)
    handler(chat, shown(SessionRequest))(handlers.delete_session)
    handler(chat, shown(Request), **reading)(handlers.get_user_state)
    handler(chat, Request, invocation_retry_policy=_AT_ONCE, **reading)(handlers.list_apps)
    handler(chat, KeptRefusal, idempotency_retention=timedelta(0))(handlers.forget_refusal)
    handler(chat, TurnEvents, ingress_private=True)(handlers.append_turn)
    handler(chat, LoadSession, ingress_private=True)(handlers.load_session)
    handler(chat, SessionRequest, ingress_private=True)(handlers.sweep_artifacts)
    return chat


class _Handlers:
    def __init__(self, config: ChatConfig) -> None:
        self._config = config
        self._app_states = config.app_states

    async def message(self, ctx: restate.ObjectSharedContext, request: Message) -> str:
        """Send a message and wait for the reply. Returns its text."""
        key, turn = await self._admitted(ctx, request)
        # Turn hands the reply to Chat with the last events, and Chat hands it on here once they are stored.
        turn.publish = streams(request.run_config)
        turn.reply_to, reply = ctx.awakeable(serde=BytesSerde())
        running = ctx.generic_call(TURN, "run", _json(turn), key=str(key), headers=_trace(ctx))
        done, _ = await restate.wait_completed(running, reply)
        if running in done:
            try:
                await running
            except restate.TerminalError as error:
                if error.message != KILLED:
                    raise
                # Somebody has to store it, and this may be the first to hear of it.
                send_cancel(ctx, key, await running.invocation_id())
                raise restate.TerminalError(KILLED_SENTENCE, error.status_code) from error
        return cast(str, from_json(await reply))

    async def post(self, ctx: restate.ObjectContext, request: Message) -> Json:
        """Send a message without waiting. Returns the turn's id, which begins with the id of its Restate invocation."""
        key, turn = await self._admitted(ctx, request)
        turn.publish = True
        sent = ctx.generic_send(TURN, "run", _json(turn), key=str(key), headers=_trace(ctx))
        posted = {"turn_id": str(TurnId(invocation_id=await sent.invocation_id(), key=key))}
        return posted if request.fingerprint is None else {**posted, "fingerprint": request.fingerprint}

    async def cancel(self, ctx: restate.ObjectSharedContext, request: CancelTurn) -> bool:
        """Cancel the turn that is running in a session. Returns whether one was running. It has ended by then."""
        key = TurnKey(user_id=ctx.key(), app_name=self._app(request), session_id=request.session_id)
        wanted = RunningTurn()
        if request.turn_id is not None:
            turn_id = TurnId.parse(request.turn_id)
            if turn_id.key != key:
                return False
            wanted.invocation_id = turn_id.invocation_id
        answer = await ctx.generic_call(TURN, "cancel", _json(wanted), key=str(key))
        running = RunningTurn.model_validate_json(answer).invocation_id
        return running is not None and await ends(ctx, key, running, self._config.admin)

    async def running_turn(self, ctx: restate.ObjectSharedContext, request: SessionRequest) -> Json:
        """The id of the turn running in a session, or null. All messages posted before have arrived by then."""
        key = TurnKey(user_id=ctx.key(), app_name=self._app(request), session_id=request.session_id)
        answer = await ctx.generic_call(TURN, "status", b"{}", key=str(key))
        running = RunningTurn.model_validate_json(answer).invocation_id
        return {"turn_id": None if running is None else str(TurnId(invocation_id=running, key=key))}

    async def get_history(self, ctx: restate.ObjectSharedContext, request: History) -> list[Json]:
        """The events of a session, oldest first."""
        store = self._store(ctx, request)
        record = await store.read(request.session_id)
        if record is None:
            raise restate.TerminalError(f"Session {request.session_id} not found.", 404)
        return await store.events(record, last=request.limit, after=request.after_timestamp, before=request.before)

    async def list_sessions(self, ctx: restate.ObjectSharedContext, request: ListSessions) -> Json:
        """The user's sessions without their events. The most recently active one comes last, or first if asked for."""
        app = self._app(request)
        store = self._store(ctx, request)

        def wanted(row: Row) -> bool:
            return row.app_name == app

        after = None if request.cursor is None else _position(request.cursor)
        if request.newest_first:
            most = sys.maxsize if request.limit is None else request.limit + 1
            rows = await store.index.newest(wanted, most, after)
        else:
            rows = await store.index.all(wanted)
            rows = [row for row in rows if after is None or position(row) > after]
        more = request.limit is not None and len(rows) > request.limit
        rows = rows[: request.limit]
        await self._fill_in_states(store, rows)
        user, shared = await store.user_state(), (await self._app_states.current(ctx, app)).state
        sessions = [
            {
                "id": row.id,
                "appName": row.app_name,
                "userId": ctx.key(),
                "state": merged(row.state or {}, user, shared),
                "events": [],
                "lastUpdateTime": row.last_update_time,
            }
            for row in rows
        ]
        return {"sessions": sessions, **({"nextCursor": _cursor(rows[-1])} if more else {})}

    async def get_session(self, ctx: restate.ObjectSharedContext, request: GetSession) -> Json | None:
        """One session with its events and the state of all scopes, or null."""
        store = self._store(ctx, request)
        record, user = await store.head(request.session_id)
        if record is None:
            return None
        events = await store.events(record, last=request.num_recent_events, after=request.after_timestamp)
        shared = await self._app_states.current(ctx, record.app_name)
        return _answer(record, events, user, shared.state)

    async def create_session(self, ctx: restate.ObjectContext, request: CreateSession) -> Json:
        """Create a session. Returns it without its initial events. All of it is stored by then."""
        store = self._store(ctx, request)
        for event in request.events:
            unmarked(event)
        if not request.any_app:
            self._known(store.app_name)
        self._limit("session_id", request.session_id or "")
        session_id = request.session_id or str(ctx.uuid())
        live = False

        async def note() -> Json:
            nonlocal live
            live = True
            return {"time": time.time(), "no_app_state": self._app_states.had_none(store.app_name)}

        noted = await ctx.run_typed("note", note)
        write = await store.create(session_id, request.state, noted["time"], request.events)
        shared = await self._commit(ctx, store, write)
        if shared is None and (await store.app_state_version() or not noted["no_app_state"]):
            shared = await self._app_states.current_for(ctx, store.app_name, live=live)
        return _answer(write.record, [], await store.user_state(), shared or {})

    async def append_events(self, ctx: restate.ObjectContext, request: AppendEvents) -> Appended:
        """Add events to a session. They are stored when this returns."""
        store = self._store(ctx, request)
        for event in request.events:
            unmarked(event)
        write = await store.append(request)
        await self._commit(ctx, store, write)
        record = write.record
        return Appended(revision=record.revision, last_update_time=record.last_update_time, stored=write.events or 0)

    async def append_turn(self, ctx: restate.ObjectContext, request: TurnEvents) -> None:
        """Internal: store a batch of a turn's events, and hand its reply to the caller who waits."""
        store = self._store(ctx, request)
        try:
            await store.prefetch(request.session_id, first=request.first_session)
            write = await store.append_turn(request)
            await self._commit(ctx, store, write)
        except Exception as error:
            if (failure := terminal(error)) is None:
                raise
            if request.reply is not None:
                ctx.reject_awakeable(request.reply.to, failure.message, failure.status_code)
            if request.confirm_to is not None:
                ctx.reject_signal(request.confirm_to, request.confirm, failure.message, failure.status_code)
            raise failure from (None if failure is error else error)
        if request.reply is not None:
            ctx.resolve_awakeable(request.reply.to, to_json(request.reply.text), serde=BytesSerde())
        if request.confirm_to is not None:
            ctx.resolve_signal(request.confirm_to, request.confirm, b"", serde=BytesSerde())

    async def load_session(self, ctx: restate.ObjectContext, request: LoadSession) -> LoadedSession:
        """Internal: a session as Turn needs it, with everything that was sent for it before."""
        store = self._store(ctx, request)
        record, head = await _head(store, request.session_id)
        if not await store.belongs(record, request.session_id, request.created, request.deletions):
            raise SessionNotFoundError(f"Session {request.session_id} was deleted before its turn began.")
        if record is None:
            return LoadedSession(**dict(head))
        last, after = request.num_recent_events, request.after_timestamp
        until = record.event_count
        if request.created == record.create_time:
            until = until if request.until is None else min(until, request.until)
            missing = max(0, until - request.have)
            last = missing if last is None else min(last, missing)
        skip = record.event_count - until
        events = await store.events(record, last=last, after=after, skip=skip, cut=_room(head))
        return LoadedSession(**dict(head), first=until - len(events), events=events)

    async def delete_session(self, ctx: restate.ObjectContext, request: SessionRequest) -> None:
        """Delete a session, its events and its artifacts. Its app: and user: state and the user's artifacts stay.

        Turns whose messages were accepted before end with 404: a running one when it next stores something, a queued
        one when it begins. A session created again under the same id is a different session.
        """
        store = self._store(ctx, request)
        await store.prefetch(request.session_id)
        await store.delete(request.session_id)
        store.kv.write()
        key = TurnKey(user_id=ctx.key(), app_name=store.app_name, session_id=request.session_id)
        deleted = Deleted(deletions=await store.index.deletions())
        ctx.generic_send(TURN, "forget", deleted.model_dump_json().encode(), key=str(key))
        await self._delete_artifacts(ctx, key)

    async def sweep_artifacts(self, ctx: restate.ObjectContext, request: SessionRequest) -> None:
        """Internal: delete what a turn saved after its session was deleted.

        Invariant: a session that was created again keeps its artifacts. None can be created while this runs.
        """
        store = self._store(ctx, request)
        if await store.read(request.session_id) is None:
            key = TurnKey(user_id=ctx.key(), app_name=store.app_name, session_id=request.session_id)
            await self._delete_artifacts(ctx, key)

    async def _delete_artifacts(self, ctx: restate.ObjectContext, key: TurnKey) -> None:
        async def delete() -> None:
            await delete_artifacts(self._config.artifact_service, key.app_name, key.user_id, key.session_id)

        await ctx.run_typed("delete artifacts", delete)

    async def get_user_state(self, ctx: restate.ObjectSharedContext, request: Request) -> Json:
        """The state that all sessions of the user share, keys without their prefix."""
        return await self._store(ctx, request).user_state()

    async def list_apps(self, ctx: restate.ObjectSharedContext, request: Request) -> Json:
        """The apps of the service. Reads no state."""
        return {"apps": list(self._config.apps), "aliases": dict(self._config.aliases)}

    async def forget_refusal(self, ctx: restate.ObjectContext, request: KeptRefusal) -> bool:
        """Make the engine forget a refused request, so that its idempotency key can be used again.

        Invariant: only a refusal is forgotten, never the result of the same request sent again since. That one can only
        have begun after another call of this handler, and calls for one user run one after the other.
        """
        forget = partial(forget_failed, self._config.admin)
        return await ctx.run_typed("forget", forget, of=f"{CHAT}/{ctx.key()}", invocation_id=request.invocation_id)

    async def _admitted(self, ctx: AnyContext, request: Message) -> tuple[TurnKey, TurnRequest]:
        """Returns the turn to run, once its strategy has dealt with one that may be running."""
        if request.multitask_strategy == "enqueue":
            return await self._turn(ctx, request)
        key = TurnKey(user_id=ctx.key(), app_name=self._app(request), session_id=request.session_id)
        # Asked before the session is read, so that whatever this turn has stored by then is seen and not mistaken.
        answer = await ctx.generic_call(TURN, "status", b"{}", key=str(key))
        running = RunningTurn.model_validate_json(answer).invocation_id
        if running is not None and request.multitask_strategy == "reject" and await is_running(ctx, running):
            raise restate.TerminalError(
                f"A turn is running in session {request.session_id}. Send the message again when it has ended, "
                "or with another multitask_strategy: enqueue, interrupt or rollback.",
                409,
            )
        key, turn = await self._turn(ctx, request)
        turn.alone = request.multitask_strategy == "reject"
        if running is not None:
            send_cancel(ctx, key, running)
            turn.roll_back = running if request.multitask_strategy == "rollback" else None
        return key, turn

    async def _turn(self, ctx: AnyContext, request: Message) -> tuple[TurnKey, TurnRequest]:
        app = self._app(request)
        self._known(app)
        self._limit("session_id", request.session_id)
        content = request.content()
        request.check(content, self._config.max_message_bytes)
        store = self._store(ctx, request)
        record, head = await _head(store, request.session_id)
        if record is None and not request.create:
            raise SessionNotFoundError(f"Session not found: {request.session_id}")
        if content is None and request.invocation_id is None and not (record and record.event_count):
            raise restate.TerminalError(
                f"message: is missing, and there are no messages in session {request.session_id} to continue "
                "from. Send some text.",
                400,
            )
        turn = TurnRequest(
            content=content,
            run_config=request.run_config,
            invocation_id=request.invocation_id,
            state_delta=request.state_delta,
            frontend=request.frontend,
            head=head,
        )
        key = TurnKey(user_id=ctx.key(), app_name=app, session_id=request.session_id)
        return key, turn

    async def _commit(self, ctx: restate.ObjectContext, store: SessionStore, write: Write) -> Json | None:
        """Writes what was prepared to the K/V. Returns the `app:` state if it changed."""
        shared = None
        await store.commit(write)
        if write.app:
            after = await self._app_states.update(ctx, store.app_name, write.app)
            # The user's next turn sees this change, wherever it runs.
            await store.share(store.keys.app_state_version, after.version)
            shared = after.state
        # Everything that can be refused has been. Nothing was written until here.
        store.kv.write()
        return shared

    async def _fill_in_states(self, store: SessionStore, rows: list[Row]) -> None:
        for row in rows:
            if row.state is None:
                record = await store.read(row.id)
                row.state = record.state if record is not None else {}

    def _store(self, ctx: AnyContext, request: Request) -> SessionStore:
        self._limit("user_id", ctx.key())
        return SessionStore(ObjectState(ctx), ctx.key(), self._app(request), self._config.apps[0])

    def _app(self, request: Request) -> str:
        apps = self._config.apps
        if request.app_name is None and len(apps) > 1:
            raise restate.TerminalError(f"app_name: is missing. The service has several apps: {', '.join(apps)}.", 400)
        app = request.app_name or apps[0]
        app = self._config.aliases.get(app, app)
        self._limit("app_name", app)
        return app

    def _known(self, app: str) -> None:
        if app not in self._config.apps:
            known = ", ".join(self._config.apps)
            raise restate.TerminalError(f"app_name: there is no app {app}. The apps are: {known}.", 404)

    def _limit(self, what: str, value: str) -> None:
        if len(value) > self._config.max_id_length:
            most = self._config.max_id_length
            raise restate.TerminalError(f"{what}: has {len(value)} characters; at most {most} are accepted.", 400)


async def _head(store: SessionStore, session_id: str) -> tuple[SessionRecord | None, SessionHead]:
    """Returns a session and what Turn is told of it."""
    record, user = await store.head(session_id)
    deletions = await store.index.deletions()
    head = SessionHead(user_state=user, app_version=await store.app_state_version(), deletions=deletions)
    if record is None:
        (index,) = await store.kv.get(INDEX)
        head.first_session = index is None
        return None, head
    head.created, head.revision, head.count = record.create_time, record.revision, record.event_count
    head.batches, head.mark = record.batches, record.mark
    head.last_update_time, head.state = record.last_update_time, record.state
    return record, head


def _room(head: SessionHead) -> int:
    """Returns how many bytes of events are sent with the head of a session."""
    return min(HISTORY_BYTES, MAX_BYTES - len(head.model_dump_json()) - _ENVELOPE_BYTES)


def _answer(record: SessionRecord, events: list[Json], user: Json, shared: Json) -> Json:
    return {
        "id": record.id,
        "appName": record.app_name,
        "userId": record.user_id,
        "state": merged(record.state, user, shared),
        "events": events,
        "lastUpdateTime": record.last_update_time,
        "revision": record.revision,
    }


def _trace(ctx: AnyContext) -> dict[str, str]:
    """Returns the trace that a request belongs to. Restate itself hands it on only if it records traces too."""
    headers = ctx.request().headers
    return {name: headers[name] for name in TRACE_HEADERS if name in headers}


def _json(model: BaseModel) -> bytes:
    return sized(model.model_dump_json(exclude_none=True, exclude_defaults=True).encode(), "The turn")


def _cursor(row: Row) -> str:
    return f"{row.last_update_time!r}:{row.id}"


def _position(cursor: str) -> tuple[float, str]:
    time, _, session_id = cursor.partition(":")
    return float(time), session_id
