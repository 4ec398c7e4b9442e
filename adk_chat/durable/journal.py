"""The journal of one Restate invocation that runs an agent: its steps, and the ids and times made between them."""

import asyncio
import contextvars
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

import restate
from google.adk import platform
from google.adk.platform import time as platform_time
from google.adk.platform import uuid as platform_uuid
from restate import RestateDurableFuture
from restate.serde import BytesSerde

from adk_chat.durable import seams
from adk_chat.durable.lanes import Lanes
from adk_chat.durable.retry import RetryPolicy

record = seams.record

MAX_BYTES = 8 * 1024 * 1024
"""The largest result of a step. It goes into an event and a reply, and the engine refuses messages of 32 MiB."""
_TICK = 0.000_001
_IDS = uuid.UUID("5d0ef5b0-2a7c-5ad9-9d0c-0f6c2f6f3b6e")
_SLOW = timedelta(milliseconds=100)
# The engine stops listening to a handler that journals nothing for a minute: a cancellation would no longer reach it.
_HEARTBEAT = timedelta(seconds=25)
_any_random = random.Random()

_JOURNAL = "adk_chat_journal"  # of a context; both end with the attempt


class _NoContext:
    """What code inside a journaled step gets where it asks for the Restate context."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(
            "The Restate context was asked for inside a journaled step, where nothing can be journaled. "
            "If this tool needs Restate itself, decorate it with @adk_chat.restate_tool; it then runs outside a step."
        )


class RestartError(seams.AttemptOver):
    """Asks for a new attempt of the Restate invocation, because ADK was handed what turned out to be void."""

    def __init__(self) -> None:
        super().__init__("A streamed model call broke off and is made again.")


class Journal:
    """Durability of an agent's run inside one Restate invocation.

    While one is open for a context, the models and tools that ADK calls in that context are journaled steps, and the
    ids that ADK makes are the same on every replay. Outside, and inside a step, ADK behaves as if it were not there.
    """

    def __init__(
        self, context: restate.Context, retry: RetryPolicy, step_timeout: timedelta | None, id_prefix: str, began: float
    ) -> None:
        self.context = context
        self.lanes = Lanes(context)
        self.retry = retry
        self.step_timeout = None if step_timeout is None else step_timeout.total_seconds()
        self.on_slow_step: Callable[[], Awaitable[None]] | None = None
        """Awaited once a step has taken 100 ms, if it is set; it may journal steps itself."""
        self.before_step: Callable[[], Awaitable[None]] | None = None
        """Awaited before a step begins, if it is set; it may journal steps itself."""
        self._watched: dict[RestateDurableFuture[bytes], Callable[[], Awaitable[None]]] = {}
        self._id = context.request().id
        self.id_prefix = id_prefix or str(uuid.uuid5(_IDS, self._id))[:8]
        self.runs = 0
        """How many runs of a Runner have begun in this attempt, one within another too."""
        self.began = began
        """When the first attempt began, in seconds since the epoch."""
        self._now = began
        self._steps = 0
        self._due: dict[int, Callable[[], None]] = {}
        self._tasks: dict[int, asyncio.Task[bytes]] = {}
        self._unwanted: set[int] = set()

    @classmethod
    async def open(
        cls, context: restate.Context, retry: RetryPolicy, step_timeout: timedelta | None = None, id_prefix: str = ""
    ) -> "Journal":
        """The journal of `context`, opened by the first call in each attempt.

        Args:
            context: of the running handler.
            retry: how model calls are retried.
            step_timeout: how long one model or tool call may take; longer is an error that may pass.
            id_prefix: how the ids begin that ADK makes, so that what came from this invocation is known by them; by
                default a beginning that no other invocation has.
        """
        journal: Journal | None = vars(context).get(_JOURNAL)
        if journal is None:
            began = await record(context, "time", lambda: str(time.time()).encode())
            journal = vars(context)[_JOURNAL] = cls(context, retry, step_timeout, id_prefix, float(began))
            install_providers()
        return journal

    @classmethod
    def current(cls) -> "Journal | None":
        """The journal of the code that asks; None outside a handler, inside a step, and where none was opened."""
        context = seams.running_context()
        return None if context is None else vars(context).get(_JOURNAL)

    async def step(self, name: str, action: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """Run `action` once and journal what it returns; a replay gives that back without running it.

        If the process dies before that, `action` runs again. An exception of it is a `restate.TerminalError` here.
        """
        await self.lanes.acquire()
        if self.before_step is not None:
            await self.before_step()
        surroundings = contextvars.copy_context()
        surroundings.run(_leave_journal)

        self._steps += 1
        number = self._steps

        async def run() -> bytes:
            # A task of its own: the SDK runs steps in the context of whoever polls, not of whoever asked for the step.
            # And the SDK starts steps that are due together in any order; ADK starts them in the order of the calls.
            started: asyncio.Future[asyncio.Task[bytes]] = asyncio.get_running_loop().create_future()
            self._due[number] = lambda: started.set_result(asyncio.create_task(action(), context=surroundings))
            await asyncio.sleep(0)
            for due in sorted(self._due):
                self._due.pop(due)()
            self._tasks[number] = started.result()
            try:
                return await self._tasks[number]
            finally:
                del self._tasks[number]

        async def run_if_wanted() -> bytes:
            # A step that nobody waits for any more is journaled as ended, or a replay would begin it again.
            try:
                if number not in self._unwanted:
                    return await run()
            except asyncio.CancelledError:
                if number not in self._unwanted:
                    raise
            raise restate.TerminalError("The step was cancelled.", 499)

        pause = _SLOW if self.on_slow_step is not None else _HEARTBEAT
        try:
            result = self.context.run_typed(name, run_if_wanted, restate.RunOptions(serde=BytesSerde(), max_attempts=1))
            timer = self.context.sleep(pause)
            while result not in (done := (await restate.wait_completed(result, timer, *self._watched))[0]):
                await self._notice(done)
                if timer in done:
                    if self.on_slow_step is not None:
                        await self.on_slow_step()
                    timer = self.context.sleep(_HEARTBEAT)
            return await result
        except seams.JournalError as error:
            raise seams.attempt_over() from error
        except asyncio.CancelledError:
            self._unwanted.add(number)
            if number in self._tasks:
                self._tasks[number].cancel()
            raise

    def watch(self, future: RestateDurableFuture[bytes], then: Callable[[], Awaitable[None]]) -> None:
        """Await `then` once `future` is completed: while a later step runs, or in `settle`. It may not journal."""
        self._watched[future] = then

    async def settle(self) -> None:
        """Wait for all that is watched."""
        while self._watched:
            await self._notice((await restate.wait_completed(*self._watched))[0])

    async def _notice(self, done: list[Any]) -> None:
        for future in [future for future in self._watched if future in done]:
            # Another lane may have been told of it as well.
            if (then := self._watched.pop(future, None)) is not None:
                await then()

    async def record(self, name: str, make: Callable[[], bytes]) -> bytes:
        """Journal a value that is at hand; a replay gives that back without asking `make`."""
        if not self.lanes.forked:
            return await record(self.context, name, make)

        async def value() -> bytes:
            return make()

        # A replay waits for what the first run did not wait for, and would let other lanes run on in between.
        return await self.step(name, value)

    def new_id(self) -> str:
        """A UUID that is the same on every replay of this invocation."""
        lane = self.lanes.current
        lane.ids += 1
        made = str(uuid.uuid5(_IDS, f"{self._id}/{lane.name}/{lane.ids}"))
        return self.id_prefix + made[len(self.id_prefix) :]

    def new_span_id(self) -> uuid.UUID:
        """An id for a span, the same on every replay; whether anybody traces changes no other id."""
        lane = self.lanes.current
        lane.spans += 1
        return uuid.uuid5(_IDS, f"{self._id}/{lane.name}/span {lane.spans}")

    @property
    def is_replaying(self) -> bool:
        """Whether what runs now has run before, or will be made again because the attempt is over."""
        return self.lanes.over or seams.is_replaying(self.context)

    def random(self) -> random.Random:
        """A generator whose numbers are the same on every replay of this invocation."""
        lane = self.lanes.current
        lane.random = lane.random or random.Random(f"{self._id}/{lane.name}")
        return lane.random

    def time(self) -> float:
        """Seconds since the epoch, the same on every replay: the latest time journaled, and a little more each time."""
        self._now += _TICK
        return self._now

    def advance(self, to: float) -> None:
        """Note a time that has been journaled."""
        self._now = max(self._now, to)


def _leave_journal() -> None:
    seams.replace_context(_NoContext())


def install_providers() -> None:
    """Let ADK ask the journal for ids, times and chance, in the current `contextvars` context and its copies."""
    platform_uuid.set_id_provider(_new_id)
    platform_time.set_time_provider(_time)
    platform.set_random_provider(_random)


def _new_id() -> str:
    journal = Journal.current()
    return str(uuid.uuid4()) if journal is None else journal.new_id()


def _random() -> random.Random:
    journal = Journal.current()
    return _any_random if journal is None else journal.random()


def _time() -> float:
    journal = Journal.current()
    return time.time() if journal is None else journal.time()
