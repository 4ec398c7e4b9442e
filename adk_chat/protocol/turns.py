"""The internal protocol between Chat and Turn.

All fields have defaults or are optional where an earlier version may have sent a request without them: a turn can wait
in its queue across an upgrade.
"""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from adk_chat.protocol.frontend import Frontend
from adk_chat.protocol.json import Json
from adk_chat.protocol.run_config import RequestedRunConfig
from adk_chat.protocol.sessions import GetSession, SessionRequest

TURN = "Turn"
"""The name of the virtual object that runs the turns of one session."""
TRACE_HEADERS = ("traceparent", "tracestate")
"""The headers that connect the trace of a request with its turn."""


class SessionHead(BaseModel):
    """A session without its events, and the state that it shares, as Chat read them."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    created: float | None = Field(None, description="When the session was created; null if it does not exist yet.")
    deletions: int | None = Field(None, description="How many sessions the user had deleted by then.")
    revision: int = 0
    count: int = Field(0, description="How many events it has.")
    batches: int = Field(0, description="How many appends were made by turns.")
    mark: str | None = Field(None, description="The mark of the last append, if a turn made it.")
    last_update_time: float = 0
    first_session: bool = Field(False, description="The user has no index yet.")
    state: Json = {}
    user_state: Json = {}
    app_version: int = Field(0, description="The version of the app: state after this user's last change to it.")


class LoadSession(GetSession):
    """Which of a session's events Turn wants. It skips those that its process has cached."""

    have: int = Field(0, description="Skip this many of the first events.")
    until: int | None = Field(None, description="Skip the event with this number and all later ones.")
    created: float | None = Field(None, description="See `TurnEvents`.")
    deletions: int | None = Field(None, description="See `TurnEvents`.")


class LoadedSession(SessionHead):
    """A session with its events from number `first` on."""

    first: int = 0
    events: list[Json] = []


class TurnRequest(BaseModel):
    """A turn that Chat asks Turn to run."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    content: Json | None = None
    run_config: RequestedRunConfig | None = None
    invocation_id: str | None = Field(None, description="The ADK invocation to resume.")
    head: SessionHead = SessionHead()
    events: list[Json] | None = Field(None, description="Sent by version 0.1 before 2026-11: the events to see.")
    state_delta: Json | None = None
    frontend: Frontend | None = None
    alone: bool = Field(False, description="Refuse with 409 if another turn ran since Chat read the session.")
    roll_back: str | None = Field(None, description="The Restate invocation of a cancelled turn to undo.")
    publish: bool = Field(False, description="Somebody may be watching.")
    reply_to: str | None = Field(None, description="An awakeable for the reply, resolved once the turn is stored.")

    @model_validator(mode="before")
    @classmethod
    def _queued_before(cls, value: object) -> object:
        """Reads a request of an earlier version, which carried the whole session. It may have queued for long."""
        if not isinstance(value, dict) or "head" in value:
            return value
        session = value.get("session") or {}
        head = {name: value[name] for name in SessionHead.model_fields if name in value}
        head |= {"state": session.get("state", {}), "revision": session.get("revision", 0)}
        head |= {"last_update_time": session.get("lastUpdateTime", 0), "count": len(session.get("events", []))}
        return {**value, "head": head, "events": session.get("events", [])}


class Reply(BaseModel):
    """The reply of a turn, and the awakeable of the caller that waits for it."""

    to: str
    text: str


class TurnEvents(SessionRequest):
    """Events that a turn appends, and the session they belong to: the one that existed when the message was accepted.

    That session is `created`. If there was none, it is any session created since, unless a session with that id was
    deleted meanwhile.
    """

    events: list[Json]
    batch: int = Field(description="Numbers the appends of the session's turns. A repeated batch is stored once.")
    turn: str | None = Field(None, description="The Restate invocation of the turn; null from an earlier version.")
    mark: str | None = Field(None, description="A random text, drawn by the attempt that made the batch.")
    create: bool = Field(False, description="Create the session if there is none.")
    created: float | None = Field(None, description="When the session was created that the turn found, if any.")
    deletions: int | None = Field(None, description="How many sessions the user had deleted by then.")
    index_page: int | None = Field(None, description="Sent by an earlier version; ignored.", exclude=True)
    first_session: bool = False
    reply: Reply | None = None
    confirm_to: str | None = Field(None, description="A Restate invocation to signal once the events are stored.")
    confirm: str = Field("", description="The name of that signal.")


class Deleted(BaseModel):
    """A deletion of a session."""

    deletions: int = Field(0, description="How many sessions the user has deleted so far, this one included.")


class RunningTurn(BaseModel):
    """A turn, by the Restate invocation that runs it. None means no turn, or whichever one is running."""

    invocation_id: str | None = None
