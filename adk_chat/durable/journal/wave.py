"""Parallel branches continue together, as under ADK, if their calls wait for nothing.

Who waits for whom: a call that has ended waits for those that started with it, until each has ended, waits for
something, or is given up.
"""

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class Wave:
    """Calls of parallel branches that started together.

    Under ADK, a call that waits for nothing ends where it starts, so all have ended before any branch continues. Here
    each result is journaled first. So no branch continues before all calls have their results; then they continue in
    the order in which they started. A call that waits for something leaves the wave, and its branch continues when the
    call ends.
    """

    def __init__(self, moment: int) -> None:
        self.moment = moment
        """How many results the pump had handed out by then. Code that is woken by a later one starts a new wave."""
        self.running: set[Place] = set()
        self.ended: dict[Place, asyncio.Future[None]] = {}
        self._joined = 0

    def join(self) -> "Place":
        """Adds a call that starts."""
        self._joined += 1
        place = Place(self, self._joined)
        self.running.add(place)
        return place

    def let_go(self) -> None:
        """Lets those that have ended continue, if nothing is running any more."""
        if not self.running and self.ended:
            # Not at once: the last call to end has yet to wait for its turn.
            asyncio.get_running_loop().call_soon(self._let_go)

    def _let_go(self) -> None:
        ended, self.ended = self.ended, {}
        for place in sorted(ended, key=lambda place: place.number):
            if not ended[place].done():
                ended[place].set_result(None)


class Place:
    """The place of one call in a wave."""

    def __init__(self, wave: Wave, number: int) -> None:
        self.number = number
        self._wave = wave

    @property
    def waited(self) -> bool:
        """Whether the call has waited for something."""
        return self not in self._wave.running

    def wait(self) -> None:
        """Leaves the wave, because the call waits for something or is over."""
        self._wave.running.discard(self)
        self._wave.let_go()

    def noting(self, code: Awaitable[T]) -> Awaitable[T]:
        """Returns the code of the call, which leaves the wave when it waits for something."""
        return noting(awaiting(code), self.wait)

    @contextmanager
    def in_step(self) -> Generator[None, None, None]:
        """Marks a step, which is not a wait under ADK."""
        try:
            yield
        finally:
            self.wait()

    async def end(self) -> None:
        """Waits until the branch of the call may continue. The call has its result."""
        wave = self._wave
        if self.waited or (wave.running == {self} and not wave.ended):
            return
        ended = wave.ended[self] = asyncio.get_running_loop().create_future()
        self.wait()
        await ended


async def awaiting(code: Awaitable[T]) -> T:
    """Turns an awaitable into a coroutine."""
    return await code


@types.coroutine
def noting(code: Coroutine[Any, Any, T], waits: Callable[[], None]) -> Generator[Any, Any, T]:
    """Runs code in this task, and calls `waits` each time it waits for something."""
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
