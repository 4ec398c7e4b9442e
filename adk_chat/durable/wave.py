"""Branches that run beside each other go on together, as under ADK, where their calls wait for nothing.

Who waits for whom: a call that has ended for those that began with it, each until it has ended, waits for something, or
is given up.
"""

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
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
        self._running: set[int] = set()
        self._ended: dict[int, asyncio.Future[None]] = {}
        self._joined = 0

    def join(self) -> int:
        """A call begins; gives its number."""
        self._joined += 1
        self._running.add(self._joined)
        return self._joined

    def is_in(self, call: int) -> bool:
        """Whether it runs, and has not left."""
        return call in self._running

    def leave(self, call: int) -> None:
        """A call waits for something, or nobody waits for it any more."""
        self._running.discard(call)
        if not self._running and self._ended:
            # Not at once: the last one to end has yet to wait for its turn.
            asyncio.get_running_loop().call_soon(self._let_go)

    async def end(self, call: int) -> None:
        """A call that has joined has its result; returns when its branch may go on."""
        if self._running <= {call} and not self._ended:
            self._running.discard(call)
        elif call in self._running:
            ended = self._ended[call] = asyncio.get_running_loop().create_future()
            self.leave(call)
            await ended

    def _let_go(self) -> None:
        ended, self._ended = self._ended, {}
        for _, future in sorted(ended.items()):
            if not future.done():
                future.set_result(None)

    async def run(self, call: int, code: Awaitable[T]) -> T:
        """Run a call, which leaves when it waits for something."""
        return await noting(awaiting(code), lambda: self.leave(call))


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
