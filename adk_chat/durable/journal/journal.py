"""The journal of one Restate invocation that runs an agent: its steps, and the ids and times between them."""

import asyncio
import contextvars
import random
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import restate
from pydantic import BaseModel, model_validator
from pydantic_core import to_json

from adk_chat.durable.journal import context_vars, keys, seams
from adk_chat.durable.journal.attempt import Attempt, clear_frames, retrieve
from adk_chat.durable.journal.entries import Entries
from adk_chat.durable.journal.errors import is_cancelled
from adk_chat.durable.journal.keys import Key, Strand
from adk_chat.durable.journal.pump import BrokenOffError, ClosedError, Pump
from adk_chat.durable.journal.retry import RetryPolicy
from adk_chat.durable.journal.state_machine import RememberingVm
from adk_chat.durable.journal.step_context import outside_journal
from adk_chat.durable.journal.wave import Wave

T = TypeVar("T")

MAX_BYTES = 8 * 1024 * 1024
"""The largest result of a step. It becomes part of an event and of a reply, and Restate's limit is 32 MiB."""
_TICK = 0.000_001
_IDS = uuid.UUID("5d0ef5b0-2a7c-5ad9-9d0c-0f6c2f6f3b6e")
_BEGAN = "adk_chat began"

# Attributes of a context, which live as long as the attempt.
_JOURNAL, _OPENING = "adk_chat_journal", "adk_chat_opening"


class RestartError(seams.AttemptOver):
    """Requests a new attempt of the Restate invocation, because partial text that ADK has received is void."""

    def __init__(self) -> None:
        super().__init__("A streamed model call broke off and is repeated.")


class _Beginning(BaseModel):
    time: float
    wide: bool = False
    """Whether ids derive from a strand's place. In turns that began before 2026-11-28 they derive from its path."""
    note: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, value: object) -> object:
        # Versions before 2026-11-27 recorded only the time.
        return value if isinstance(value, dict) else {"time": value}


def _beginning(note: Callable[[], BaseModel] | None) -> bytes:
    noted = {} if note is None else note().model_dump(mode="json", exclude_defaults=True)
    return to_json(_Beginning(time=time.time(), note=noted, wide=True))


class AtEnd:
    """Actions that run when the handler has ended for good, and not if there will be another attempt."""

    def __init__(self) -> None:
        self._todo: list[Callable[[], None]] = []
        self._for_good: bool | None = None

    def do(self, what: Callable[[], None]) -> None:
        """Runs an action at the end, or at once if the end has come."""
        if self._for_good is None:
            self._todo.append(what)
        elif self._for_good:
            what()

    def come(self, *, for_good: bool) -> None:
        """Ends the attempt."""
        todo, self._todo, self._for_good = self._todo, [], for_good
        for what in todo if for_good else []:
            what()


@dataclass(frozen=True)
class JournalOptions:
    """How a journal is opened.

    Args:
        retry: how model calls are retried.
        step_timeout: the longest time that one model or tool call may take. More is a transient error.
        id_prefix: the beginning of the ids that are made, so that they are known to come from this Restate invocation;
            by default a prefix of its own.
        abort: set when the Restate invocation is cancelled. Without it, code that waits gets the SDK's own error.
        note: returns what is recorded in the first entry. `Journal.note` has it, on a replay too.
    """

    retry: RetryPolicy
    step_timeout: timedelta | None = None
    id_prefix: str = ""
    abort: asyncio.Event | None = None
    note: Callable[[], BaseModel] | None = None


