"""Garbage collection in a process that serves."""

import asyncio
import gc
import time

_THRESHOLDS = (50_000, 10, 10)
"""How many more objects than now start a collection; how many of those the next generation's; and of those, the last's.
Python's own are for scripts: a turn makes some ten thousand objects, most of which are gone without any collection."""
_LOOK_SECONDS = 5.0
_MUCH = 200_000
"""So many objects are worth a collection of all that is there, which takes up to a third of a second."""
_QUIET = 0.2
"""A process that uses less than this share of a CPU is quiet."""


def settle() -> None:
    """Leave out of all further collections what the process has by now; called once it is ready to serve.

    ADK's modules alone are some hundred thousand objects that never go. To look through them takes a quarter of a
    second in which nothing is answered.

    From now on garbage is also collected when the process is quiet: a crowd that is gone leaves half a million objects
    in cycles, to which the next collection of all would come much later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    _WhenQuiet().look()


class _WhenQuiet:
    """Collects when there is much to collect and little to do."""

    def __init__(self) -> None:
        self._worked = time.process_time()

    def look(self) -> None:
        """See whether it is quiet, now and then again."""
        before, self._worked = self._worked, time.process_time()
        if self._worked - before < _QUIET * _LOOK_SECONDS and _since_last() > _MUCH:
            gc.collect()
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self.look)


def _since_last() -> int:
    """About how many objects were added since all were looked through."""
    (young, of_young, of_middle), (most_young, most_middle, _) = gc.get_count(), gc.get_threshold()
    return young + most_young * (of_young + most_middle * of_middle)
