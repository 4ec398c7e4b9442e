"""Locks and semaphores of asyncio that an attempt holds when it ends are let go.

Code may take one in a callback for another callback to give back, as a limit on calls of a model does between
before_model and after_model. An attempt that ends in between would keep it in this process, and the next one would
wait for it for ever.
"""

import contextlib
from contextvars import ContextVar
from typing import Any

from adk_chat.durable.journal import keys

_holders: "dict[int, list[Holds]]" = {}
"""Who holds each lock that is held, by the `id` of the lock, once for each time that it was acquired."""
_letting_go: ContextVar[bool] = ContextVar("adk_chat_letting_go", default=False)


class Holds:
    """What the code of one attempt holds."""

    def __init__(self) -> None:
        self._held: list[Any] = []
        self._over = False

    @property
    def anything(self) -> bool:
        """Whether it holds something."""
        return bool(self._held)

    def take(self, lock: Any) -> None:
        """Code of the attempt has acquired a lock; one that was acquired after the end of it is its own affair."""
        if not self._over:
            self._held.append(lock)
            _holders.setdefault(id(lock), []).append(self)

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
        self._over = True
        while self._held:
            _given_back(self._held[-1], self)

    def drop(self, lock: Any) -> None:
        """A lock that is held was released."""
        del self._held[max(number for number, held in enumerate(self._held) if held is lock)]


def followed_acquire(acquire: Any) -> Any:
    """Makes `acquire` of a lock or a semaphore note who holds it."""

    async def acquire_and_note(self: Any) -> Any:
        got = await acquire(self)
        strand = keys.current_strand()
        if strand is not None:
            strand.attempt.holds.take(self)
        return got

    return acquire_and_note


def followed_release(release: Any) -> Any:
    """Makes `release` of a lock or a semaphore note that it is free."""

    def release_and_note(self: Any) -> None:
        release(self)
        if id(self) in _holders and not _letting_go.get():
            strand = keys.current_strand()
            _given_back(self, None if strand is None else strand.attempt.holds)

    return release_and_note


def _given_back(lock: Any, by: Holds | None) -> None:
    """A lock was released, by code of that attempt; who releases a semaphore need not be who has acquired it."""
    holders = _holders[id(lock)]
    holder = by if by in holders else holders[0]
    holders.remove(holder)
    if not holders:
        del _holders[id(lock)]
    holder.drop(lock)
