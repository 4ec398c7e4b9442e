"""Reads a session's events page by page, since one answer may not hold all of them."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from adk_chat.protocol.errors import BadRequestError, TooLargeError
from adk_chat.protocol.json import Json

_PAGE = 100


class Timed(Protocol):
    """Anything with an event's time, in seconds since the epoch."""

    @property
    def timestamp(self) -> float: ...  # noqa: D102


T = TypeVar("T", bound=Timed)


def within(events: Sequence[T], last: int | None, after: float | None) -> Sequence[T]:
    """Of events, oldest first, returns the `last` newest from a time on; None for all."""
    if after is not None:
        older = [number for number, event in enumerate(events) if event.timestamp < after]
        events = events[older[-1] + 1 :] if older else events
    return events if last is None else events[-last:] if last else []


Page = Callable[[int, str | None], Awaitable[list[Json]]]
"""Returns at most so many events before the one with that id, or the newest ones; oldest first."""


async def newest_first(page: Page) -> AsyncGenerator[list[Json], None]:
    """Yields the pages of a session's events, newest page first, each with its oldest event first.

    Raises:
        BadRequestError: if several events have the same id, so that what comes before is ambiguous.
    """
    limit, before = _PAGE, None
    begun: set[str] = set()
    while True:
        try:
            events = await page(limit, before)
        except TooLargeError:
            if limit == 1:
                raise
            # Each answer that is too large was read for nothing.
            limit = max(1, limit // 4)
            continue
        yield events
        if len(events) < limit:
            return
        before = str(events[0]["id"])
        if before in begun:
            raise BadRequestError(f"Several events of the session have the id {before}.")
        begun.add(before)
