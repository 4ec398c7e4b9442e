"""One attempt of a Restate invocation: the tasks that its code creates, and their end.

When an attempt is over, its tasks are cancelled and gone before the next attempt of the same Restate invocation begins
in this process. Tasks that libraries create for longer-lived things, such as MCP connections, do not belong to it. Nor
do tasks that code leaves running on purpose when a turn has ended well.
"""

import asyncio
import traceback
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, ClassVar, TypeVar

from adk_chat.durable.journal import keys, seams
from adk_chat.durable.journal.errors import as_exception
from adk_chat.durable.journal.locks import Holds
from adk_chat.durable.journal.work import Timers, Wait, waits_for

T = TypeVar("T")

_END_SECONDS = 2.0
_TOLD_SECONDS = 0.05
_CANCEL_SECONDS = (0.05, 1.0, 0.3)
"""After a cancellation: the time to end by itself, and then the time after each cancellation of the task."""
_LIVE_ON = tuple(f"google.adk.{name}" for name in ("tools", "plugins", "integrations", "memory", "models", "telemetry"))
"""ADK modules whose tasks outlive a turn."""
_LIBRARIES = {
    "a2a",
    "aio_pika",
    "aiobotocore",
    "aiohttp",
    "aiokafka",
    "aiormq",
    "apscheduler",
    "asyncpg",
    "fastmcp",
    "granian",
    "grpc",
    "hypercorn",
    "litellm",
    "mcp",
    "nats",
    "playwright",
    "psycopg_pool",
    "pymongo",
    "redis",
    "restate",
    "sqlalchemy",
    "starlette",
    "temporalio",
    "uvicorn",
    "websockets",
}
"""Libraries whose tasks are for connections, pools, sessions and servers, which outlive a turn."""


async def _nothing() -> AsyncGenerator[None, None]:
    yield


_ASEND = type(anext(_nothing()))
"""The type of what `anext` returns for an async generator. A task may run it directly."""


class StuckError(Exception):
    """Code of an earlier attempt ignores its cancellation and would run beside the next attempt."""


class IgnoredCancelError(Exception):
    """The turn was cancelled, and code of the agent ignores that."""


class Attempt:
    """The tasks of one attempt.

    Args:
        invocation_id: the Restate invocation.
        abort: set when it is cancelled, if the code in `run` is told that way.
    """

    _running: ClassVar["dict[str, Attempt]"] = {}

    def __init__(self, invocation_id: str, abort: asyncio.Event | None) -> None:
        self._id = invocation_id
        self._abort = abort
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        """The tasks that code of the attempt has created."""
        self.timers = Timers()
        """The timers that it has set."""
        self._handler = asyncio.current_task()
        """The server's task, which runs the handler."""
        self._over = asyncio.get_running_loop().create_future()
        self._cancelled = asyncio.get_running_loop().create_future()
        self.holds = Holds()
        self._beside: set[asyncio.Task[Any]] = set()
        self.abandoned = False
        """Whether its code continues although the turn has ended."""

    @classmethod
    async def begin(cls, invocation_id: str, abort: asyncio.Event | None) -> "Attempt":
        """Starts an attempt when nothing of the previous one runs here any more; see `check` for what does not end."""
        attempt = cls(invocation_id, abort)
        before = cls._running.get(invocation_id)
        if before is not None:
            before.end(seams.attempt_over())
            attempt._beside = await before._cancel_tasks(_END_SECONDS)
        if not attempt._beside:
            cls._running[invocation_id] = attempt
        _follow_tasks(asyncio.get_running_loop())
        return attempt

    def check(self) -> None:
        """Checks that nothing of an earlier attempt is still running.

        Raises:
            StuckError: if something is.
        """
        if self._beside:
            raise StuckError(
                f"Code of an earlier attempt at this turn is still running although it was cancelled: "
                f"{_names(self._beside)}. It must not suppress asyncio.CancelledError."
            )

    def add(self, task: "asyncio.Task[Any]") -> None:
        """Adds a task that code of the attempt has created."""
        self.tasks.add(task)

    def waits_for(self, engine: "Iterable[asyncio.Future[None]]") -> Wait:
        """Returns what its code waits for, given the futures that the pump completes."""
        if self.timers.pending() or self.holds.anything:
            return Wait.WORK
        tasks = [task for task in (*self.tasks, self._handler) if task is not None and not task.done()]
        return waits_for(tasks, {*engine, self._over, self._cancelled})

    def end(self, over: BaseException) -> None:
        """Ends the attempt. `run` raises `over`."""
        if not self._over.done():
            self._over.set_result(over)
        for task in self.tasks:
            task.add_done_callback(retrieve)

    def cancel(self) -> bool:
        """Tells the code in `run` that the turn is cancelled, and gives it a moment to end.

        Returns whether the code is told that way.
        """
        if self._abort is None:
            return False
        self._abort.set()
        if not self._cancelled.done():
            self._cancelled.set_result(None)
        return True

    async def run(self, code: Coroutine[Any, Any, T]) -> T:
        """Runs code in a task until it ends or the attempt is over.

        Raises:
            BaseException: what the code raised, or what ended the attempt.
            IgnoredCancelError: if the turn was cancelled more than a second ago, and the code is still running.
        """
        task = asyncio.create_task(code)
        await asyncio.wait([task, self._over, self._cancelled], return_when=asyncio.FIRST_COMPLETED)
        for seconds in _CANCEL_SECONDS:
            if not self._over.done() and not task.done():
                await asyncio.wait([task, self._over], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if not task.done():
                    task.cancel()
        if self._over.done():
            # Code that waits for Restate was told. A cancellation would make ADK call its error callbacks.
            await asyncio.wait([task], timeout=_TOLD_SECONDS)
            await self._cancel_tasks(_END_SECONDS)
            raise self._over.result()
        if not task.done():
            self.abandoned = True
            raise IgnoredCancelError(
                f"The agent's code is still running although the turn was cancelled: {_names(self.tasks)}."
            )
        return task.result()

    async def close(self, *, well: bool, again: bool) -> None:
        """Ends the attempt, because the handler has ended.

        Args:
            well: whether it ended without an error.
            again: whether there will be another attempt.
        """
        left: set[asyncio.Task[Any]] = set()
        if again:
            left = await self._cancel_tasks(_END_SECONDS)
        elif not well and not self.abandoned:
            await self._cancel_tasks(_CANCEL_SECONDS[-1])
        if well:
            self.holds.forget()
        else:
            self.holds.let_go()
        if not left and self._running.get(self._id) is self:
            del self._running[self._id]
        # Invariant: an attempt that has ended is in no reference cycle, so it is freed with its last task.
        self._over = asyncio.get_running_loop().create_future()
        self.timers.forget()

    @property
    def goes_on(self) -> bool:
        """Whether one of its tasks is still running."""
        return any(not task.done() for task in self.tasks)

    async def _cancel_tasks(self, seconds: float) -> "set[asyncio.Task[Any]]":
        """Cancels all running tasks. Returns those that ignore it."""
        end = asyncio.get_running_loop().time() + seconds
        left = {task for task in self.tasks if not task.done() and task is not asyncio.current_task()}
        pause = 0.001
        while left and asyncio.get_running_loop().time() < end:
            # Code may catch a cancellation once, or await something while it ends.
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=pause)
            pause = min(2 * pause, 0.5)
        return left


