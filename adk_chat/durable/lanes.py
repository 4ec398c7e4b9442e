"""Concurrency that replays: at any time one lane of a Restate invocation runs, and the journal says which is next.

ADK runs the function calls of a model response, the branches of a parallel agent and the nodes of a workflow as asyncio
tasks. Each of them journals steps, and the engine compares the order of those steps on replay, but the order in which
asyncio resumes tasks is recorded nowhere. So every such task is a *lane*. A lane runs until it awaits the journal or
another lane, or ends; then the lane runs on that has been able to for longest; when none is, the first answer *in the
order of the journal* lets its lane run on. The steps of all lanes run at the same time, their code does not, and a
replay takes the same turns.

`adk_chat.durable.concurrency` is what opens lanes.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import restate

from adk_chat.durable import seams

T = TypeVar("T")

_SETTLE = 100  # rounds of the event loop; tasks that pass something on to each other take a few


@dataclass(eq=False)
class Lane:
    """One strand of an invocation. Its name is the same on every replay: "0", or "0.1" for the second child of that."""

    name: str
    children: int = 0
    ids: int = 0
    spans: int = 0
    random: Random | None = None
    ended: bool = False
    failed: bool = False

    def child(self) -> "Lane":
        """A new lane below this one."""
        self.children += 1
        return Lane(f"{self.name}.{self.children - 1}")


_lane: ContextVar[Lane | None] = ContextVar("lane", default=None)


@dataclass(eq=False)
class _Wait:
    """A lane that awaits the journal."""

    lane: Lane
    future: seams.UnresolvedFuture
    answered: asyncio.Future[None]


@dataclass(eq=False)
class _Turn:
    """A lane that is going to run on, at once or when `due` says so."""

    lane: Lane
    due: Callable[[], bool] = lambda: True
    come: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Lanes:
    """The lanes of one attempt of a Restate invocation; awaits of its context's futures go through here."""

    def __init__(self, context: restate.Context) -> None:
        self._context = context
        self._root = Lane("0")
        self._main = asyncio.current_task()
        self._running: Lane | None = self._root
        self._lanes: WeakKeyDictionary[asyncio.Task[Any], Lane] = WeakKeyDictionary()
        self._open = 0
        self._shared = False
        self._turns: deque[_Turn] = deque()
        self._blocked: list[_Turn] = []
        self._waits: list[_Wait] = []
        self._pump: asyncio.Task[None] | None = None
        self._over: BaseException | None = None
        self.on_cancel: Callable[[restate.TerminalError], BaseException] = lambda error: error
        """What the waiting lanes are told when the Restate invocation is cancelled; by default the SDK's own error."""
        seams.route_awaits(context, self._route)

    @property
    def current(self) -> Lane:
        """The lane of the code that asks."""
        return _lane.get() or self._root

    @property
    def over(self) -> bool:
        """Whether the attempt is over."""
        return self._over is not None

    @property
    def forked(self) -> bool:
        """Whether code runs beside other code: in lanes, or in tasks of one lane that an agent has made itself."""
        return self._open > 1 or self._shared

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that runs `coroutine` in a lane of its own, below the current one, once it is its turn."""
        turn = _Turn(self.current.child())
        self._turns.append(turn)
        self._open += 1
        task = asyncio.create_task(self._run(turn, coroutine))
        self._lanes[task] = turn.lane

        def ended(_: object) -> None:
            if not turn.lane.ended:  # cancelled before it began
                coroutine.close()
                self._end(turn)

        task.add_done_callback(ended)
        return task

    def lane_of(self, task: "asyncio.Future[Any]") -> Lane | None:
        """The lane that a task of `spawn` runs."""
        return self._lanes.get(task) if isinstance(task, asyncio.Task) else None

    async def block(self, awaitable: Awaitable[T], due: Callable[[], bool]) -> T:
        """Await what other lanes bring about; they run meanwhile.

        Args:
            awaitable: what to await.
            due: whether what those lanes have done lets this one run on; asked when a lane ends or `wake` is called.
        """
        if due():
            return await awaitable
        turn = _Turn(self.current, due)
        self._blocked.append(turn)
        self._release()
        try:
            result = await awaitable
        except asyncio.CancelledError:
            # What it still does it does at once: who cancelled it may be waiting for it to end.
            self._withdraw(turn)
            raise
        except BaseException:
            await self._take(turn)
            raise
        await self._take(turn)
        return result

    def wake(self) -> None:
        """Let the blocked lanes run on, one after the other, that can."""
        due = [turn for turn in self._blocked if turn.due()]
        self._blocked = [turn for turn in self._blocked if turn not in due]
        self._turns.extend(due)
        self._pass_on()

    async def acquire(self) -> None:
        """Wait until it is the turn of the current lane, unless it is."""
        if self._running is not self.current and not self._serves_another:
            turn = _Turn(self.current)
            self._turns.append(turn)
            self._pass_on()
            await self._come(turn)

    @property
    def _serves_another(self) -> bool:
        # ADK's Runner appends a lane's event while the lane waits for that.
        return asyncio.current_task() is self._main and self._running not in (None, self.current)

    async def _run(self, turn: _Turn, coroutine: Coroutine[Any, Any, T]) -> T:
        _lane.set(turn.lane)
        try:
            try:
                await turn.come
            except BaseException:
                coroutine.close()
                raise
            return await coroutine
        except BaseException:
            turn.lane.failed = True
            raise
        finally:
            self._end(turn)

    def _end(self, turn: _Turn) -> None:
        turn.lane.ended = True
        self._open -= 1
        self._withdraw(turn)
        if self._running is turn.lane:
            self._running = None
        self.wake()

    async def _take(self, turn: _Turn) -> None:
        if turn in self._blocked:
            self._blocked.remove(turn)
            self._turns.append(turn)
            self._pass_on()
        await self._come(turn)

    async def _come(self, turn: _Turn) -> None:
        try:
            await turn.come
        except asyncio.CancelledError:
            self._withdraw(turn)
            raise

    def _withdraw(self, turn: _Turn) -> None:
        if turn in self._blocked:
            self._blocked.remove(turn)
        if turn in self._turns:
            self._turns.remove(turn)

    def _release(self) -> None:
        if self._running is self.current:
            self._running = None
        self._pass_on()

    def _pass_on(self) -> None:
        """Let the next lane run on, if none does."""
        if self._over is not None:
            while self._turns:
                _tell(self._turns.popleft().come, self._over)
        elif self._running is None and self._turns:
            self._stop_pump()
            turn = self._turns.popleft()
            self._running = turn.lane
            _tell(turn.come, None)
        elif self._running is None and self._waits:
            self._stop_pump()
            self._pump = asyncio.create_task(self._answer_first())

    def _stop_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    async def _answer_first(self) -> None:
        if self.forked:
            # Tasks that ADK or an agent made without our knowing get to where they wait for the journal.
            for _ in range(_SETTLE):
                await asyncio.sleep(0)
        waits = list(self._waits)
        if await self._failure_of(seams.first_completed([wait.future for wait in waits])) is None:
            first = next(wait for wait in waits if seams.is_completed(self._context, wait.future))
            self._waits.remove(first)
            self._pump = None
            _tell(first.answered, None)
            # Where several tasks of one lane wait, what the one does now does not keep the others waiting.
            self._running = None if any(wait.lane is first.lane for wait in self._waits) else first.lane
            self._pass_on()

    async def _failure_of(self, future: seams.UnresolvedFuture) -> BaseException | None:
        """Await the engine's answer to `future`; if there is none, give why, after all lanes have been told."""
        try:
            await self._poll(future)
        except restate.TerminalError as cancelled:
            error = self.on_cancel(cancelled)
            self._raise_everywhere(error)
            return error
        except (seams.DisconnectedException, seams.AttemptOver) as over:
            self._over = over if isinstance(over, seams.AttemptOver) else seams.attempt_over()
            self._raise_everywhere(self._over)
            self._pass_on()
            return self._over
        return None

    def _raise_everywhere(self, error: BaseException) -> None:
        # All lanes in one go: one that is told later would be cancelled by ADK first, and run its error callbacks.
        self._pump = None
        waits, self._waits = self._waits, []
        for wait in waits:
            _tell(wait.answered, error)

    def _route(self, poll: seams.Poll) -> seams.Poll:
        self._poll = poll
        return self._await

    async def _await(self, future: seams.UnresolvedFuture) -> None:
        if self._over is not None:
            raise self._over
        if self._serves_another:
            error = await self._failure_of(future)
            if error is not None:
                raise error
            return
        wait = _Wait(self.current, future, asyncio.get_running_loop().create_future())
        self._shared = self._shared or any(other.lane is wait.lane for other in self._waits)
        self._waits.append(wait)
        self._release()
        try:
            await wait.answered
        except asyncio.CancelledError:
            if wait in self._waits:
                self._waits.remove(wait)
                self._stop_pump()
                self._pass_on()
            raise


def _tell(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
