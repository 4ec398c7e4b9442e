"""The calls of one response begin in their order, as under ADK, where a step takes time that a call there would not.

ADK makes a task for each call, one after the other, and each runs until it has to wait for something: where nothing
waits, as in plain functions, a call has ended before the next one begins. Here every call of a tool waits for the
journal. So a call begins when the one before it has ended, or waits for something that it would wait for under ADK.

Who waits for whom: a call for the one before it, which waits for nothing of this. A call that fails waits for the
others to have begun, before ADK hears of it and cancels them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from google.adk.agents.run_config import ToolThreadPoolConfig

from adk_chat.durable import seams
from adk_chat.durable.journal import Journal
from adk_chat.durable.wave import awaiting, noting

T = TypeVar("T")

_call: "ContextVar[Call | None]" = ContextVar("adk_chat_call", default=None)


class TurnThreads(ToolThreadPoolConfig):
    """Threads for plain functions, so that the event loop goes on; they run one after the other all the same."""


class Call:
    """One of the calls of a response."""

    def __init__(self, begun: list[asyncio.Event], number: int) -> None:
        self._begun = begun
        self._number = number
        self._steps = 0

    @classmethod
    def current(cls) -> "Call | None":
        """That which the asking code belongs to, where there are others beside it."""
        return _call.get()

    @property
    def waited(self) -> bool:
        """Whether it has waited for something."""
        return self._begun[self._number].is_set()

    def wait(self) -> None:
        """It waits for something, so that the next one may begin."""
        self._begun[self._number].set()

    @contextmanager
    def in_step(self) -> Generator[None, None, None]:
        """It waits for a step, as it would not under ADK."""
        self._steps += 1
        try:
            yield
        finally:
            self._steps -= 1

    async def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Run it, in its turn."""
        _call.set(self)
        try:
            if self._number:
                await self._begun[self._number - 1].wait()
            return await noting(call, lambda: None if self._steps else self.wait())
        except Exception:
            self.wait()
            await self._begun[-1].wait()
            raise
        finally:
            call.close()
            self.wait()

    async def end(self) -> None:
        """It has its result, and goes on: who comes after it waits for it, and it for nobody."""

    def noting(self, code: Awaitable[T]) -> Awaitable[T]:
        """Code of a step of it: what that waits for, the call waits for."""
        return noting(awaiting(code), self.wait)


def _runner(calls: int) -> "Callable[[int, Coroutine[Any, Any, T]], Coroutine[Any, Any, T]] | None":
    """What runs the calls of one response, by their number; None where ADK does."""
    if calls == 1 or Journal.current() is None:
        return None
    begun = [asyncio.Event() for _ in range(calls)]
    return lambda number, call: Call(begun, number).run(call)


def install() -> None:
    """Let ADK run the calls of one response in their order."""
    seams.drives(noting, "code")
    seams.wrap_batches(_runner)
