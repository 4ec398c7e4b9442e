"""How an entry lies in a Redis stream.

Each writer numbers its entries of a stream. So a reader sees by itself what Redis does not tell: entries that were
dropped while it was away, trimmed, lost with its memory, or written twice because an answer got lost.
"""

import re
from dataclasses import dataclass
from typing import Any

from adk_chat.streaming.broker import Entry, LostError

Id = tuple[int, int]

START: Id = (0, 0)

_POSITION = re.compile(r"(\d{1,19})-(\d{1,19})(~?)", re.ASCII)


def key(stream: str) -> str:
    """Where a stream lies in Redis."""
    return f"adk_chat:turn:{stream}"


def id_text(id_: Id) -> str:
    """An id as Redis wants it."""
    return f"{id_[0]}-{id_[1]}"


def parse_position(position: str) -> tuple[Id, bool]:
    """The id of an entry, and whether one wants to read from it rather than after it.

    Raises:
        LostError: it is something else.
    """
    if (match := _POSITION.fullmatch(position)) is None:
        raise LostError(f"{position!r} is not a position of this broker.")
    return (int(match[1]), int(match[2])), bool(match[3])


@dataclass(frozen=True, slots=True)
class Record:
    """An entry with its writer and the writer's number for it."""

    id: Id
    writer: bytes
    number: int
    data: bytes

    @classmethod
    def parse(cls, item: Any) -> "Record":
        """From what XRANGE and XREAD give."""
        id_, fields = item
        ms, _, sequence = id_.partition(b"-")
        return cls((int(ms), int(sequence)), fields[b"w"], int(fields[b"n"]), fields[b"d"])

    @property
    def entry(self) -> Entry:
        """What the reader gets."""
        return Entry(id_text(self.id), self.data)

    @property
    def resume(self) -> str:
        """The position from which one reads this one and what follows."""
        return f"{id_text(self.id)}~"


def fields(writer: str, number: int, data: bytes) -> dict[Any, Any]:
    """What XADD takes."""
    return {b"w": writer, b"n": number, b"d": data}


class Sequence:
    """Which number of each writer comes next."""

    def __init__(self) -> None:
        self._next: dict[bytes, int] = {}

    def trust(self, record: Record) -> None:
        """Begin with this one, whatever was before."""
        self._next[record.writer] = record.number

    def is_next(self, record: Record) -> bool:
        """Whether this one comes next; if not, it has been here already.

        Raises:
            LostError: one before it is missing.
        """
        expected = self._next.get(record.writer, 0)
        if record.number > expected:
            raise LostError("Entries of the stream are missing.", record.resume)
        self._next[record.writer] = max(expected, record.number + 1)
        return record.number == expected
