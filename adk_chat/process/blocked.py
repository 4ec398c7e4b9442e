"""Logs which code blocks the event loop, and with it every turn of the process.

Agent code that blocks, such as `time.sleep` in a callback, blocks under ADK as well. Here other users wait for it too.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType

from opentelemetry import metrics

from adk_chat.process.tracebacks import called_frames

logger = logging.getLogger(__name__)

_blocked = metrics.get_meter("adk_chat").create_counter(
    "adk_chat.event_loop.blocked", "s", "How long the event loop was blocked, each time for more than a second."
)

LONG_SECONDS = 1.0
_LOOK_SECONDS = 0.25
_FEW = 3
"""How many lines of each end of a long stack are shown."""


class BlockedWatch:
    """Watches an event loop from a thread of its own, until it is stopped."""

    def __init__(self) -> None:
        self._seen = 0.0
        self._stopped = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Starts to watch the running event loop."""
        _blocked.add(0)  # Prometheus sees no increase in the first value of a series
        self._tick()
        watch = threading.Thread(
            target=self._watch, args=(threading.get_ident(),), name="adk_chat blocked", daemon=True
        )
        watch.start()

    def stop(self) -> None:
        """Stops watching. Has to be called on the loop."""
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
                _blocked.add(seen - blocked_at)
                logger.warning("The event loop continues after %.1f s.", seen - blocked_at)
                blocked_at = 0.0
            # If the whole process or its machine was suspended, nobody blocked the loop.
            elif not blocked_at and now - seen > LONG_SECONDS and not stood_still:
                blocked_at = seen
                logger.warning(
                    "The event loop has been blocked for more than %g s, and with it all turns of this process. %s",
                    *(LONG_SECONDS, _where(sys._current_frames().get(thread))),
                )


def _where(frame: FrameType | None) -> str:
    """Returns the lines of the agent's own code that are running, or all running lines if there are none."""
    frames = traceback.extract_stack(frame)
    shown = called_frames(frames) or frames[-_FEW:]
    if len(shown) > 2 * _FEW:
        shown = [*shown[:_FEW], *shown[-_FEW:]]
    lines = "".join(traceback.format_list(shown)).rstrip()
    return f"Running code:\n{lines}"
