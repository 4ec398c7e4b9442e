"""Whether the code of an attempt is working or only waits for Restate. Only then may the attempt be suspended.

A suspension ends the attempt, and a replay starts the code again. What the code was doing outside of steps would be
lost, such as a request in a callback or a timer of asyncio. So each task is checked for what it waits for:

- Restate, through the pump.
- Another task, which is checked in turn.
- A queue, lock or event of asyncio. If ADK waits there, it waits for other tasks of the attempt. Other code may be
  waiting for a thread, or for another turn.
- Anything else counts as work: a socket, a thread, a user's future.

A pending timer is work too, whoever waits: a timeout around a wait must be able to end it. So is a lock that is held:
it would be released, and others would enter.
"""

import asyncio
from collections.abc import Iterable
from enum import IntEnum
from types import FrameType
from typing import Any

from adk_chat.durable.journal import seams

_OF_CODE = ("asyncio.locks", "asyncio.queues")
_FUTURES_IN = {"_wait": "fs", "wait_for": "fut", "_wait_for_one": "todo"}
"""Functions of asyncio.tasks that wait for given futures, and the variables that hold the futures."""
_ATTEMPTS_OWN = ("google.adk.", "adk_chat.")
_SOCKETS = "anyio."
"""Waits for its sockets with asyncio events."""
_FEW = 16


class Wait(IntEnum):
    """What code waits for. The higher, the less it may be interrupted."""

    ENGINE = 0
    """Restate, or other code of the attempt."""
    UNKNOWN = 1
    """Perhaps other code of the attempt, and perhaps something else."""
    WORK = 2


class Timers:
    """The asyncio timers that the code of one attempt has set."""

    def __init__(self) -> None:
        self._set: list[asyncio.TimerHandle] = []
        self._most = _FEW

    def add(self, timer: asyncio.TimerHandle) -> None:
        """Adds a timer."""
        self._set.append(timer)
        if len(self._set) > self._most:
            self.pending()
            self._most = max(_FEW, 2 * len(self._set))

    def forget(self) -> None:
        """Drops the timers, and with them their callbacks."""
        self._set = []

    def pending(self) -> bool:
        """Returns whether any of them has yet to fire."""
        now = asyncio.get_running_loop().time()
        self._set = [timer for timer in self._set if not timer.cancelled() and timer.when() > now]
        return bool(self._set)


def waits_for(tasks: "Iterable[asyncio.Task[Any]]", engine: "Iterable[asyncio.Future[Any]]") -> Wait:
    """Returns what the tasks of an attempt wait for, all of them together.

    Args:
        tasks: the running tasks of the attempt.
        engine: the futures that the pump completes.
    """
    looking = _Looking({*tasks, *engine})
    return max((looking.at_task(task) for task in tasks), default=Wait.ENGINE)


class _Looking:
    def __init__(self, known: "set[asyncio.Future[Any]]") -> None:
        self._known = known
        """What need not be checked: tasks that were or will be checked, and futures of the pump."""

    def at_task(self, task: "asyncio.Task[Any]") -> Wait:
        awaited = seams.awaited_by(task)
        if awaited is None:  # it is about to run
            return Wait.WORK
        futures: list[asyncio.Future[Any]] | None = seams.gathered(awaited)
        if futures == [awaited] and awaited not in self._known and not isinstance(awaited, asyncio.Task):
            frames = seams.frames(task)
            modules = [str(frame.f_globals.get("__name__", "")) for frame in frames]
            if modules[-1:] == ["asyncio.taskgroups"]:  # its tasks belong to the attempt
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
    """Returns what a function of asyncio waits for that takes futures; None if the code is in no such function."""
    for module, frame in zip(reversed(modules), reversed(frames), strict=True):
        variable = _FUTURES_IN.get(frame.f_code.co_name)
        if module == "asyncio.tasks" and variable is not None:
            found = frame.f_locals.get(variable, ())
            return [*found] if isinstance(found, (set, list, tuple)) else [found]
        if module not in _OF_CODE:
            return None
    return None


def _of_code(modules: list[str]) -> Wait:
    """Returns what code waits for that waits for other code by means of asyncio."""
    callers = [module for module in modules if module not in _OF_CODE]
    if modules[-1:] == callers[-1:] or not callers or callers[-1].startswith(_SOCKETS):
        return Wait.WORK
    return Wait.ENGINE if callers[-1].startswith(_ATTEMPTS_OWN) else Wait.UNKNOWN
