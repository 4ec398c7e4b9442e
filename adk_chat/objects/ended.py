"""What is stored for a turn that could not store its own end: it was killed, or a bug kept it from it."""

import uuid
from collections.abc import Iterable

import restate
from google.adk.events.event import Event

from adk_chat.objects.requests import TURN, RunningTurn
from adk_chat.sessions.turn_end import TURN_FAILED
from adk_chat.sessions.turn_id import TurnKey, event_id_prefix

_IDS = uuid.UUID("3d3f4a0e-52cd-5d0c-9e0d-4f6d7f0c8b11")


def ended_event(invocation_id: str, events: Iterable[Event], author: str, time: float) -> Event:
    """The event that says so, the same whoever makes it.

    Args:
        invocation_id: the Restate invocation of the turn.
        events: those of the session.
        author: of the event.
        time: when it is made, in seconds since the epoch.
    """
    mark = event_id_prefix(invocation_id)
    made = mark + str(uuid.uuid5(_IDS, invocation_id))[len(mark) :]
    of_turn = (event.invocation_id for event in events if event.id.startswith(mark))
    return Event(
        id=made,
        invocation_id=next(of_turn, f"e-{made}"),
        author=author,
        timestamp=time,
        error_code="TURN_ENDED",
        error_message="The turn was ended before it was done; what it had said until then is stored.",
        custom_metadata={TURN_FAILED: True},
    )


def send_settle(ctx: restate.Context, key: TurnKey, invocation_id: str) -> None:
    """Have Turn store it, once no turn runs."""
    request = RunningTurn(invocation_id=invocation_id)
    ctx.generic_send(TURN, "settle", request.model_dump_json().encode(), key=str(key))
