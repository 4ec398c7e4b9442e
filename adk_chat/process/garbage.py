"""Garbage collection in a process that serves."""

import asyncio
import ctypes
import gc
import os
import time
from contextlib import suppress
from pathlib import Path

_THRESHOLDS = (50_000, 10, 10)
"""How many more objects than now start a collection; how many of those the next generation's; and of those, the last's.
Python's own are for scripts: a turn makes some ten thousand objects, most of which are gone without any collection."""
_LOOK_SECONDS = 5.0
_MUCH = 200_000
"""So many objects are worth a collection of all that is there, which takes up to a third of a second."""
_LARGE = 128 * 1024 * 1024
"""By so many bytes the process has grown where it is worth looking for memory to give back, which takes a fifth."""
_QUIET = 0.2
"""A process that uses less than this share of a CPU is quiet."""


def settle() -> None:
    """Leave out of all further collections what the process has by now; called once it is ready to serve.

    ADK's modules alone are some hundred thousand objects that never go. To look through them takes a quarter of a
    second in which nothing is answered.

    From now on the process also tidies up when it is quiet. A crowd that is gone leaves half a million objects in
    cycles, to which the next collection of all would come much later; and large requests, which arrive in small pieces,
    leave memory that is free and that the C library keeps.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    _WhenQuiet().look()


class _WhenQuiet:
    """Tidies up when there is much to tidy up and little to do."""

    def __init__(self) -> None:
        self._worked = time.process_time()
        self._resident = _resident()

    def look(self) -> None:
        """See whether it is quiet, now and then again."""
        before, self._worked = self._worked, time.process_time()
        if self._worked - before < _QUIET * _LOOK_SECONDS:
            if _since_last() > _MUCH:
                gc.collect()
            if _resident() > self._resident + _LARGE:
                _trim()
                self._resident = _resident()
        self._resident = min(self._resident, _resident())
        asyncio.get_running_loop().call_later(_LOOK_SECONDS, self.look)


def _since_last() -> int:
    """About how many objects were added since all were looked through."""
    (young, of_young, of_middle), (most_young, most_middle, _) = gc.get_count(), gc.get_threshold()
    return young + most_young * (of_young + most_middle * of_middle)


def _resident() -> int:
    """How many bytes of memory the process has; 0 where that cannot be told."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _trim() -> None:
    """Give free memory back to the system, where the C library is glibc."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
