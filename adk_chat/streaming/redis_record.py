"""How an entry is stored in a Redis stream.

Each writer numbers its entries of a stream. So a reader notices what Redis does not tell: entries that were dropped
while it was away, trimmed, lost with its memory, or written twice because an answer was lost.
"""

import re
from dataclasses import dataclass
from typing import Any

from adk_chat.streaming.broker import Entry, LostError

Id = tuple[int, int]

START: Id = (0, 0)

_POSITION = re.compile(r"(\d{1,19})-(\d{1,19})(~?)", re.ASCII)


def key(stream: str) -> str:
    """Returns the key of a stream in Redis."""
    return f"adk_chat:turn:{stream}"


def id_text(id_: Id) -> str:
    """Returns an id as Redis writes it."""
    return f"{id_[0]}-{id_[1]}"


def parse_position(position: str) -> tuple[Id, bool]:
    """Returns the id of an entry, and whether to read from it rather than after it.

    Raises:
        LostError: if it is no position.
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
        """Parses what XRANGE and XREAD return."""
        id_, fields = item
        ms, _, sequence = id_.partition(b"-")
        return cls((int(ms), int(sequence)), fields[b"w"], int(fields[b"n"]), fields[b"d"])

    @property
    def entry(self) -> Entry:
        """The entry as a reader gets it."""
        return Entry(id_text(self.id), self.data)

    @property
    def resume(self) -> str:
        """The position from which this entry and what follows can be read."""
        return f"{id_text(self.id)}~"


def fields(writer: str, number: int, data: bytes) -> dict[Any, Any]:
    """Returns the fields for XADD."""
    return {b"w": writer, b"n": number, b"d": data}


class Sequence:
    """The next number of each writer."""

    def __init__(self) -> None:
        self._next: dict[bytes, int] = {}

    def trust(self, record: Record) -> None:
        """Starts with this record, whatever was before."""
        self._next[record.writer] = record.number

    def is_next(self, record: Record) -> bool:
        """Returns whether this record comes next; if not, it is a duplicate.

        Raises:
            LostError: if one before it is missing.
        """
        expected = self._next.get(record.writer, 0)
        if record.number > expected:
            raise LostError("Entries of the stream are missing.", record.resume)
        self._next[record.writer] = max(expected, record.number + 1)
        return record.number == expected
