"""Locks that an attempt still holds at its end are released."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from adk_chat.durable import install
from adk_chat.durable.journal import keys
from adk_chat.durable.journal.keys import Strand
from adk_chat.durable.journal.locks import Holds

install()


@contextmanager
def attempt() -> Iterator[Holds]:
    """The code within belongs to an attempt."""
    holds = Holds()
    keys.enter(Strand(attempt=SimpleNamespace(holds=holds)))
    try:
        yield holds
    finally:
        keys.enter(None)


async def test_an_attempt_that_ends_releases_what_it_holds() -> None:
    lock, semaphore = asyncio.Lock(), asyncio.Semaphore(2)
    with attempt() as holds:
        await lock.acquire()
        await semaphore.acquire()
        await semaphore.acquire()
        assert holds.anything
        holds.let_go()
        assert (lock.locked(), semaphore.locked(), holds.anything) == (False, False, False)
        with pytest.raises(RuntimeError):
            lock.release()


async def test_what_was_released_is_not_released_again() -> None:
    semaphore = asyncio.Semaphore(1)
    with attempt() as holds:
        async with semaphore:
            assert holds.anything
        holds.let_go()
        await semaphore.acquire()
        assert semaphore.locked(), "it would have two permits"


async def test_a_turn_that_has_ended_well_keeps_what_it_holds() -> None:
    lock = asyncio.Lock()
    with attempt() as holds:
        await lock.acquire()
        holds.forget()
        holds.let_go()
        assert lock.locked()


async def test_another_attempt_may_release_a_semaphore() -> None:
    semaphore = asyncio.Semaphore(1)
    with attempt() as holds:
        await semaphore.acquire()
        with attempt():
            semaphore.release()
        assert not holds.anything
