"""What a step may raise, and whether an error means that the current task is being cancelled."""

import asyncio

Raisable = Exception | asyncio.CancelledError
"""What a step may raise. Anything else, such as SystemExit, would end the event loop and with it all turns."""


def is_cancelled(error: BaseException) -> bool:
    """Returns whether `error` is raised because the current task is being cancelled."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def as_exception(error: BaseException) -> Exception:
    """Returns an exception with the name and the message of `error`, for one that must not reach the event loop."""
    kind = type(error)
    made: Exception = type(kind.__name__, (RuntimeError,), {"__module__": kind.__module__})(str(error))
    return made