class Journal:
    """The journal of one Restate invocation that runs an agent.

    While one is open in a context, the models and tools that ADK calls there are journaled steps, and the ids that ADK
    makes are the same on every replay. Outside of it, and inside a step, ADK behaves as if there were no journal.
    """

    def __init__(
        self,
        context: restate.Context,
        attempt: Attempt,
        vm: RememberingVm,
        entries: Entries,
        beginning: "_Beginning",
        options: JournalOptions,
        enter: Callable[[], None],
    ) -> None:
        self.retry = options.retry
        self.step_timeout = None if options.step_timeout is None else options.step_timeout.total_seconds()
        self.before_step: Callable[[], None] | None = None
        """Called before a new step begins. It may record values and send."""
        self.on_model_retry: Callable[[Any], None] | None = None
        """Called with a partial event when a model call failed and is retried. A replay does not call it."""
        self.errors_of_models: list[BaseException] = []
        """What model calls have raised in this attempt."""
        self.runs = 0
        """How many runs of a Runner have begun in this attempt, nested ones included."""
        self.at_end = AtEnd()
        self.vm = vm
        self.resumed = vm.resumed
        self.began = beginning.time
        """When the first attempt began, in seconds since the epoch."""
        self.note = beginning.note
        """What was noted then."""
        self._id = context.request().id
        self.id_prefix = options.id_prefix or str(uuid.uuid5(_IDS, self._id))[:8]
        self._wide = beginning.wide
        self._now = self.began
        self._enter = enter
        self._attempt = attempt
        self._strand = Strand(attempt=attempt)
        self._thread = threading.get_ident()
        self._closed = False
        self._wave: Wave | None = None
        self.pump = Pump(context, vm, entries, attempt)

    @classmethod
    async def open(
        cls, context: restate.Context, options: JournalOptions, enter: Callable[[], None] = lambda: None
    ) -> "Journal":
        """Returns the journal of `context`, which the first call in each attempt opens with its `options`.

        Args:
            context: the context of the running handler.
            options: how it is opened.
            enter: called in each context that opens it.

        Raises:
            StuckError: if code of an earlier attempt still runs in this process, although it was cancelled.
            UnknownCommandError: if the recorded journal cannot be read.
            SdkInternalBaseException: if the handler had ended in an earlier attempt. Restate was told so again.
        """
        # Several runs may begin at once in one handler.
        async with vars(context).setdefault(_OPENING, asyncio.Lock()):
            journal: Journal | None = vars(context).get(_JOURNAL)
            if journal is None:
                attempt = await Attempt.begin(context.request().id, options.abort)
                try:
                    journal = vars(context)[_JOURNAL] = cls._begin(context, attempt, options, enter)
                except BaseException:  # most likely the turn had ended already
                    await attempt.close(well=False, again=False)
                    raise
                seams.when_handler_ends(context, journal._close)
                attempt.check()
        if keys.current_strand() is None:
            keys.enter(journal._strand.child("run"))
        journal._enter()
        return journal

    @classmethod
    def _begin(
        cls, context: restate.Context, attempt: Attempt, options: JournalOptions, enter: Callable[[], None]
    ) -> "Journal":
        outside = contextvars.copy_context()
        entries = seams.entries(context)
        vm = RememberingVm(seams.state_machine(context))
        began = vm.begin(_BEGAN, entries, lambda: _beginning(options.note))
        seams.set_state_machine(context, vm)
        beginning = _Beginning.model_validate_json(began)
        journal = cls(context, attempt, vm, entries, beginning, options, enter)
        keys.enter(journal._strand)
        journal.pump.start(context, outside)
        return journal

    @classmethod
    def current(cls) -> "Journal | None":
        """Returns the journal of the current code; None outside a handler, inside a step, and if none was opened.

        Code that continues after its turn has ended, or runs in another thread or event loop, has none either.
        """
        context = seams.running_context()
        journal: Journal | None = None if context is None else vars(context).get(_JOURNAL)
        if journal is None or journal._closed or journal._thread != threading.get_ident():
            return None
        return journal

    async def run(self, code: Coroutine[Any, Any, T]) -> T:
        """Runs code of the attempt until it ends or the attempt is over.

        Raises:
            BaseException: what the code raised, or what ended the attempt.
        """
        try:
            return await self._attempt.run(code)
        finally:
            self.pump.tell_at_end()

    def wave(self) -> Wave:
        """Returns the wave of the calls that start now, in parallel branches."""
        if self._wave is None or self._wave.moment != self.pump.handed_out:
            self._wave = Wave(self.pump.handed_out)
        return self._wave

    def restart(self) -> RestartError:
        """Ends the attempt so that another one is made. Returns what to raise."""
        error = RestartError()
        self.pump.end(error)
        return error

    async def step(
        self,
        what: str,
        action: Callable[[], Awaitable[bytes]],
        content: str = "",
        label: str = "",
        *,
        moved: bool = True,
        known: Callable[[bytes], None] | None = None,
    ) -> bytes:
        """Runs `action` once and journals its result. A replay returns the result without running it.

        If the process dies before the result is journaled, `action` runs again. Its exceptions become
        `restate.TerminalError`.

        Args:
            what: what the step is for; see `Key`.
            action: runs outside the journal.
            content: identifies what the step is about; see `Key`.
            label: additional text for people.
            moved: whether a recorded step in the same place matches even if its content differs.
            known: called at once with the recorded result, on a replay.
        """
        if self.pump.over is not None:
            raise self.pump.over
        if self._closed:
            return await action()
        key = Key(what, keys.current_path(), content, label)
        step = self.vm.find(key, moved=moved)
        if step is None or not step.known:
            await self.pump.beyond_cancellation()
        step = step or self.vm.issue(key)
        if step.known:
            if known is not None and step.value is not None:
                known(step.value)
            return await self._take(step.result)
        if self.before_step is not None:
            self.before_step()
        context = outside_journal()
        before = context.copy()
        task = asyncio.get_running_loop().create_task(self._act(step.result, action), context=context)
        task.add_done_callback(retrieve)  # Restate tells whoever waits for the step
        try:
            return await self._take(step.result)
        except ClosedError:
            return await task
        except BaseException:
            # A step that nobody waits for is never completed. A replay that does not ask for it leaves it so.
            task.cancel()
            raise
        finally:
            context_vars.give_back(context_vars.changes(before, context))

    async def _act(self, handle: int, action: Callable[[], Awaitable[bytes]]) -> bytes:
        self.pump.actions += 1
        try:
            await self.pump.sent()
            await self.pump.standstill.over()  # after which an attempt that Restate gave up is cancelled
            result = await action()
            if not self._closed:
                self.vm.propose_run_completion_success(handle, result)
            return result
        except BaseException as error:
            if is_cancelled(error):
                raise
            if not self._closed:
                self.vm.propose_run_completion_failure(handle, seams.failure(500, repr(error)))
            raise restate.TerminalError(repr(error), 500) from error
        finally:
            self.pump.actions -= 1
            self.pump.wake()

    async def _take(self, handle: int) -> bytes:
        taken: bytes = await self.pump.result(handle)
        return taken

    def record(self, what: str, make: Callable[[], bytes]) -> bytes:
        """Records a value and returns it. A replay returns the recorded value without calling `make`."""
        return self.record_here(Key(what, keys.ROOT), make)

    def record_here(self, key: Key, make: Callable[[], bytes]) -> bytes:
        """Like `record`, for a key of the current strand."""
        value = self.vm.record(key, make)
        self.pump.wake()
        return value

    def recorded(self, what: str) -> list[bytes]:
        """Returns what earlier attempts recorded under a name, in order."""
        return self.vm.recorded(what)

    def requests(self, service: str, handler: str, key: str) -> list[tuple[int, bytes]]:
        """Returns the requests that earlier attempts sent to a handler, each with the number of its command."""
        return self.vm.memory.requests(service, handler, key)

    async def sleep(self, pause: timedelta, what: str) -> None:
        """Waits. The time also passes while the process is down."""
        await self.pump.result(self.vm.sys_sleep(int(pause.total_seconds() * 1000), what))

    def new_id(self) -> str:
        """Returns a UUID that is the same on every replay if the code does the same."""
        strand = keys.current_strand() or self._strand
        strand.ids += 1
        made = str(uuid.uuid5(_IDS, f"{self._seed(strand)}/{strand.ids}"))
        return self.id_prefix + made[len(self.id_prefix) :]

    def new_span_id(self) -> uuid.UUID:
        """Returns an id for a span, likewise. Tracing changes no other id."""
        strand = keys.current_strand() or self._strand
        strand.spans += 1
        return uuid.uuid5(_IDS, f"{self._seed(strand)}/span {strand.spans}")

    def random(self) -> random.Random:
        """Returns a generator with the same numbers on every replay if the code does the same."""
        strand = keys.current_strand() or self._strand
        strand.random = strand.random or random.Random(self._seed(strand))
        return strand.random

    def _seed(self, strand: Strand) -> str:
        told = self.pump.cancel_point.name
        return f"{self._id}/{strand.place if self._wide else strand.path}{told and f'/{told}'}"

    def time(self) -> float:
        """Returns the latest journaled time and a little more at each call, in seconds; the same on every replay."""
        self._now += _TICK
        return self._now

    def advance(self, to: float) -> None:
        """Advances the time to one that was journaled."""
        self._now = max(self._now, to)

    async def _close(self) -> None:
        """Called when the handler has ended, in whatever way."""
        raised = sys.exc_info()[1]
        again = raised is not None and not isinstance(raised, restate.TerminalError)
        if again or self._attempt.abandoned:
            self.pump.end(raised if isinstance(raised, seams.AttemptOver) else seams.attempt_over())
        await self._attempt.close(well=raised is None, again=again)
        self._closed = self.pump.over is None
        keys.enter(None)
        await self.pump.stop()
        self.before_step = self.on_model_retry = None
        self.at_end.come(for_good=not again)
        if isinstance(raised, seams.AttemptOver) and not self._attempt.goes_on:
            clear_frames(raised)
        if isinstance(raised, BrokenOffError):  # the SDK believes that Restate knows of it already
            self.vm.notify_error(str(raised), "", None)
