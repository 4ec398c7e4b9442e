"""Concurrency that replays: at any time one lane of a Restate invocation runs, and the journal says which is next.

ADK runs the function calls of a model response, and the branches of a parallel agent, as asyncio tasks. Each of them
journals steps, and the engine compares the order of those steps on replay, but the order in which asyncio resumes tasks
is recorded nowhere. So every such task is a *lane*. A lane runs until it awaits the journal or ends; then the next lane
that has not started yet starts; when all of them wait, the first answer *in the order of the journal* lets its lane run
on. Their steps run at the same time, their code does not, and a replay takes the same turns.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import restate

from adk_chat.durable import seams

T = TypeVar("T")


@dataclass(eq=False)
class Lane:
    """One strand of an invocation. Its name is the same on every replay: "0", or "0.1" for the second child of that."""

    name: str
    children: int = 0
    ids: int = 0

    def child(self) -> "Lane":
        """A new lane below this one."""
        self.children += 1
        return Lane(f"{self.name}.{self.children - 1}")


_lane: ContextVar[Lane | None] = ContextVar("lane", default=None)


@dataclass(eq=False)
class _Wait:
    lane: Lane
    future: seams.UnresolvedFuture
    answered: asyncio.Future[None]


@dataclass(eq=False)
class _Start:
    lane: Lane
    due: asyncio.Future[None]


class Lanes:
    """The lanes of one attempt of a Restate invocation; awaits of its context's futures go through here."""

    def __init__(self, context: restate.Context) -> None:
        self._context = context
        self._root = Lane("0")
        self._running: Lane | None = self._root
        self._starts: list[_Start] = []
        self._waits: list[_Wait] = []
        self._pump: asyncio.Task[None] | None = None
        self._over = False
        self.on_cancel: Callable[[restate.TerminalError], BaseException] = lambda error: error
        """What the waiting lanes are told when the Restate invocation is cancelled; by default the SDK's own error."""
        seams.route_awaits(context, self._route)

    @property
    def current(self) -> Lane:
        """The lane of the code that asks."""
        return _lane.get() or self._root

    @property
    def forked(self) -> bool:
        """Whether the code that asks is one of several lanes."""
        return self.current is not self._root

    @contextmanager
    def fork(self, count: int) -> Iterator["Fork"]:
        """Let `count` coroutines run as lanes of their own while the current lane waits for all of them to end."""
        parent = self.current
        loop = asyncio.get_running_loop()
        starts = [_Start(parent.child(), loop.create_future()) for _ in range(count)]
        self._starts[:0] = starts
        self._pass_on()
        try:
            yield Fork(self, starts)
        finally:
            self._starts = [start for start in self._starts if start not in starts]
            self._running = parent

    def _pass_on(self) -> None:
        """Called by the running lane when it ends or waits: let the next one run."""
        self._running = None
        if self._over:
            return
        if self._starts:
            start = self._starts.pop(0)
            self._running = start.lane
            start.due.set_result(None)
        elif self._waits:
            self._stop_pump()
            self._pump = asyncio.create_task(self._answer_first())

    def _stop_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()

    async def _answer_first(self) -> None:
        waits = list(self._waits)
        try:
            await self._poll(seams.first_completed([wait.future for wait in waits]))
        except seams.DisconnectedException:
            self._end(seams.attempt_over())
        except seams.AttemptOver as error:
            self._end(error)
        except restate.TerminalError as cancelled:
            self._raise_everywhere(self.on_cancel(cancelled))
        else:
            first = next(wait for wait in waits if seams.is_completed(self._context, wait.future))
            self._waits.remove(first)
            first.answered.set_result(None)
            self._running = first.lane
            if any(wait.lane is first.lane for wait in self._waits):
                self._pump = None
                self._pass_on()

    def _end(self, error: BaseException) -> None:
        self._over = True
        self._raise_everywhere(error)

    def _raise_everywhere(self, error: BaseException) -> None:
        # All lanes in one go: one that is told later would be cancelled by ADK first, and run its error callbacks.
        waits, self._waits = self._waits, []
        for wait in waits:
            wait.answered.set_exception(error)

    def _route(self, poll: seams.Poll) -> seams.Poll:
        self._poll = poll
        return self._await

    async def _await(self, future: seams.UnresolvedFuture) -> None:
        if self._over:
            raise seams.attempt_over()
        wait = _Wait(self.current, future, asyncio.get_running_loop().create_future())
        self._waits.append(wait)
        if self._running in (None, wait.lane):
            self._pass_on()
        try:
            await wait.answered
        except asyncio.CancelledError:
            if wait in self._waits:
                self._waits.remove(wait)
                self._stop_pump()
                self._running = wait.lane
            raise


class Fork:
    """Lanes that were opened together."""

    def __init__(self, lanes: Lanes, starts: list[_Start]) -> None:
        self._lanes = lanes
        self._starts = starts

    async def run(self, position: int, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` as the lane at `position`, from that lane's turn to start on."""
        start = self._starts[position]
        _lane.set(start.lane)
        try:
            await start.due
        except BaseException:
            coroutine.close()
            raise
        try:
            return await coroutine
        finally:
            self._lanes._pass_on()
