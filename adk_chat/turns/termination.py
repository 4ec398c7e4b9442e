"""The record of a turn that could not store its own end."""

import uuid
from collections.abc import Sequence

from google.adk.events.event import Event

from adk_chat.durable.adk import seams
from adk_chat.protocol.events import TURN_FAILED
from adk_chat.protocol.turn_id import event_id_prefix

_IDS = uuid.UUID("3d3f4a0e-52cd-5d0c-9e0d-4f6d7f0c8b11")


def ended_events(invocation_id: str, events: Sequence[Event], author: str, time: float) -> list[Event]:
    """Returns the events that record that a turn has ended. Whoever makes them, they are the same.

    Returns none if they are stored already: a turn that stored them for another one may have been killed before it
    noted that. Open function calls are answered as ADK does for an aborted invocation, because models refuse a history
    with an unanswered call.

    Args:
        invocation_id: the Restate invocation of the turn.
        events: the newest events of the session.
        author: the author of the record.
        time: its time, in seconds since the epoch.
    """
    mark = event_id_prefix(invocation_id)
    of_turn = list(dict.fromkeys(event.invocation_id for event in events if event.id.startswith(mark)))
    made = [answer for one in of_turn for answer in seams.abort_events(events, one, author) if answer.content]
    end = Event(
        author=author,
        error_code="TURN_ENDED",
        error_message="The turn was ended early. What it said before that is stored.",
        custom_metadata={TURN_FAILED: True},
    )
    for number, event in enumerate([end, *made]):
        event.id = mark + str(uuid.uuid5(_IDS, f"{invocation_id} {number}" if number else invocation_id))[len(mark) :]
        event.timestamp = time
    if any(event.id == end.id for event in events):
        return []
    end.invocation_id = of_turn[0] if of_turn else f"e-{end.id}"
    return [*made, end]
