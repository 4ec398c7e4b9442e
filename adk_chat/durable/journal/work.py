"""Whether the code of an attempt works, or only waits for the engine: then the attempt may be suspended.

Suspending ends the attempt, and a replay begins the code again. What it was doing outside of steps would be lost: a
request in a callback, a timer of asyncio. So each task is asked what it waits for:

- the engine, by way of the pump;
- another task, which is asked itself;
- asyncio's own means by which code waits for code (a queue, a lock, an event). Where ADK waits in them, other tasks of
  the attempt are what it waits for. Anybody else's code may be waiting for a thread, or for another turn;
- anything else is taken for work: a socket, a thread, a future of somebody's.

A timer that is pending is work as well, whoever waits: a timeout around a wait has to be able to end it. So is a lock
that is held: it would be let go, and others would come in.
"""

import asyncio
from collections.abc import Iterable
from enum import IntEnum
from types import FrameType
from typing import Any

from adk_chat.durable.journal import seams

_OF_CODE = ("asyncio.locks", "asyncio.queues")
_FUTURES_IN = {"_wait": "fs", "wait_for": "fut", "_wait_for_one": "todo"}
"""The functions of asyncio.tasks in which code waits for futures that it was given, and where it has them."""
_ATTEMPTS_OWN = ("google.adk.", "adk_chat.")
_SOCKETS = "anyio."
"""Waits for its sockets by events of asyncio."""
_FEW = 16


class Wait(IntEnum):
    """What code waits for, what may be cut off least first."""

    ENGINE = 0
    """The engine, or other code of the attempt."""
    UNKNOWN = 1
    """Perhaps other code of the attempt, and perhaps somebody else."""
    WORK = 2


class Timers:
    """The timers of asyncio that the code of one attempt has set."""

    def __init__(self) -> None:
        self._set: list[asyncio.TimerHandle] = []
        self._most = _FEW

    def add(self, timer: asyncio.TimerHandle) -> None:
        """One was set."""
        self._set.append(timer)
        if len(self._set) > self._most:
            self.pending()
            self._most = max(_FEW, 2 * len(self._set))

    def forget(self) -> None:
        """Drop them, and with them what they are going to call."""
        self._set = []

    def pending(self) -> bool:
        """Whether one of them is still to go off."""
        now = asyncio.get_running_loop().time()
        self._set = [timer for timer in self._set if not timer.cancelled() and timer.when() > now]
        return bool(self._set)


def waits_for(tasks: "Iterable[asyncio.Task[Any]]", engine: "Iterable[asyncio.Future[Any]]") -> Wait:
    """What the tasks of an attempt wait for, all of them together.

    Args:
        tasks: those of the attempt that have not ended.
        engine: the futures that the pump completes.
    """
    looking = _Looking({*tasks, *engine})
    return max((looking.at_task(task) for task in tasks), default=Wait.ENGINE)


class _Looking:
    def __init__(self, known: "set[asyncio.Future[Any]]") -> None:
        self._known = known
        """What need not be looked at: tasks that have been, or are about to be, and futures of the pump."""

    def at_task(self, task: "asyncio.Task[Any]") -> Wait:
        awaited = seams.awaited_by(task)
        if awaited is None:  # it is about to run
            return Wait.WORK
        futures: list[asyncio.Future[Any]] | None = seams.gathered(awaited)
        if futures == [awaited] and awaited not in self._known and not isinstance(awaited, asyncio.Task):
            frames = seams.frames(task)
            modules = [str(frame.f_globals.get("__name__", "")) for frame in frames]
            if modules[-1:] == ["asyncio.taskgroups"]:  # whose tasks are the attempt's
                return Wait.ENGINE
            futures = _futures(modules, frames)
            if futures is None:
                return _of_code(modules)
        return max(map(self._at_future, futures or ()), default=Wait.WORK)

    def _at_future(self, future: "asyncio.Future[Any]") -> Wait:
        if future in self._known or future.done():
            return Wait.ENGINE
        if not isinstance(future, asyncio.Task):
            return Wait.WORK
        self._known.add(future)
        return self.at_task(future)


def _futures(modules: list[str], frames: list[FrameType]) -> "list[asyncio.Future[Any]] | None":
    """What a function of asyncio waits for that is given futures; None if the last ones are none of those."""
    for module, frame in zip(reversed(modules), reversed(frames), strict=True):
        variable = _FUTURES_IN.get(frame.f_code.co_name)
        if module == "asyncio.tasks" and variable is not None:
            found = frame.f_locals.get(variable, ())
            return [*found] if isinstance(found, (set, list, tuple)) else [found]
        if module not in _OF_CODE:
            return None
    return None


def _of_code(modules: list[str]) -> Wait:
    """What code waits for that waits in something of asyncio for other code, if it does."""
    callers = [module for module in modules if module not in _OF_CODE]
    if modules[-1:] == callers[-1:] or not callers or callers[-1].startswith(_SOCKETS):
        return Wait.WORK
    return Wait.ENGINE if callers[-1].startswith(_ATTEMPTS_OWN) else Wait.UNKNOWN
