"""The keys by which steps are found in the journal: what they are for, and which strand asks for them.

A strand is a task, identified by how it was created: the second `_run_node` of the first `_drive_root_node`, and so on.
A replay creates the same tasks in the same order if the code does the same. If tasks are created as results arrive, the
order may differ. Then the content of a step decides (what a model is asked, which tool call it is); see
`adk_chat.durable.journal.recorded`.

Persisted: names of steps, and the names of coroutines from which the paths of strands derive.
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
    """Returns six hexadecimal digits that identify `parts`."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=3).hexdigest()


@dataclass(eq=False)
class Strand:
    """One task of an attempt, and its counters."""

    path: str = ROOT
    """A short hash of how the task was created."""
    attempt: Any = None
    place: str = ROOT
    """The same as a long hash. Among thousands of strands two paths may be equal, but no two ids."""
    followed: bool = True
    """Whether the task belongs to the turn and ends with it."""
    ids: int = 0
    spans: int = 0
    random: Random | None = None
    made: Counter[str] = field(default_factory=Counter)

    def child(self, kind: str) -> "Strand":
        """Returns the strand of a task that is created here. Each kind of task is numbered separately."""
        self.made[kind] += 1
        number = self.made[kind]
        place = hashlib.blake2b(f"{self.place}\0{kind}\0{number}".encode(), digest_size=16).hexdigest()
        return Strand(digest(self.path, kind, number), self.attempt, place)


@dataclass(frozen=True)
class Key:
    """The key of a step.

    Args:
        what: what it is for, as people read it in the Restate UI.
        strand: the path of the strand that asks for it.
        content: a hash of what it is about; empty if that does not identify it.
        label: additional text for people.
    """

    what: str
    strand: str
    content: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """The key as the name of a journal entry. Persisted."""
        what = f"{self.what} ({self.label})" if self.label else self.what
        return f"{what} [{self.strand}{' ' if self.content else ''}{self.content}]"

    @classmethod
    def parse(cls, name: str) -> "Key":
        """Returns the key in the name of a journal entry."""
        found = _SUFFIX.fullmatch(name)
        if found is None:
            return cls(name, "")
        labelled = _LABEL.fullmatch(found[1])
        what, label = (labelled[1], labelled[2]) if labelled else (found[1], "")
        return cls(what, found[2], found[3] or "", label)


_strand: ContextVar[Strand | None] = ContextVar("adk_chat_strand", default=None)


def current_strand() -> Strand | None:
    """Returns the strand of the current code, if it belongs to an attempt."""
    return _strand.get()


def current_path() -> str:
    """Returns the path of the current strand."""
    strand = _strand.get()
    return ROOT if strand is None else strand.path


def enter(strand: Strand | None) -> None:
    """Makes the current context belong to `strand`."""
    _strand.set(strand)


def child_context(strand: Strand) -> contextvars.Context:
    """Returns a copy of the current context, for a task that is `strand`."""
    context = contextvars.copy_context()
    context.run(_strand.set, strand)
    return context
