"""The cancellation of a turn: ADK itself ends it then, answering open function calls; cut-off answers are kept."""

import asyncio

from google.adk.events.event import Event

from adk_chat.durable import Journal
from adk_chat.turns.partial import PartialAnswers, kept


class Cancellation:
    """Whether one attempt at a turn is cancelled, and what its models were saying then.

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
        """The agent brought forth an event."""
        self._partial.hear(event)

    def cut_off(self) -> list[Event]:
        """The answers that it has cut off, once: they belong in front of all that comes of it."""
        if self._told or not self.signal.is_set():
            return []
        self._told = True
        # They were cut off inside their steps, so a replay has nothing of them.
        return kept(self._journal.record("interrupted", self._partial.dump))
