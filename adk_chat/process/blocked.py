"""Says in the log which code keeps the event loop from going on, and with it every turn of the process.

Code of an agent that blocks, as `time.sleep` in a callback, does so under ADK as well. Here other users wait for it.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from adk_chat.process.tracebacks import called_frames

logger = logging.getLogger(__name__)

LONG_SECONDS = 1.0
_LOOK_SECONDS = 0.25
_FEW = 3
"""Lines of each end of a long stack that are shown."""


class BlockedWatch:
    """Watches the event loop that it is made on from a thread of its own, until it is stopped."""

    def __init__(self) -> None:
        self._seen = 0.0
        self._stopped = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts to watch the running event loop."""
        self._tick()
        watch = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="adk_chat blocked", daemon=True
        )
        watch.start()

    def stop(self) -> None:
        """Watch no more. To be called on the loop."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._seen = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._tick)

    def _watch(self, thread: int) -> None:
        blocked_at, looked_at = 0.0, time.monotonic()
        while not self._stopped.wait(_LOOK_SECONDS):
            seen, now = self._seen, time.monotonic()
            stood_still, looked_at = now - looked_at > 2 * _LOOK_SECONDS, now
            if blocked_at and seen > blocked_at:
                logger.warning("The event loop goes on, after %.1f s.", seen - blocked_at)
                blocked_at = 0.0
            # A process that was stopped as a whole, or its machine, is nobody's fault.
            elif not blocked_at and now - seen > LONG_SECONDS and not stood_still:
                blocked_at = seen
                logger.warning(
                    "The event loop stands still for more than %g s, and with it all turns of this process. %s",
                    *(LONG_SECONDS, _where(sys._current_frames().get(thread))),
                )


def _where(frame: FrameType | None) -> str:
    """The lines of an agent's own code that are being run; if there are none, those that are."""
    frames = traceback.extract_stack(frame)
    shown = called_frames(frames) or frames[-_FEW:]
    if len(shown) > 2 * _FEW:
        shown = [*shown[:_FEW], *shown[-_FEW:]]
    lines = "".join(traceback.format_list(shown)).rstrip()
    return f"What is being run:\n{lines}"
