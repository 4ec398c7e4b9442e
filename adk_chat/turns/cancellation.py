"""The cancellation of a turn. ADK ends the turn and answers open function calls; interrupted answers are kept."""

import asyncio

from google.adk.events.event import Event

from adk_chat.durable import Journal
from adk_chat.turns.partial import PartialAnswers, kept


class Cancellation:
    """Whether one attempt at a turn is cancelled, and which answers of its models that interrupted.

    Args:
        journal: of the attempt.
        signal: set by the journal when the turn is cancelled; ADK's `abort_signal`.
    """

    def __init__(self, journal: Journal, signal: asyncio.Event) -> None:
        self._journal = journal
        self._partial = PartialAnswers()
        self._told = False
        self.signal = signal

    def hear(self, event: Event) -> None:
        """Takes note of an event of the agent."""
        self._partial.hear(event)

    def cut_off(self) -> list[Event]:
        """Returns the interrupted answers, once. They precede all events that the cancellation causes."""
        if self._told or not self.signal.is_set():
            return []
        self._told = True
        # They were interrupted inside their steps, so a replay knows nothing of them.
        return kept(self._journal.record("interrupted", self._partial.dump))
