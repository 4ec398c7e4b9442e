"""Takes back a cancelled turn: the model no longer sees its events, and the session's state is as before it.

ADK's own mark on an event hides the events, so all of ADK that reads a history respects it, and nothing stored is lost.
`Runner.rewind_async` would write the same mark, but computes the state from the events at hand: it would remove the
session's initial state, and what older events set that the turn has not loaded. Here the cancelled turn notes the state
it found. Artifacts and `user:` and `app:` state stay, as in ADK.
"""

from itertools import dropwhile

from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.platform import uuid as platform_uuid
from google.adk.sessions.session import Session
from google.adk.sessions.state import State
from pydantic import BaseModel

from adk_chat.protocol.json import Json
from adk_chat.protocol.turn_id import event_id_prefix


class Cancelled(BaseModel):
    """What Turn remembers of the last cancelled turn."""

    invocation_id: str
    undo: Json = {}

    @classmethod
    def of(cls, invocation_id: str, before: Json, events: list[Event]) -> "Cancelled":
        """Returns the record of a turn that found the state `before` and produced `events`."""
        changed = {key for event in events for key in event.actions.state_delta}
        scoped = (State.APP_PREFIX, State.USER_PREFIX, State.TEMP_PREFIX)
        return cls(
            invocation_id=invocation_id,
            undo={key: before.get(key) for key in sorted(changed) if not key.startswith(scoped)},
        )

    def rewind(self, session: Session) -> Event | None:
        """Returns the event that takes the turn back.

        None if the turn has no events, if it resumed an older invocation, or if another queued turn has answered since:
        ADK's mark would hide those events as well.
        """
        mark = event_id_prefix(self.invocation_id)
        since = list(dropwhile(lambda event: not event.id.startswith(mark), session.events))
        if not since or not (first := since[0]).invocation_id.startswith(f"e-{mark}"):
            return None
        if any(event.content and event.invocation_id != first.invocation_id for event in since):
            return None
        return Event(
            invocation_id=f"e-{platform_uuid.new_uuid()}",
            author="user",
            actions=EventActions(rewind_before_invocation_id=first.invocation_id, state_delta=self.undo),
        )
