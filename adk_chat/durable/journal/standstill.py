"""Notices that the process stood still: somebody has stopped it, its machine was suspended, or code has blocked it.

The engine gives up an attempt whose process does not answer, and has another one made elsewhere. The process knows that
as soon as it reads from its connections. So when it goes on it has to do that before it begins another step.
"""

import asyncio
import contextvars
import time
from weakref import WeakKeyDictionary

_TICK_SECONDS = 0.5
_LONG_SECONDS = 2.0
_READ_SECONDS = 0.25
"""How long it is given to read what has come in meanwhile."""

_of_loops: "WeakKeyDictionary[asyncio.AbstractEventLoop, Standstill]" = WeakKeyDictionary()


class Standstill:
    """Looks twice a second whether the event loop goes on."""

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._until = 0.0
        # It outlives the turn that is the first to ask for it, and would keep what that one has in its context.
        self._context = contextvars.Context()

    @classmethod
    def of_loop(cls) -> "Standstill":
        """That of the event loop that runs here."""
        loop = asyncio.get_running_loop()
        if loop not in _of_loops:
            _of_loops[loop] = cls()
            _of_loops[loop]._tick()
        return _of_loops[loop]

    async def over(self) -> None:
        """Wait until all is read that came in while the process stood still, if it has."""
        if (seconds := self._left()) > 0:
            await asyncio.sleep(seconds)

    def _tick(self) -> None:
        self._left()
        asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick, context=self._context)

    def _left(self) -> float:
        """How many seconds it is given still."""
        now = time.monotonic()
        if now - self._seen > _LONG_SECONDS:
            self._until = now + _READ_SECONDS
        self._seen = now
        return self._until - now