def clear_frames(over: BaseException) -> None:
    """Clears the local variables of the frames that the end of an attempt passed through. None may still be running.

    A task holds the exception that ended it, the exception holds frames, and frames hold tasks. Only the garbage
    collector would free such a cycle, which takes long with hundreds of objects in each.
    """
    traceback.clear_frames(over.__traceback__)


def retrieve(ended: "asyncio.Task[Any]") -> None:
    """Marks the error of a task as seen: nobody needs to know how code ends after its attempt."""
    if not ended.cancelled():
        ended.exception()


def _names(tasks: "Iterable[asyncio.Task[Any]]") -> str:
    return ", ".join(sorted({getattr(task.get_coro(), "__qualname__", "?") for task in tasks if not task.done()}))


def _follow_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Gives each task that code of an attempt creates a strand of its own."""
    factory: Any = loop.get_task_factory()
    if isinstance(factory, _TaskFactory):
        return
    loop.set_task_factory(_TaskFactory(factory or asyncio.Task))
    seams.follow_timers(loop, _timer_set)


def _timer_set(timer: asyncio.TimerHandle) -> None:
    strand = keys.current_strand()
    if strand is not None and strand.followed and strand.attempt is not None:
        strand.attempt.timers.add(timer)


class _TaskFactory:
    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._named = make is asyncio.Task

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        strand = keys.current_strand()
        if options.get("context") is not None or strand is None or strand.attempt is None:
            return self._new(loop, coro, options)
        name = getattr(coro, "__qualname__", "")
        child = strand.child(name)
        child.followed = strand.followed and not _outlives(coro)
        options["context"] = keys.child_context(child)
        if not child.followed:
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
    except SystemExit as error:  # asyncio would end the event loop, and with it all turns
        raise as_exception(error) from error


def _outlives(coro: Any) -> bool:
    """Returns whether a task is for something that outlives the turn in which it was created.

    All other tasks belong to their creator, wherever its code is installed: an agent may be a package like any other.
    """
    frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
    if frame is None:
        return type(coro) is not _ASEND
    module = str(frame.f_globals.get("__name__", ""))
    if module.startswith("anyio."):  # it runs what others give it
        given = getattr(frame.f_locals.get("self"), "_coro", None)
        return given is not None and _outlives(given)
    return module.startswith(_LIVE_ON) or module.partition(".")[0] in _LIBRARIES
