"""What a step is found by in the journal: what it is for, and the strand of the agent's code that asks for it.

A strand is a task, by the way in which it was made: the second `_run_node` of the first `_drive_root_node`, and so on.
A replay makes the same tasks in the same order where the code does the same. Where tasks are made as results arrive it
may not; then what a step is about (what a model is asked, which call of a tool it is) decides, see
`adk_chat.durable.journal.recorded`.
"""

import contextvars
import hashlib
import re
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any

ROOT = "000000"
"""The path of the first task of an attempt."""

_SUFFIX = re.compile(r"(.*) \[([0-9a-f]{6})(?: ([0-9a-f]{6}))?\]", re.DOTALL)
_LABEL = re.compile(r"(model \S+|save artifact) \((.*)\)", re.DOTALL)


def digest(*parts: object) -> str:
    """Six hexadecimal digits that stand for `parts`."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=3).hexdigest()


@dataclass(eq=False)
class Strand:
    """One task of an attempt, and what it counts."""

    path: str = ROOT
    """Stands for how the task was made, from the first task of the attempt on."""
    attempt: Any = None
    place: str = ROOT
    """The same at full width: of thousands of strands two may have equal paths, and no two have equal ids."""
    followed: bool = True
    """Whether what it runs belongs to the turn, and ends with it."""
    ids: int = 0
    spans: int = 0
    random: Random | None = None
    made: Counter[str] = field(default_factory=Counter)

    def child(self, kind: str) -> "Strand":
        """The strand of a task that is made here; those of other kinds do not shift its number."""
        self.made[kind] += 1
        number = self.made[kind]
        place = hashlib.blake2b(f"{self.place}\0{kind}\0{number}".encode(), digest_size=16).hexdigest()
        return Strand(digest(self.path, kind, number), self.attempt, place)


@dataclass(frozen=True)
class Key:
    """What a step is found by.

    Args:
        what: what it is for, as a person reads it in the Restate UI.
        strand: the path of the strand that asks for it.
        content: stands for what it is about; empty where that says nothing.
        label: said in addition, for people.
    """

    what: str
    strand: str
    content: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """The key as the name of an entry."""
        what = f"{self.what} ({self.label})" if self.label else self.what
        return f"{what} [{self.strand}{' ' if self.content else ''}{self.content}]"

    @classmethod
    def parse(cls, name: str) -> "Key":
        """The key that an entry of that name was made under."""
        found = _SUFFIX.fullmatch(name)
        if found is None:
            return cls(name, "")
        labelled = _LABEL.fullmatch(found[1])
        what, label = (labelled[1], labelled[2]) if labelled else (found[1], "")
        return cls(what, found[2], found[3] or "", label)


_strand: ContextVar[Strand | None] = ContextVar("adk_chat_strand", default=None)


def current_strand() -> Strand | None:
    """The strand of the code that asks, if it belongs to an attempt."""
    return _strand.get()


def current_path() -> str:
    """The path of the strand of the code that asks."""
    strand = _strand.get()
    return ROOT if strand is None else strand.path


def enter(strand: Strand | None) -> None:
    """Let the code of the current context belong to `strand`."""
    _strand.set(strand)


def child_context(strand: Strand) -> contextvars.Context:
    """A copy of the current context of contextvars for a task that is `strand`."""
    context = contextvars.copy_context()
    context.run(_strand.set, strand)
    return context
