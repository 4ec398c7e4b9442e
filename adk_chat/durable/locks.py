"""Locks and semaphores of asyncio that an attempt holds when it ends are let go.

Code may take one in a callback for another callback to give back, as a limit on calls of a model does between
before_model and after_model. An attempt that ends in between would keep it in this process, and the next one would
wait for it for ever.
"""

import contextlib
from contextvars import ContextVar
from typing import Any

from adk_chat.durable import keys, seams

_holders: "list[Holds]" = []
_letting_go: ContextVar[bool] = ContextVar("adk_chat_letting_go", default=False)


class Holds:
    """What the code of one attempt holds."""

    def __init__(self) -> None:
        self._held: list[Any] = []

    def take(self, lock: Any) -> None:
        """Code of the attempt has acquired a lock."""
        self._held.append(lock)
        if self not in _holders:
            _holders.append(self)

    def give_back(self, lock: Any) -> bool:
        """Somebody has released a lock; gives whether it was held here."""
        for number, held in enumerate(self._held):
            if held is lock:
                del self._held[number]
                return True
        return False

    def let_go(self) -> None:
        """Release all that is held."""
        held = self._held[::-1]
        self.forget()
        token = _letting_go.set(True)
        for lock in held:
            with contextlib.suppress(RuntimeError, ValueError):  # it was released in a way of its own
                lock.release()
        _letting_go.reset(token)

    def forget(self) -> None:
        """What is held stays so: the turn has ended well, and its code knows why."""
        self._held.clear()
        if self in _holders:
            _holders.remove(self)


def install() -> None:
    """Follow who acquires and releases asyncio's locks and semaphores."""
    seams.follow_locks(_acquired, _released)


def _acquired(lock: Any) -> None:
    strand = keys.current_strand()
    if strand is not None:
        strand.attempt.holds.take(lock)


def _released(lock: Any) -> None:
    strand = keys.current_strand()
    if _letting_go.get():
        return
    if strand is None or not strand.attempt.holds.give_back(lock):
        any(holder.give_back(lock) for holder in _holders)
