"""How tests read streams."""

import asyncio
from contextlib import aclosing

from adk_chat.streaming import Broker, Entry


async def take(broker: Broker, stream: str, count: int, after: str | None = None) -> list[Entry]:
    """The next entries, this many."""
    taken: list[Entry] = []
    async with asyncio.timeout(20), aclosing(broker.read(stream, after)) as entries:
        async for entry in entries:
            taken.append(entry)
            if len(taken) == count:
                break
    return taken


def texts(entries: list[Entry]) -> list[str]:
    """The texts of the entries."""
    return [entry.data.decode() for entry in entries]


def numbered(first: int, end: int) -> list[str]:
    """What `publish` publishes."""
    return [str(number) for number in range(first, end)]


def publish(broker: Broker, stream: str, first: int, end: int) -> None:
    """Publish numbers."""
    for text in numbered(first, end):
        broker.publish(stream, text.encode())
