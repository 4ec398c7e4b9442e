"""Garbage collection in a process that serves."""

import asyncio
import ctypes
import gc
import os
import time
from contextlib import suppress
from pathlib import Path

_THRESHOLDS = (50_000, 10, 10)
"""How many objects allocated since the last collection start one, and how many collections of a generation start one of
the next. Python's defaults suit scripts: a turn makes about ten thousand objects, and most of them need no collection
to go."""
_LOOK_SECONDS = 5.0
_MUCH = 200_000
"""This many objects are worth a full collection, which takes up to a third of a second."""
_LARGE = 128 * 1024 * 1024
"""If the process has grown by this many bytes, it is worth trimming its memory, which takes a fifth of a second."""
_QUIET = 0.2
"""A process that uses less than this share of a CPU is idle."""


def settle() -> None:
    """Excludes what the process holds now from all later collections. Called once it is ready to serve.

    ADK's modules alone are several hundred thousand objects that never go. Looking through them takes a quarter of a
    second in which nothing is answered.

    From now on the process also tidies up when it is idle. A burst of turns leaves half a million objects in cycles,
    which the next full collection would reach only much later. Large requests, which arrive in small pieces, leave
    memory that is free but that the C library keeps.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    _WhenQuiet().look()


class _WhenQuiet:
    """Tidies up when there is much to tidy up and little else to do."""

    def __init__(self) -> None:
        self._worked = time.process_time()
        self._resident = _resident()

    def look(self) -> None:
        """Checks again and again whether the process is idle."""
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
    """Returns about how many objects were added since the last full collection."""
    (young, of_young, of_middle), (most_young, most_middle, _) = gc.get_count(), gc.get_threshold()
    return young + most_young * (of_young + most_middle * of_middle)


def _resident() -> int:
    """Returns how many bytes of memory the process has, 0 if unknown."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _trim() -> None:
    """Returns free memory to the system if the C library is glibc."""
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
