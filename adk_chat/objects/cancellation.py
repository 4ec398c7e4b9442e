"""The cancellation of a turn: ADK itself ends it then, answering open function calls; cut-off answers are kept."""

import asyncio

import restate
from google.adk.events.event import Event

from adk_chat.durable import Journal
from adk_chat.objects.partial import PartialAnswers, kept

CANCELLED = 409
"""The status with which the SDK tells a handler that its Restate invocation is cancelled."""


async def ask(ctx: restate.Context, service: str, handler: str, body: bytes, key: str) -> bytes:
    """The answer of a handler that may be called twice, for a turn that may be cancelled meanwhile.

    The engine cancels what a turn waits for together with the turn, which needs the answer all the same: it was begun
    again, and what it said before is to get a proper end; or it has ended, and only has to be stored. Each further call
    takes another cancellation.

    Raises:
        restate.TerminalError: as the handler says.
    """
    while True:
        try:
            return await ctx.generic_call(service, handler, body, key=key)
        except restate.TerminalError as error:
            if error.status_code != CANCELLED:
                raise


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
