"""The journal as a memory: recorded commands are issued again at once, and then found by their keys.

Restate replays by order: it expects the same commands in the same order, which code around an agent cannot promise. So
at the start of an attempt every recorded command is issued again, in its order and with its parameters. Restate is then
past its replay. After that, each command that code asks for is looked up here:

- A recorded one is not issued again. Code gets it and awaits its result as usual.
- One that is not recorded is new.
- A recorded one that nobody asks for is harmless: it is done, and its result is not needed.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from adk_chat.durable.journal.entries import Kind

_WAITED_FOR = (Kind.RUN, Kind.CALL, Kind.SLEEP)
HEARTBEAT = "heartbeat"
"""The name of timers that nobody waits for. Persisted."""


@dataclass(eq=False)
class Recorded:
    """A recorded command."""

    strand: str
    content: str
    result: Any
    """What the state machine returned for it: a handle, mostly."""
    known: bool = False
    """Whether its result is recorded, for a run."""
    value: bytes | None = None
    """The result of a run, if recorded; the request of a call."""
    taken: bool = False
    number: int = -1
    """The number of the command, counted from the marker of the beginning."""


class Memory:
    """The recorded commands that nobody has asked for yet."""

    def __init__(self) -> None:
        self._recorded: dict[Hashable, list[Recorded]] = {}

    def keep(self, what: Hashable, recorded: Recorded) -> None:
        """Adds a command under its key. Called in the order of the journal."""
        self._recorded.setdefault(what, []).append(recorded)

    def take(
        self, what: Hashable, strand: str, content: str = "", *, moved: bool = True, elsewhere: bool = False
    ) -> Recorded | None:
        """Returns the recorded command for a key. Nobody else gets it from then on.

        A command with the same content matches first, wherever it is asked for. Then one of the same strand with
        another content: the code may have changed, or the model is asked for the current time.

        Args:
            what: the key.
            strand: the path of the strand that asks.
            content: a hash of what it is about, if that identifies it.
            moved: whether one of the same strand with another content matches.
            elsewhere: whether one of any strand matches.
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
        """Returns all recorded commands of a strand for a key."""
        found = [recorded for recorded in self._recorded.get(what, ()) if recorded.strand == strand]
        for recorded in found:
            recorded.taken = True
        return found

    def has_left(self, before: float) -> bool:
        """Returns whether code has yet to ask for something that it waited for, with a number below `before`."""
        return any(
            not recorded.taken and recorded.number < before
            for what, every in self._recorded.items()
            if isinstance(what, tuple) and what[0] in _WAITED_FOR and what[1:] != (HEARTBEAT,)
            for recorded in every
        )

    def requests(self, service: str, handler: str, key: str) -> list[tuple[int, bytes]]:
        """Returns the requests that a handler got, by call or one-way call, each with the number of its command."""
        to = [(kind, service, handler, key) for kind in (Kind.CALL, Kind.SEND)]
        asked = [every for what, every in self._recorded.items() if isinstance(what, tuple) and what[:4] in to]
        found = [
            (recorded.number, recorded.value) for every in asked for recorded in every if recorded.value is not None
        ]
        return sorted(found)
