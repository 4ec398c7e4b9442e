"""What is counted of turns. Each thing once, whatever is replayed; what ends as a process dies may be counted again."""

import time

from google.adk.events.event import Event
from opentelemetry import metrics

_meter = metrics.get_meter("adk_chat")
_running = _meter.create_up_down_counter("adk_chat.turns.running", "{turn}", "Turns that this process runs.")
_ended = _meter.create_counter("adk_chat.turns.ended", "{turn}", "Turns that ended, by outcome and app.")
_seconds = _meter.create_histogram("adk_chat.turn.duration", "s", "From the first attempt's beginning to the end.")
_first = _meter.create_histogram("adk_chat.turn.time_to_first_token", "s", "Until the agent says something.")
_tokens = _meter.create_counter("adk_chat.tokens", "{token}", "What models report, by type and app.")


class TurnMetrics:
    """Counts one attempt at a turn.

    Args:
        app: the app's name.
        began: when the first attempt began, in seconds since the epoch.
    """

    def __init__(self, app: str, began: float) -> None:
        self._app = {"app": app}
        self._began = began
        self._heard = False
        _running.add(1, self._app)

    def hear(self, event: Event, *, replaying: bool) -> None:
        """The agent brought forth an event."""
        first, self._heard = not self._heard, True
        if replaying:
            return
        if first:
            _first.record(max(0.0, time.time() - self._began), self._app)
        usage = event.usage_metadata
        if usage is not None and not event.partial:
            _tokens.add(usage.prompt_token_count or 0, {**self._app, "type": "input"})
            _tokens.add(usage.candidates_token_count or 0, {**self._app, "type": "output"})

    def end(self, outcome: str, seconds: float) -> None:
        """The turn is over."""
        _ended.add(1, {**self._app, "outcome": outcome})
        _seconds.record(seconds, self._app)

    def leave(self) -> None:
        """The attempt is over, or suspended."""
        _running.add(-1, self._app)
