"""Releases the asyncio locks and semaphores that an attempt holds when it ends.

Code may acquire one in a callback and release it in another, such as a limit on model calls between before_model and
after_model. If an attempt ended in between, the lock would stay acquired in this process, and the next attempt would
wait for it forever.
"""

import contextlib
from contextvars import ContextVar
from typing import Any

from adk_chat.durable.journal import keys

_holders: "dict[int, list[Holds]]" = {}
"""Who holds each lock, by the `id` of the lock: one entry for each time it was acquired."""
_letting_go: ContextVar[bool] = ContextVar("adk_chat_letting_go", default=False)


class Holds:
    """The locks that the code of one attempt holds."""

    def __init__(self) -> None:
        self._held: list[Any] = []
        self._over = False

    @property
    def anything(self) -> bool:
        """Whether it holds any."""
        return bool(self._held)

    def take(self, lock: Any) -> None:
        """Notes that code has acquired a lock. After the end of the attempt it no longer matters."""
        if not self._over:
            self._held.append(lock)
            _holders.setdefault(id(lock), []).append(self)

    def let_go(self) -> None:
        """Releases everything that is held."""
        held = self._held[::-1]
        self.forget()
        token = _letting_go.set(True)
        for lock in held:
            with contextlib.suppress(RuntimeError, ValueError):  # it was released by other means
                lock.release()
        _letting_go.reset(token)

    def forget(self) -> None:
        """Leaves everything acquired: the turn has ended well, and its code knows why."""
        self._over = True
        while self._held:
            _given_back(self._held[-1], self)

    def drop(self, lock: Any) -> None:
        """Notes that a lock was released."""
        del self._held[max(number for number, held in enumerate(self._held) if held is lock)]


def followed_acquire(acquire: Any) -> Any:
    """Makes `acquire` of a lock or semaphore note who holds it."""

    async def acquire_and_note(self: Any) -> Any:
        got = await acquire(self)
        strand = keys.current_strand()
        if strand is not None:
            strand.attempt.holds.take(self)
        return got

    return acquire_and_note


def followed_release(release: Any) -> Any:
    """Makes `release` of a lock or semaphore note that it is free."""

    def release_and_note(self: Any) -> None:
        release(self)
        if id(self) in _holders and not _letting_go.get():
            strand = keys.current_strand()
            _given_back(self, None if strand is None else strand.attempt.holds)

    return release_and_note


def _given_back(lock: Any, by: Holds | None) -> None:
    """Notes that a lock was released by code of an attempt. A semaphore may be released by another attempt."""
    holders = _holders[id(lock)]
    holder = by if by in holders else holders[0]
    holders.remove(holder)
    if not holders:
        del _holders[id(lock)]
    holder.drop(lock)
