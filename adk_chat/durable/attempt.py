"""One attempt of a Restate invocation: the tasks that its code makes, and their end.

An attempt that is over is over: its tasks are cancelled and gone before the next one of the same Restate invocation
begins in this process. Tasks that libraries make for what outlives a turn, as the connections of MCP, are not its
tasks; nor are those that code leaves behind on purpose when a turn has ended well.
"""

import asyncio
import sysconfig
import weakref
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, TypeVar

from adk_chat.durable import keys, seams
from adk_chat.durable.errors import ErrorRecord
from adk_chat.durable.keys import Strand

T = TypeVar("T")

_END_SECONDS = 2.0
_TOLD_SECONDS = 0.05
_CANCEL_SECONDS = (1.0, 0.3)
"""What was told of a cancellation may take the first, and the second once its task is cancelled."""
_INSTALLED = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_LIVE_ON = tuple(f"google.adk.{name}" for name in ("tools", "plugins", "integrations", "memory", "models", "telemetry"))
"""The modules of ADK whose tasks are for what outlives a turn."""


class StuckError(Exception):
    """Code of an earlier attempt does not heed that it was cancelled, so that it would run beside the next one."""


class IgnoredCancelError(Exception):
    """The turn was cancelled, and code of the agent goes on as if it were not."""


class Attempt:
    """The tasks of one attempt.

    Args:
        invocation_id: the Restate invocation.
    """

    _running: ClassVar["dict[str, Attempt]"] = {}

    def __init__(self, invocation_id: str) -> None:
        self._id = invocation_id
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._over = asyncio.get_running_loop().create_future()
        self._cancelled = asyncio.get_running_loop().create_future()
        self.strand = Strand(attempt=self)
        self.abandoned = False
        """Whether code of it goes on although the turn has ended."""

    @classmethod
    async def begin(cls, invocation_id: str) -> "Attempt":
        """A new attempt, once nothing of the one before runs here any more.

        Raises:
            StuckError: that does not end.
        """
        before = cls._running.get(invocation_id)
        if before is not None:
            before.end(seams.attempt_over())
        if before is not None and (left := await before._cancel_tasks()):
            raise StuckError(
                f"Code of an earlier attempt at this turn goes on although it was cancelled: {_names(left)}. "
                "It has to let asyncio.CancelledError through."
            )
        attempt = cls._running[invocation_id] = cls(invocation_id)
        _follow_tasks(asyncio.get_running_loop())
        return attempt

    def enter(self) -> None:
        """Let what the current context runs belong to the attempt."""
        keys.enter(self.strand)

    def add(self, task: "asyncio.Task[Any]") -> None:
        """A task was made by code of the attempt."""
        self._tasks.add(task)

    def end(self, over: BaseException) -> None:
        """The attempt is over; `run` raises that."""
        if not self._over.done():
            self._over.set_result(over)

    def cancel(self) -> None:
        """The turn is cancelled: what `run` runs has been told, and has a moment to end."""
        if not self._cancelled.done():
            self._cancelled.set_result(None)

    async def run(self, code: Coroutine[Any, Any, T]) -> T:
        """Run code in a task of its own until it ends, or the attempt is over.

        Raises:
            BaseException: what the code raised, or that with which the attempt was ended.
            IgnoredCancelError: the turn was cancelled a second ago, and the code runs still.
        """
        task = asyncio.create_task(code)
        await asyncio.wait([task, self._over, self._cancelled], return_when=asyncio.FIRST_COMPLETED)
        for seconds in _CANCEL_SECONDS:
            if not self._over.done() and not task.done():
                await asyncio.wait([task, self._over], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if not task.done():
                    task.cancel()
        if self._over.done():
            over: BaseException = self._over.result()
            # Code that waits for the engine was told. A cancellation would make ADK call its error callbacks.
            await asyncio.wait([task], timeout=_TOLD_SECONDS)
            await self._cancel_tasks()
            if task.done() and not task.cancelled():
                task.exception()  # which is what has ended the attempt
            raise over
        if not task.done():
            self.abandoned = True
            raise IgnoredCancelError(
                f"Code of the agent goes on although the turn was cancelled: {_names(self._tasks)}."
            )
        return task.result()

    async def close(self, *, again: bool) -> None:
        """The handler has ended.

        Args:
            again: whether there will be another attempt.
        """
        left = await self._cancel_tasks() if again else set()
        if not left and self._running.get(self._id) is self:
            del self._running[self._id]

    async def _cancel_tasks(self) -> "set[asyncio.Task[Any]]":
        """Cancel what runs still; gives what does not heed that."""
        end = asyncio.get_running_loop().time() + _END_SECONDS
        left = {task for task in self._tasks if not task.done() and task is not asyncio.current_task()}
        pause = 0.001
        while left and asyncio.get_running_loop().time() < end:
            # Code may catch it once, or await something as it ends.
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=pause)
            pause = min(2 * pause, 0.5)
        return left


def _names(tasks: "Iterable[asyncio.Task[Any]]") -> str:
    return ", ".join(sorted({getattr(task.get_coro(), "__qualname__", "?") for task in tasks if not task.done()}))


_Factory = Callable[..., "asyncio.Future[Any]"]


def _follow_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Give each task that code of an attempt makes a strand of its own."""
    factory: Any = loop.get_task_factory()
    if isinstance(factory, _TaskFactory):
        return
    loop.set_task_factory(_TaskFactory(factory or asyncio.Task))


class _TaskFactory:
    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._named = make is asyncio.Task

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        strand = keys.current_strand()
        if options.get("context") is not None or strand is None or strand.attempt is None:
            return self._new(loop, coro, options)
        name = getattr(coro, "__qualname__", "")
        options["context"] = keys.child_context(strand.child(name))
        if not _is_of_agent(coro):
            return self._new(loop, coro, options)
        contained: Any = _contained(coro)
        contained.__qualname__ = name
        task = self._new(loop, contained, options)
        strand.attempt.add(task)
        return task

    def _new(self, loop: asyncio.AbstractEventLoop, coro: Any, options: dict[str, Any]) -> Any:
        return self._make(coro, loop=loop, **options) if self._named else self._make(loop, coro, **options)


async def _contained(coro: Coroutine[Any, Any, T]) -> T:
    try:
        return await coro
    except SystemExit as error:  # asyncio would end the event loop, and the process with all turns
        raise ErrorRecord.of(error).rebuild() from error


def _is_of_agent(coro: Any) -> bool:
    frame = getattr(coro, "cr_frame", None)
    if frame is None:
        return False
    module = str(frame.f_globals.get("__name__", ""))
    if module.startswith("google.adk."):
        return not module.startswith(_LIVE_ON)
    return module.startswith("adk_chat.") or not frame.f_code.co_filename.startswith(_INSTALLED)
