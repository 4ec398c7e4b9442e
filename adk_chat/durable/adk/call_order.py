"""The calls of one response begin in their order, as under ADK, where a step takes time that a call there would not.

ADK makes a task for each call, one after the other, and each runs until it has to wait for something: where nothing
waits, as in plain functions, a call has ended before the next one begins. Here every call of a tool waits for the
journal. So a call begins when the one before it has ended, or waits for something that it would wait for under ADK.

Who waits for whom: a call for the one before it, which waits for nothing of this. A call that fails waits for the
others to have begun, before ADK hears of it and cancels them.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from google.adk.agents.run_config import ToolThreadPoolConfig

from adk_chat.durable.journal.journal import Journal
from adk_chat.durable.journal.wave import awaiting, noting

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


def ordered_batches(execute: Any) -> Any:
    """Makes `_batch_executor._execute_prepared_function_calls` start the calls of a response in their order."""

    async def execute_in_order(context: Any, prepared: list[Any], *, call_executor: Any, **more: Any) -> Any:
        if len(prepared) == 1 or Journal.current() is None:
            return await execute(context, prepared, call_executor=call_executor, **more)
        begun = [asyncio.Event() for _ in prepared]
        calls = {id(call): Call(begun, number) for number, call in enumerate(prepared)}

        def run(call: Any) -> Any:
            return calls[id(call)].run(call_executor(call))

        return await execute(context, prepared, call_executor=run, **more)

    return execute_in_order
