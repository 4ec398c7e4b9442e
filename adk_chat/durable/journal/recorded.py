"""The journal as a memory: what is recorded is issued again at once, and then found by what it is for.

Restate replays by order: it wants the same commands in the same order, which code that users write around agents cannot
promise. So at the beginning of an attempt every recorded command is issued again, in its order and with its parameters.
The engine is past its replay then. After that each command that code asks for is looked for here:

- One that is recorded is not issued a second time; who asks gets the recorded one, and awaits its result as ever.
- One that is not recorded is new.
- A recorded one that nobody asks for does no harm: what it did is done, and what it gave is not needed.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from adk_chat.durable.journal.entries import Kind

_WAITED_FOR = (Kind.RUN, Kind.CALL, Kind.SLEEP)
HEARTBEAT = "heartbeat"
"""The name of timers that nobody waits for."""


@dataclass(eq=False)
class Recorded:
    """A recorded command."""

    strand: str
    content: str
    result: Any
    """What the state machine gave for it: a handle, most often."""
    known: bool = False
    """Whether the result is known, of a run."""
    value: bytes | None = None
    """What the run gave, if that is known; what a call, or a one-way call, was given."""
    taken: bool = False
    number: int = -1
    """Of the command, counted from the marker of the beginning."""


class Memory:
    """What is recorded and was not asked for yet."""

    def __init__(self) -> None:
        self._recorded: dict[Hashable, list[Recorded]] = {}

    def keep(self, what: Hashable, recorded: Recorded) -> None:
        """Keep a command under what it is for; in the order of the journal."""
        self._recorded.setdefault(what, []).append(recorded)

    def take(
        self, what: Hashable, strand: str, content: str = "", *, moved: bool = True, elsewhere: bool = False
    ) -> Recorded | None:
        """The recorded command for this, which is nobody else's from then on.

        What it is about decides first, then which strand asks for it: a step that is about the same is the same,
        wherever it is asked for; one that is about something else is the same where the code has changed, or the clock
        goes into what a model is asked.

        Args:
            what: what the command is for.
            strand: the path of the strand that asks.
            content: stands for what it is about, if that says anything.
            moved: whether it may be one of the strand that is about something else.
            elsewhere: whether it may be any.
        """
        left = [recorded for recorded in self._recorded.get(what, ()) if not recorded.taken]
        about = [recorded for recorded in left if content and recorded.content == content]
        here = [recorded for recorded in left if recorded.strand == strand]
        best = (
            [recorded for recorded in about if recorded.strand == strand]
            or about
            or (moved and here)
            or (elsewhere and left)
        )
        if not best:
            return None
        best[0].taken = True
        return best[0]

    def take_all(self, what: Hashable, strand: str) -> list[Recorded]:
        """All that is recorded for this, and was asked for by that strand."""
        found = [recorded for recorded in self._recorded.get(what, ()) if recorded.strand == strand]
        for recorded in found:
            recorded.taken = True
        return found

    def has_left(self, before: float) -> bool:
        """Whether code has not asked yet for something that it waited for, by a command before that number."""
        return any(
            not recorded.taken and recorded.number < before
            for what, every in self._recorded.items()
            if isinstance(what, tuple) and what[0] in _WAITED_FOR and what[1:] != (HEARTBEAT,)
            for recorded in every
        )

    def requests(self, service: str, handler: str, key: str) -> list[tuple[int, bytes]]:
        """What a handler was given, each time by a call or by a one-way call, with the number of that command."""
        to = [(kind, service, handler, key) for kind in (Kind.CALL, Kind.SEND)]
        asked = [every for what, every in self._recorded.items() if isinstance(what, tuple) and what[:4] in to]
        found = [
            (recorded.number, recorded.value) for every in asked for recorded in every if recorded.value is not None
        ]
        return sorted(found)
