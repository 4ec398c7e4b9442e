"""What the log and the metrics say of a turn: each thing once, whatever is replayed."""

import logging
import time

import restate
from google.adk.events.event import Event
from opentelemetry import metrics

from adk_chat.durable import Journal
from adk_chat.objects.calls import CANCELLED
from adk_chat.process.tracebacks import own_traceback

logger = logging.getLogger("adk_chat.turn")

_meter = metrics.get_meter("adk_chat")
_running = _meter.create_up_down_counter("adk_chat.turns.running", "{turn}", "Turns that this process runs.")
_ended = _meter.create_counter("adk_chat.turns.ended", "{turn}", "Turns that ended, by outcome and app.")
_seconds = _meter.create_histogram("adk_chat.turn.duration", "s", "From the first attempt's beginning to the end.")
_first = _meter.create_histogram("adk_chat.turn.time_to_first_token", "s", "Until the agent says something.")
_tokens = _meter.create_counter("adk_chat.tokens", "{token}", "What models report, by type and app.")


class TurnReport:
    """Reports one attempt at a turn, which begins here and ends with `leave`."""

    def __init__(self, app: str, journal: Journal) -> None:
        self._app = {"app": app}
        self._journal = journal
        self._heard = False
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Reports that the attempt begins."""
        _running.add(1, self._app)
        if not self._journal.resumed:
            logger.info("The turn begins.")

    def hear(self, event: Event, *, new: bool) -> None:
        """The agent brought forth an event; a new one, unless an attempt before this one has stored it."""
        first, self._heard = not self._heard, True
        if first and not self._journal.resumed:
            _first.record(self._since(), self._app)
        usage = event.usage_metadata
        if usage is not None and new:
            _tokens.add(usage.prompt_token_count or 0, {**self._app, "type": "input"})
            _tokens.add(usage.candidates_token_count or 0, {**self._app, "type": "output"})

    def failed(self, error: BaseException) -> None:
        """The agent raised."""
        self._error = error

    def end(self, failure: restate.TerminalError | None) -> None:
        """The turn is over, and answered with that if it ended badly."""
        outcome, seconds = _outcome(failure), self._since()
        _ended.add(1, {**self._app, "outcome": outcome})
        _seconds.record(seconds, self._app)
        fields = {"outcome": outcome, "seconds": round(seconds, 3)}
        if failure is None or outcome == "cancelled":
            logger.info("The turn was %s after %.2f s.", outcome, seconds, extra={"fields": fields})
            return
        said = own_traceback(self._error).rstrip() if self._error else failure.message
        level = logging.WARNING if failure.status_code < 500 else logging.ERROR
        logger.log(
            level, "The turn failed after %.2f s (%d). %s", seconds, failure.status_code, said, extra={"fields": fields}
        )

    def leave(self) -> None:
        """The attempt is over, or suspended."""
        _running.add(-1, self._app)

    def _since(self) -> float:
        """Seconds since the first attempt began."""
        return max(0.0, time.time() - self._journal.began)


def _outcome(failure: restate.TerminalError | None) -> str:
    if failure is None:
        return "answered"
    return "cancelled" if failure.status_code == CANCELLED else "failed"
