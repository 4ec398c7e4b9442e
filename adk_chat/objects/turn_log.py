"""What the log says of a turn: that it begins, and how it ended; each once, whatever is replayed."""

import logging
import time
from contextvars import ContextVar

import restate

from adk_chat.failures import own_traceback
from adk_chat.sessions.turn_id import TurnId

logger = logging.getLogger("adk_chat.turn")

current_turn: ContextVar[TurnId | None] = ContextVar("current_turn", default=None)
"""The turn that runs here, for the records of whatever logs."""

_CANCELLED = 409


def outcome(failure: restate.TerminalError | None) -> str:
    """How a turn ended: answered, cancelled or failed."""
    if failure is None:
        return "answered"
    return "cancelled" if failure.status_code == _CANCELLED else "failed"


class TurnLog:
    """The two lines of a turn.

    Args:
        began: when the first attempt began, in seconds since the epoch.
        first: whether this is that attempt.
    """

    def __init__(self, began: float, first: bool) -> None:
        self._began = began
        self._error: Exception | None = None
        if first:
            logger.info("The turn begins.")

    def failed(self, error: Exception) -> None:
        """The agent raised."""
        self._error = error

    def end(self, failure: restate.TerminalError | None) -> None:
        """The turn is over, and answered with that if it ended badly."""
        ended = outcome(failure)
        seconds = round(max(0.0, time.time() - self._began), 3)
        fields = {"outcome": ended, "seconds": seconds}
        if failure is None or ended == "cancelled":
            logger.info("The turn was %s after %.2f s.", ended, seconds, extra={"fields": fields})
            return
        said = own_traceback(self._error).rstrip() if self._error else failure.message
        level = logging.WARNING if failure.status_code < 500 else logging.ERROR
        logger.log(
            level, "The turn failed after %.2f s (%d). %s", seconds, failure.status_code, said, extra={"fields": fields}
        )
