"""One attempt at a turn: runs the agent and stores its events."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import restate
from google.adk.agents.run_config import RunConfig
from google.adk.apps.app import App
from google.adk.artifacts.base_artifact_service import BaseArtifactService
from google.adk.auth.credential_service.base_credential_service import BaseCredentialService
from google.adk.events.event import Event
from google.adk.memory.base_memory_service import BaseMemoryService
from google.adk.platform import uuid as platform_uuid
from google.adk.runners import Runner
from google.genai import types
from opentelemetry import context, propagate
from pydantic import BaseModel
from restate.exceptions import RetryableError
from restate.retry_policy import InvocationRetryPolicy

from adk_chat.durable import Journal, JournalOptions, RestartError, RetryPolicy, open_journal
from adk_chat.durable.adk import seams
from adk_chat.durable.adk.call_order import TurnThreads
from adk_chat.durable.adk.errors import is_transient
from adk_chat.durable.adk.sealed import Seal
from adk_chat.durable.journal.attempt import IgnoredCancelError
from adk_chat.durable.journal.errors import Raisable, is_cancelled
from adk_chat.durable.journal.pump import BrokenOffError
from adk_chat.objects.app_state import AppStates
from adk_chat.objects.calls import CANCELLED
from adk_chat.objects.handler import terminal
from adk_chat.objects.kv import ObjectState
from adk_chat.objects.turn_control import send_settle
from adk_chat.process.logs import current_turn
from adk_chat.process.tracebacks import chain
from adk_chat.protocol.errors import status_of
from adk_chat.protocol.events import TURN_FAILED
from adk_chat.protocol.run_config import merged as merged_config
from adk_chat.protocol.run_config import window
from adk_chat.protocol.turn_end import agent_failed
from adk_chat.protocol.turn_id import TurnId, TurnKey, event_id_prefix
from adk_chat.protocol.turns import TRACE_HEADERS, Reply, SessionHead, TurnRequest
from adk_chat.sessions import RestateSessionService
from adk_chat.sessions.store import merged
from adk_chat.sessions.stored import StoredSession
from adk_chat.streaming import Broker
from adk_chat.turns.cancellation import Cancellation
from adk_chat.turns.frontend import FrontendTurn
from adk_chat.turns.history import Have, SessionCache, TurnHistory, recent_events
from adk_chat.turns.outbox import Outbox
from adk_chat.turns.publisher import Publisher
from adk_chat.turns.reply import Answer
from adk_chat.turns.report import TurnReport
from adk_chat.turns.rollback import Cancelled
from adk_chat.turns.sessions import TurnSessions
from adk_chat.turns.state import TurnState
from adk_chat.turns.termination import ended_events

_CANCELLED = "cancelled"
_AT_ONCE = timedelta(milliseconds=1)
_ATTEMPTS = 3
"""How many times a turn is attempted in one process if it ends in a bug of ours. One that depends on timing may not
show again."""
_SOON = timedelta(milliseconds=100)


@dataclass(frozen=True)
class TurnConfig:
    """What Turn needs to run an app."""

    apps: Mapping[str, App]
    artifact_service: BaseArtifactService
    memory_service: BaseMemoryService
    credential_service: BaseCredentialService
    model_retry: RetryPolicy
    history_events: int | None
    run_config: RunConfig | None
    tool_threads: int
    step_timeout: timedelta
    journal_retention: timedelta
    retry_policy: InvocationRetryPolicy
    inactivity_timeout: timedelta | None
    waiting_timeout: timedelta | None
    broker: Broker | None
    outside: RestateSessionService
    app_states: AppStates
    cache: SessionCache
    seal: Seal | None


class _Note(BaseModel):
    """What the process that starts a turn knows, journaled for replays."""

    have: Have | None = None
    no_app_state: bool = False


class TurnAttempt:
    """One attempt at a turn.

    Args:
        config: what Turn needs.
        failures: how many attempts at each turn ended in a bug of ours in this process.
        ctx: the handler's context.
        request: the turn to run.
    """

    def __init__(
        self, config: TurnConfig, failures: Counter[str], ctx: restate.ObjectContext, request: TurnRequest
    ) -> None:
        self._config = config
        self._failures = failures
        self._ctx = ctx
        self._request = request
        self._key = TurnKey.parse(ctx.key())
        self._app = config.apps.get(self._key.app_name)
        self._state = ObjectState(ctx)
        self._history = TurnHistory(
            self._key,
            request,
            window(request.run_config, config.history_events),
            config.cache,
        )
        self._batches: int | None = None
        self._killed: list[str] = []
        """The turns before this one whose end is not stored yet."""
        self._answer = Answer()
        self._frontend: FrontendTurn | None = None
        if request.frontend is not None:
            self._frontend = FrontendTurn(ctx.request().id, self._key.session_id, request.frontend)
        self._report: TurnReport | None = None
        self._outbox: Outbox | None = None
        self._sessions: TurnSessions | None = None
        self._stream: Publisher | None = None

    async def run(self) -> str:
        """Runs the turn to its end, good or bad, and returns the reply."""
        running = self._ctx.request().id
        current_turn.set(TurnId(invocation_id=running, key=self._key))
        self._take_up_trace()
        settled = True
        try:
            failure = await self._run(running)
        except (Exception, BrokenOffError) as error:
            failure = terminal(error)
            if failure is None:
                raise
            if status_of(error) is None and error is not failure:
                settled = await self._fail(running, error, failure)
        finally:
            if self._report is not None:
                self._report.leave()
        if self._report is not None:
            self._report.end(failure)
        self._failures.pop(running, None)
        if settled:
            self._set_state(None)
        self._state.write()
        if failure is not None:
            raise failure
        return self._answer.text

    async def _fail(self, running: str, error: BaseException, failure: restate.TerminalError) -> bool:
        """Handles a bug of ours. Returns whether the failure is stored; if not, `settle` has to store it.

        Raises:
            RetryableError: to attempt the turn again, since the bug may not show again.
        """
        self._failures[running] += 1
        if self._failures[running] < _ATTEMPTS:
            raise RetryableError(repr(error), retry_after=_SOON) from error
        try:
            if self._sessions is not None and self._outbox is not None:
                await self._store_failure(self._sessions, type(error).__name__, failure.message)
                await self._outbox.store(None)
                if self._stream is not None:
                    self._stream.end(failure)
                self._batches = self._outbox.batches
                return True
        except (Exception, BrokenOffError) as again:
            if terminal(again) is None:
                raise
        send_settle(self._ctx, self._key, running)
        return False

    async def _open(self, running: str, abort: asyncio.Event) -> Journal:
        """Opens the journal."""

        def note() -> _Note:
            return _Note(have=self._history.have(), no_app_state=self._config.app_states.had_none(self._key.app_name))

        options = JournalOptions(
            self._config.model_retry, self._config.step_timeout, event_id_prefix(running), abort, note
        )
        return await open_journal(self._ctx, options, self._config.seal)

    async def _begin(self, running: str) -> None:
        """Notes that this turn is running."""
        before = await TurnState.read(self._state)
        self._batches = before.batches
        created = self._request.head.created
        if None in (created, before.created) or created == before.created:
            self._killed = before.killed
        self._set_state(running)
        self._state.write()

    def _set_state(self, running: str | None) -> None:
        head = self._request.head
        TurnState(
            running=running,
            unsettled=self._killed,
            batches=self._batches,
            created=head.created,
            deletions=head.deletions,
        ).write(self._state)

    async def _found(self, journal: Journal) -> tuple[SessionHead, StoredSession]:
        """Returns the session that the turn starts from."""
        note, asked = _Note.model_validate(journal.note), self._request.head
        again = bool(self._killed) or self._batches not in (None, asked.batches)
        head, events = await self._history.read(self._ctx, note.have, again=again)
        if self._request.alone and (head.created, head.batches) != (asked.created, asked.batches):
            raise restate.TerminalError("Another turn of the session ran first. Send the message again.", 409)
        app, shared = self._key.app_name, {}
        if head.app_version or not note.no_app_state:
            shared = await self._config.app_states.current_for(self._ctx, app, live=not journal.resumed)
        session = StoredSession(
            id=self._key.session_id,
            app_name=app,
            user_id=self._key.user_id,
            state=merged(head.state, head.user_state, shared),
            events=events,
            last_update_time=journal.time() if head.created is None else head.last_update_time,
        )
        if head.created is not None:
            session.revision = head.revision
        return head, session

    async def _run(self, running: str) -> restate.TerminalError | None:
        """Runs the agent and stores its events. Returns the error to answer with if it ended badly."""
        abort = asyncio.Event()
        journal = await self._open(running, abort)
        # Cancelled or not, the turn needs its session: an earlier attempt may have stored a part of the turn.
        with journal.pump.uncancelled():
            await self._begin(running)
            report = self._report = TurnReport(self._key.app_name, journal)
            report.begin()
            head, session = await self._found(journal)
            recent = await recent_events(self._ctx, self._key) if self._killed else []
        cancellation = Cancellation(journal, abort)
        live = self._stream = self._live(running)
        if live is not None:
            journal.on_model_retry = live.partial
        outbox = self._outbox = Outbox(self._ctx, journal, self._key, head, live)
        outbox.resume()
        sessions = self._sessions = TurnSessions(
            journal,
            self._key,
            session,
            outbox,
            live,
            cancellation,
            self._config.outside,
            whole=len(session.events) >= head.count,
            mark=None if self._frontend is None else self._frontend.mark,
        )
        for turn in self._killed:
            for event in ended_events(turn, recent, self._author, journal.time()):
                await sessions.add(event)
        self._killed = []
        await self._roll_back(sessions)
        failure = None
        if await self._admit(sessions):
            failure = await self._run_agent(journal, sessions, cancellation, live, report)
        # From here on the turn cannot be cancelled: it has ended, and only has to be stored.
        cancelled = cancellation.signal.is_set()
        reply = None
        if failure is None and self._request.reply_to is not None:
            reply = Reply(to=self._request.reply_to, text=self._answer.text)
        try:
            await outbox.store(reply)
        except restate.TerminalError as error:
            failure = failure or error
        else:
            if live is not None:
                live.end(failure)
        self._batches = outbox.batches
        self._history.expect(head, outbox)
        if cancelled:
            undo = Cancelled.of(running, sessions.before, sessions.events)
            self._state.set(_CANCELLED, undo.model_dump())
        return failure

    async def _admit(self, sessions: TurnSessions) -> bool:
        """Leaves out of a frontend's message what the session has already. Returns whether the agent has to run."""
        if self._frontend is None:
            return True
        asked = self._request.content
        admitted = self._frontend.admit(asked, sessions.session.events)
        for answer in admitted.answers:
            await sessions.add(answer)
        self._request.content = admitted.content
        return admitted.content is not None or asked is None

    def _take_up_trace(self) -> None:
        """Makes the agent's spans part of the request's trace, or of Restate's if that traces too."""
        request = self._ctx.request()
        headers = request.attempt_headers if "traceparent" in request.attempt_headers else request.headers
        context.attach(propagate.extract({name: headers[name] for name in TRACE_HEADERS if name in headers}))

    def _live(self, running: str) -> Publisher | None:
        if not self._request.publish:
            return None
        live = Publisher(self._config.broker, TurnId(invocation_id=running, key=self._key))
        live.start()
        return live

    async def _roll_back(self, sessions: TurnSessions) -> None:
        if self._request.roll_back is None:
            return
        (cancelled,) = await self._state.get(_CANCELLED)
        if cancelled is not None and cancelled["invocation_id"] == self._request.roll_back:
            rewind = Cancelled.model_validate(cancelled).rewind(sessions.session)
            if rewind is not None:
                await sessions.add(rewind)

    async def _run_agent(
        self,
        journal: Journal,
        sessions: TurnSessions,
        cancellation: Cancellation,
        live: Publisher | None,
        report: TurnReport,
    ) -> restate.TerminalError | None:
        """Runs the agent to its end. Returns the error to answer with if it ended badly."""
        if self._app is None:
            return await self._no_app(sessions)
        app = self._app
        if self._frontend is not None:
            # First, so that the app's own plugins see the tools.
            app = app.model_copy(update={"plugins": [self._frontend.plugin, *app.plugins]})
        runner = Runner(
            app=app,
            session_service=sessions,
            artifact_service=self._config.artifact_service,
            memory_service=self._config.memory_service,
            credential_service=self._config.credential_service,
        )
        content = self._request.content

        async def run() -> None:
            async for event in runner.run_async(
                user_id=self._key.user_id,
                session_id=self._key.session_id,
                invocation_id=self._request.invocation_id,
                new_message=types.Content.model_validate(content) if content is not None else None,
                state_delta=self._request.state_delta,
                run_config=self._run_config(),
                abort_signal=cancellation.signal,
            ):
                self._answer.hear(event)
                report.hear(event, new=event.id in sessions.new)
                cancellation.hear(event)
                if live is not None and event.partial:
                    live.partial(event)

        try:
            await journal.run(run())
        except RestartError as error:
            raise RetryableError(str(error), retry_after=_AT_ONCE) from error
        except IgnoredCancelError as error:
            report.failed(error)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled(error):
                raise
            if not cancellation.signal.is_set():
                report.failed(error)
                return await self._failed(error, sessions, journal)
        if cancellation.signal.is_set():
            await self._seal(sessions, journal)
            return restate.TerminalError("The turn was cancelled.", CANCELLED)
        return self._answer.failure()

    async def _seal(self, sessions: TurnSessions, journal: Journal) -> None:
        """Ends a cancelled turn as ADK ends an aborted invocation: all calls are answered, and one event says why.

        The agent's code may have kept ADK from doing so, or the turn may have ended before ADK could.
        """
        await sessions.keep_cut_off()
        await sessions.add_left()
        own = [event for event in sessions.events if event.id.startswith(journal.id_prefix)]
        sealed = any(event.error_code == seams.ABORTED for event in own)
        for invocation_id in dict.fromkeys(event.invocation_id for event in own):
            for event in seams.abort_events(sessions.session.events, invocation_id, self._author):
                if event.content or not sealed:
                    sealed = True
                    await sessions.add(event)

    async def _no_app(self, sessions: TurnSessions) -> restate.TerminalError:
        """The app that the turn was posted to is gone."""
        name, apps = self._key.app_name, ", ".join(self._config.apps)
        said = f"The app {name} no longer exists. The apps are: {apps}. The message was not answered."
        if self._request.content is not None:
            content = types.Content.model_validate(self._request.content)
            invocation_id = f"e-{platform_uuid.new_uuid()}"
            message = Event(invocation_id=invocation_id, author="user", content=content)
            await sessions.add(message)
        await self._store_failure(sessions, "AppNotFoundError", said)
        return restate.TerminalError(said, 404)

    @property
    def _author(self) -> str:
        """Returns the author of the event that says that a turn failed."""
        return getattr(self._app.root_agent, "name", "agent") if self._app is not None else self._key.app_name

    async def _store_failure(self, sessions: TurnSessions, code: str, message: str) -> None:
        event = Event(
            invocation_id=sessions.events[-1].invocation_id if sessions.events else "",
            author=self._author,
            error_code=code,
            error_message=message,
            custom_metadata={TURN_FAILED: True},
        )
        await sessions.add(event)

    async def _failed(self, error: Raisable, sessions: TurnSessions, journal: Journal) -> restate.TerminalError:
        if isinstance(error, ValueError) and not sessions.events:
            return restate.TerminalError(f"The message was refused: {error}", status_of(error) or 400)
        if self._answer.error is None:
            await self._store_failure(sessions, type(error).__name__, str(error))
        raised = any(cause in journal.errors_of_models for cause in chain(error))
        of_model = raised and (is_transient(error) or isinstance(getattr(error, "code", None), int))
        return agent_failed(error, 502 if of_model else 500, of_model=of_model)

    def _run_config(self) -> RunConfig:
        config = merged_config(self._config.run_config, self._request.run_config)
        if config.tool_thread_pool_config is None and self._config.tool_threads:
            config.tool_thread_pool_config = TurnThreads(max_workers=self._config.tool_threads)
        return config
