"""Notices that the process stood still: it was stopped, its machine was suspended, or code blocked it.

Restate gives up an attempt whose process does not answer, and runs another one elsewhere. The process learns that as
soon as it reads from its connections. So it must read before it starts another step.
"""

import asyncio
import contextvars
import time
from weakref import WeakKeyDictionary

_TICK_SECONDS = 0.5
_LONG_SECONDS = 2.0
_READ_SECONDS = 0.25
"""How long it takes to read what has arrived meanwhile."""

_of_loops: "WeakKeyDictionary[asyncio.AbstractEventLoop, Standstill]" = WeakKeyDictionary()


class Standstill:
    """Checks twice a second whether the event loop runs."""

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._until = 0.0
        # It outlives the turn that asks for it first, and would keep that turn's context.
        self._context = contextvars.Context()

    @classmethod
    def of_loop(cls) -> "Standstill":
        """Returns the one of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in _of_loops:
            _of_loops[loop] = cls()
            _of_loops[loop]._tick()
        return _of_loops[loop]

    async def over(self) -> None:
        """Waits until everything is read that arrived while the process stood still."""
        if (seconds := self._left()) > 0:
            await asyncio.sleep(seconds)

    def _tick(self) -> None:
        self._left()
        asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick, context=self._context)

    def _left(self) -> float:
        """Returns the seconds that are left for that."""
        now = time.monotonic()
        if now - self._seen > _LONG_SECONDS:
            self._until = now + _READ_SECONDS
        self._seen = now
        return self._until - now
