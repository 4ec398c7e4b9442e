"""The calls of one response start in their order, as under ADK, although each waits for the journal.

ADK makes a task for each call, and each runs until it waits for something. Plain functions wait for nothing, so under
ADK each call ends before the next one starts. Here every tool call waits for the journal. So a call starts when the one
before it has ended, or waits for something that it would wait for under ADK.

Who waits for whom: a call waits for the one before it, which never waits for a later one. A call that fails waits until
the others have started; only then does ADK see the error and cancel them.
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
    """Threads for plain functions, which keep the event loop free. The functions still run one after the other."""


class Call:
    """One of the calls of a response."""

    def __init__(self, begun: list[asyncio.Event], number: int) -> None:
        self._begun = begun
        self._number = number
        self._steps = 0

    @classmethod
    def current(cls) -> "Call | None":
        """Returns the call of the current code, if its response has several."""
        return _call.get()

    @property
    def waited(self) -> bool:
        """Whether it has waited for something."""
        return self._begun[self._number].is_set()

    def wait(self) -> None:
        """Notes that it waits for something, so that the next call may start."""
        self._begun[self._number].set()

    @contextmanager
    def in_step(self) -> Generator[None, None, None]:
        """Marks a wait for the journal, which would not be a wait under ADK."""
        self._steps += 1
        try:
            yield
        finally:
            self._steps -= 1

    async def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Runs the call when it is its turn."""
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
        """Returns at once: a call that has its result never waits for a later one."""

    def noting(self, code: Awaitable[T]) -> Awaitable[T]:
        """Returns code of a step that calls `wait` when it waits for something."""
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
