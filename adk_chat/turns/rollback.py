"""Taking back a cancelled turn: its events become unseen to the model, and the session's state is as it was before.

ADK's own mark on an event does the first, so everything of ADK that reads a history respects it, and nothing that was
stored is lost. `Runner.rewind_async` would write the same mark, but works the state out from the events at hand: it
would take away what the session was created with, and what older events set that the turn has not loaded. Here the
cancelled turn itself says what it found. Artifacts and `user:` and `app:` state stay, as with ADK.
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
    """What Turn remembers of the last turn that was cancelled."""

    invocation_id: str
    undo: Json = {}

    @classmethod
    def of(cls, invocation_id: str, before: Json, events: list[Event]) -> "Cancelled":
        """A turn that found the state `before` and brought forth `events`."""
        changed = {key for event in events for key in event.actions.state_delta}
        scoped = (State.APP_PREFIX, State.USER_PREFIX, State.TEMP_PREFIX)
        return cls(
            invocation_id=invocation_id,
            undo={key: before.get(key) for key in sorted(changed) if not key.startswith(scoped)},
        )

    def rewind(self, session: Session) -> Event | None:
        """The event that takes the turn back.

        None where it said nothing, went on with an older invocation, or another turn that was queued has answered
        since: ADK's mark would make those unseen as well.
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
