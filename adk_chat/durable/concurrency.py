"""The parts of asyncio that ADK's own concurrency uses, with lanes for tasks where a journal is open.

`seams` puts them in place of asyncio's in the modules of ADK that run things in parallel. Outside a journal each of
them does what the original does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

from adk_chat.durable import seams
from adk_chat.durable.journal import Journal
from adk_chat.durable.lanes import Lanes

T = TypeVar("T")


def create_task(coroutine: Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:
    """See `asyncio.create_task`."""
    journal = Journal.current()
    # A task that only waits for ADK's abort signal is not work of its own.
    if journal is None or getattr(coroutine, "__qualname__", "") == "Event.wait":
        return asyncio.create_task(coroutine, **options)
    return journal.lanes.spawn(coroutine)


async def wait(tasks: Iterable[asyncio.Task[T]], **options: Any) -> tuple[set[asyncio.Task[T]], set[asyncio.Task[T]]]:
    """See `asyncio.wait`."""
    given = list(tasks)
    journal = Journal.current()
    waited = asyncio.wait(given, **options)
    if journal is None:
        return await waited
    enough = all if options.get("return_when", asyncio.ALL_COMPLETED) == asyncio.ALL_COMPLETED else any
    return await journal.lanes.block(waited, lambda: enough(_ended(journal.lanes, task) for task in given))


def gather(*awaitables: Any, return_exceptions: bool = False) -> Awaitable[list[Any]]:
    """See `asyncio.gather`; gives an awaitable that can be cancelled as asyncio's."""
    journal = Journal.current()
    if journal is None:
        return asyncio.gather(*awaitables, return_exceptions=return_exceptions)
    lanes = journal.lanes
    tasks = [given if asyncio.isfuture(given) else create_task(given) for given in awaitables]

    def due() -> bool:
        failed = not return_exceptions and any((lane := lanes.lane_of(task)) and lane.failed for task in tasks)
        return failed or all(_ended(lanes, task) for task in tasks)

    return _Gathering(lanes, asyncio.gather(*tasks, return_exceptions=return_exceptions), due)


async def wait_for(awaitable: Coroutine[Any, Any, T], timeout: float | None) -> T:  # noqa: ASYNC109
    """See `asyncio.wait_for`; the time runs on while the process is down."""
    journal = Journal.current()
    if journal is None or timeout is None:
        return await asyncio.wait_for(awaitable, timeout)
    work = journal.lanes.spawn(awaitable)
    alarm = journal.lanes.spawn(_elapse(journal, timeout))
    try:
        await wait([work, alarm], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise TimeoutError
    finally:
        for task in (work, alarm):
            task.cancel()
        await asyncio.wait([work, alarm])


async def sleep(delay: float, result: Any = None) -> Any:
    """See `asyncio.sleep`; the time runs on while the process is down."""
    journal = Journal.current()
    if journal is None or delay <= 0:
        return await asyncio.sleep(delay, result)
    await _elapse(journal, delay)
    return result


async def _elapse(journal: Journal, seconds: float) -> None:
    await journal.lanes.acquire()
    await journal.context.sleep(timedelta(seconds=seconds))


class TaskGroup(asyncio.TaskGroup):
    """See `asyncio.TaskGroup`."""

    def __init__(self) -> None:
        super().__init__()
        self._lanes: list[asyncio.Task[Any]] = []

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """See `asyncio.TaskGroup.create_task`."""
        journal = Journal.current()
        if journal is None:
            return super().create_task(coro, **options)
        task = journal.lanes.spawn(coro)
        self._lanes.append(task)

        async def watched() -> Any:
            return await task

        return super().create_task(watched(), **options)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        journal = Journal.current()
        left = super().__aexit__(kind, error, trace)
        if journal is None:
            await left
            return
        lanes = journal.lanes
        try:
            await lanes.block(left, lambda: all(_ended(lanes, task) for task in self._lanes))
        except BaseExceptionGroup as group:
            over: BaseException | None = group.subgroup(seams.AttemptOver)
            while isinstance(over, BaseExceptionGroup):
                over = over.exceptions[0]
            # The SDK knows the end of an attempt by its class.
            raise over or group from None


class Queue(asyncio.Queue[T]):
    """See `asyncio.Queue`."""

    async def get(self) -> T:
        """See `asyncio.Queue.get`."""
        journal = Journal.current()
        if journal is None:
            return await super().get()
        return await journal.lanes.block(super().get(), lambda: not self.empty())

    def put_nowait(self, item: T) -> None:
        """See `asyncio.Queue.put_nowait`."""
        super().put_nowait(item)
        _wake()


class Event(asyncio.Event):
    """See `asyncio.Event`."""

    async def wait(self) -> Any:
        """See `asyncio.Event.wait`."""
        journal = Journal.current()
        if journal is None:
            return await super().wait()
        return await journal.lanes.block(super().wait(), self.is_set)

    def set(self) -> None:
        """See `asyncio.Event.set`."""
        super().set()
        _wake()


class _Gathering(Awaitable[list[Any]]):
    def __init__(self, lanes: Lanes, future: "asyncio.Future[list[Any]]", due: Callable[[], bool]) -> None:
        self._lanes = lanes
        self._future = future
        self._due = due

    def __await__(self) -> Generator[Any, None, list[Any]]:
        return self._lanes.block(self._future, self._due).__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._future, name)


def _ended(lanes: Lanes, task: "asyncio.Future[Any]") -> bool:
    lane = lanes.lane_of(task)
    return task.done() or (lane is not None and lane.ended)


def _wake() -> None:
    journal = Journal.current()
    if journal is not None:
        journal.lanes.wake()


seams.replace_asyncio(
    create_task=create_task,
    wait=wait,
    gather=gather,
    wait_for=wait_for,
    sleep=sleep,
    TaskGroup=TaskGroup,
    Queue=Queue,
    Event=Event,
)
