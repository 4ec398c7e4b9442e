"""What the log and the metrics say of a turn: each thing once, however much is replayed."""

import logging
import time

import restate
from google.adk.events.event import Event
from opentelemetry import metrics

from adk_chat.durable import Journal
from adk_chat.objects.calls import CANCELLED
from adk_chat.process.telemetry import BUCKETS
from adk_chat.process.tracebacks import own_traceback

logger = logging.getLogger("adk_chat.turn")

_meter = metrics.get_meter("adk_chat")
_running = _meter.create_up_down_counter("adk_chat.turns.running", "{turn}", "Turns running in this process.")
_ended = _meter.create_counter("adk_chat.turns.ended", "{turn}", "Ended turns, by outcome and app.")
_seconds = _meter.create_histogram(
    "adk_chat.turn.duration",
    "s",
    "Time from the first attempt to the end.",
    explicit_bucket_boundaries_advisory=BUCKETS,
)
_first = _meter.create_histogram(
    "adk_chat.turn.time_to_first_token",
    "s",
    "Time until the agent says something.",
    explicit_bucket_boundaries_advisory=BUCKETS,
)
_tokens = _meter.create_counter("adk_chat.tokens", "{token}", "Tokens that models report, by type and app.")


class TurnReport:
    """Reports one attempt at a turn, from `begin` to `leave`."""

    def __init__(self, app: str, journal: Journal) -> None:
        self._app = {"app": app}
        self._journal = journal
        self._heard = False
        self._error: BaseException | None = None

    def begin(self) -> None:
        """Reports that the attempt begins."""
        _running.add(1, self._app)
        if not self._journal.resumed:
            logger.info("The turn starts.")

    def hear(self, event: Event, *, new: bool) -> None:
        """Takes note of an event. It is `new` unless an earlier attempt stored it."""
        first, self._heard = not self._heard, True
        if first and not self._journal.resumed:
            _first.record(self._since(), self._app)
        usage = event.usage_metadata
        if usage is not None and new:
            _tokens.add(usage.prompt_token_count or 0, {**self._app, "type": "input"})
            _tokens.add(usage.candidates_token_count or 0, {**self._app, "type": "output"})

    def failed(self, error: BaseException) -> None:
        """Takes note that the agent raised."""
        self._error = error

    def end(self, failure: restate.TerminalError | None) -> None:
        """Reports the end of the turn, with its error, if any."""
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
        """Reports that the attempt is over or suspended."""
        _running.add(-1, self._app)

    def _since(self) -> float:
        """Returns the seconds since the first attempt began."""
        return max(0.0, time.time() - self._journal.began)


def _outcome(failure: restate.TerminalError | None) -> str:
    if failure is None:
        return "answered"
    return "cancelled" if failure.status_code == CANCELLED else "failed"
