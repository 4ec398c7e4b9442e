"""Decides when an attempt that only waits is suspended.

Restate runs a limited number of handlers at once. One that waits takes the slot of one that could run.
"""

import time

_IDLE_SECONDS, _MOST_LOOK_SECONDS = 1.0, 8.0
"""How long code waits before the attempt is suspended, and the longest time between two checks of working code."""
_BUSY_SECONDS, _BUSY = 5.0, 0.5
"""How long it waits instead while the process uses more than this share of a CPU. Then the process is probably the
bottleneck, and each suspension would add to its work."""
_MOST_DOUBLINGS, _MOST_CUTS = 20, 10_000
_cuts: dict[str, tuple[int, int]] = {}
"""Attempts that were suspended although their code may have been working, by Restate invocation: the number of commands
in the journal then, and how often the next attempt added none."""


class Idle:
    """Measures how long the code of one attempt has waited.

    Args:
        invocation_id: the Restate invocation.
        commands: the number of commands in its journal when the attempt began.
    """

    def __init__(self, invocation_id: str, commands: int) -> None:
        self._id = invocation_id
        self._commands = commands
        self._seconds = 0.0
        self.look_seconds = _IDLE_SECONDS / 2
        """Seconds until the next call of `long_enough` is due."""
        self._looked: tuple[float, float] | None = None
        """At the first check: the seconds waited so far, and the CPU seconds that the process had used."""

    def end(self) -> None:
        """Ends the wait: a result came, or code did something."""
        self._seconds, self.look_seconds, self._looked = 0.0, _IDLE_SECONDS / 2, None

    def put_off(self) -> None:
        """Starts again, because code is working. Checks less often each time."""
        look = min(2 * self.look_seconds, _MOST_LOOK_SECONDS)
        self.end()
        self.look_seconds = look

    def go_on(self, seconds: float) -> None:
        """Adds to the wait."""
        self._seconds += seconds

    def long_enough(self) -> bool:
        """Returns whether the wait is worth the replay that a suspension costs."""
        if not self._seconds:
            return False
        worked = time.process_time()
        if self._looked is None:
            self._looked = self._seconds, worked
            return False
        since, before = self._looked
        busy = worked - before > _BUSY * (self._seconds - since)
        return self._seconds >= (_BUSY_SECONDS if busy else _IDLE_SECONDS)

    def long_enough_to_cut(self) -> bool:
        """The same for code that may be working."""
        return self._seconds >= _IDLE_SECONDS * self.patience

    @property
    def patience(self) -> int:
        """The factor by which code that may be working has longer. It doubles with each attempt that added nothing."""
        times: int = 2**self._times_cut
        return times

    @property
    def _times_cut(self) -> int:
        commands, cuts = _cuts.get(self._id, (-1, 0))
        return min(cuts + (commands == self._commands), _MOST_DOUBLINGS)

    def note_cut(self) -> None:
        """Notes that code was suspended that may have been working."""
        cuts = self._times_cut
        while len(_cuts) >= _MOST_CUTS:
            del _cuts[next(iter(_cuts))]
        _cuts[self._id] = (self._commands, cuts)
