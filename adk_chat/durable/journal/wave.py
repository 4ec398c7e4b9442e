"""Branches that run beside each other go on together, as under ADK, where their calls wait for nothing.

Who waits for whom: a call that has ended for those that began with it, each until it has ended, waits for something, or
is given up.
"""

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Wave:
    """Calls of branches that have begun at once.

    Under ADK a call that waits for nothing ends where it begins: all of them have, before any branch goes on. Here each
    has a result that has to be journaled first. So none of their branches goes on before all have theirs; then they do
    in the order in which they began. A call that waits for something leaves, and its branch goes on when it has ended.
    """

    def __init__(self, moment: int) -> None:
        self.moment = moment
        """How many results the pump had handed out by then: code that goes on by another one begins something else."""
        self.running: set[Place] = set()
        self.ended: dict[Place, asyncio.Future[None]] = {}
        self._joined = 0

    def join(self) -> "Place":
        """A call begins."""
        self._joined += 1
        place = Place(self, self._joined)
        self.running.add(place)
        return place

    def let_go(self) -> None:
        """Let those that have ended go on, if nothing runs any more."""
        if not self.running and self.ended:
            # Not at once: the last one to end has yet to wait for its turn.
            asyncio.get_running_loop().call_soon(self._let_go)

    def _let_go(self) -> None:
        ended, self.ended = self.ended, {}
        for place in sorted(ended, key=lambda place: place.number):
            if not ended[place].done():
                ended[place].set_result(None)


class Place:
    """That of one call in a wave."""

    def __init__(self, wave: Wave, number: int) -> None:
        self.number = number
        self._wave = wave

    @property
    def waited(self) -> bool:
        """Whether the call has waited for something."""
        return self not in self._wave.running

    def wait(self) -> None:
        """It waits for something, or is over: it leaves the wave."""
        self._wave.running.discard(self)
        self._wave.let_go()

    def noting(self, code: Awaitable[T]) -> Awaitable[T]:
        """The code of the call, which leaves when it waits for something."""
        return noting(awaiting(code), self.wait)

    @contextmanager
    def in_step(self) -> Generator[None, None, None]:
        """It is a step, as it is not under ADK."""
        try:
            yield
        finally:
            self.wait()

    async def end(self) -> None:
        """It has its result; returns when its branch may go on."""
        wave = self._wave
        if self.waited or (wave.running == {self} and not wave.ended):
            return
        ended = wave.ended[self] = asyncio.get_running_loop().create_future()
        self.wait()
        await ended


async def awaiting(code: Awaitable[T]) -> T:
    """An awaitable as a coroutine."""
    return await code


@types.coroutine
def noting(code: Coroutine[Any, Any, T], waits: Callable[[], None]) -> Generator[Any, Any, T]:
    """Run code in this task, and say each time that it waits for something."""
    step, given = code.send, None
    while True:
        try:
            awaited = step(given)
        except StopIteration as ended:
            result: T = ended.value
            return result
        waits()
        try:
            given, step = (yield awaited), code.send
        except BaseException as raised:
            given, step = raised, code.throw
