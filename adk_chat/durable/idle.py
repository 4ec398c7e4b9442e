"""For how long the code of an attempt has only waited: when the attempt gives its slot back.

The engine runs so many handlers at once, and one that only waits keeps another from running.
"""

import time

_IDLE_SECONDS, _MOST_LOOK_SECONDS = 1.0, 8.0
"""How long all code waits before the attempt is suspended; and how often at least it is looked at where it works."""
_BUSY_SECONDS, _BUSY = 5.0, 0.5
"""How long instead where the process takes more than that share of a processor: then it is the reason, more likely than
the engine, that nothing comes, and each suspension would make it busier."""
_MOST_DOUBLINGS, _MOST_CUTS = 20, 10_000
_cuts: dict[str, tuple[int, int]] = {}
"""Of Restate invocations whose code a suspension has perhaps cut off at work: how many commands they had then, and how
often there were no more of them the next time."""


class Idle:
    """How long an attempt has waited, of which nothing has come.

    Args:
        invocation_id: its Restate invocation.
        commands: how many commands the journal had when it began.
    """

    def __init__(self, invocation_id: str, commands: int) -> None:
        self._id = invocation_id
        self._commands = commands
        self._seconds = 0.0
        self.look_seconds = _IDLE_SECONDS / 2
        """How long to wait before `long_enough` is asked again."""
        self._looked: tuple[float, float] | None = None
        """When it was first looked at: after how many seconds, and what the process had taken of the processor."""

    def end(self) -> None:
        """Something has come, or was done."""
        self._seconds, self.look_seconds, self._looked = 0.0, _IDLE_SECONDS / 2, None

    def put_off(self) -> None:
        """Code works: look again, and more and more seldom."""
        look = min(2 * self.look_seconds, _MOST_LOOK_SECONDS)
        self.end()
        self.look_seconds = look

    def go_on(self, seconds: float) -> None:
        """It has waited for so much longer."""
        self._seconds += seconds

    def long_enough(self) -> bool:
        """Whether it has waited for so long that a suspension is worth its replay."""
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
        """The same where code may be at work."""
        return self._seconds >= _IDLE_SECONDS * self.patience

    @property
    def patience(self) -> int:
        """How many times as long code has that may be at work: twice as long each time that nothing came of it."""
        times: int = 2**self._times_cut
        return times

    @property
    def _times_cut(self) -> int:
        commands, cuts = _cuts.get(self._id, (-1, 0))
        return min(cuts + (commands == self._commands), _MOST_DOUBLINGS)

    def note_cut(self) -> None:
        """Code is suspended that may be at work."""
        cuts = self._times_cut
        while len(_cuts) >= _MOST_CUTS:
            del _cuts[next(iter(_cuts))]
        _cuts[self._id] = (self._commands, cuts)
