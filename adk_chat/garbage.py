"""Garbage collection in a process that serves."""

import gc

_THRESHOLDS = (50_000, 10, 10)
"""How many more objects than now start a collection; how many of those the next generation's; and of those, the last's.
Python's own are for scripts: a turn makes some ten thousand objects, most of which are gone without any collection."""


def settle() -> None:
    """Leave out of all further collections what the process has by now; called once it is ready to serve.

    ADK's modules alone are some hundred thousand objects that never go. To look through them takes a quarter of a
    second in which nothing is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
