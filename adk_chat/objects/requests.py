"""What the public handlers of Chat take, with examples that the playground of the Restate UI opens with."""

from typing import Annotated, Literal

from google.genai import types
from pydantic import BaseModel, ConfigDict, Field, model_validator

from adk_chat.objects.run_config import RunConfigJson
from adk_chat.sessions.contract import OBJECTS, GetSession, Json, Request, SessionRequest, TurnBatch
from adk_chat.sessions.history import GetHistory

TURN = "Turn"
TRACE_HEADERS = ("traceparent", "tracestate")
"""The headers that carry the trace of a request on to its turn."""

HISTORY_BYTES = 20 * 1024 * 1024
"""The most that a turn is given of its session, as JSON; model APIs take no more than that either."""

MultitaskStrategy = Literal["enqueue", "reject", "interrupt", "rollback"]


class Message(SessionRequest):
    """A user's message to a session, which is created if it does not exist."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"message": "Make a poem about durable execution.", "session_id": "session-123"}]
        }
    )

    message: str | None = Field(None, description="The text.")
    parts: Annotated[list[types.Part], OBJECTS] | None = Field(
        None,
        description="Further parts, in genai's JSON: images, answers to calls. None at all, [], and no message either: "
        "the agent goes on from what was said.",
    )
    without_parts: bool = Field(False, description="The message says nothing, and is answered all the same, as in ADK.")
    state_delta: Json | None = Field(None, description="Changes to the state, as if the user had made them.")
    run_config: RunConfigJson = Field(None, description="What of ADK's RunConfig is to be other than by default.")
    invocation_id: str | None = Field(
        None, description="Resume this invocation of ADK, in a resumable app; the message may then be left out."
    )
    create: bool = Field(True, description="Create the session if it does not exist; otherwise that is a 404.")
    fingerprint: str | None = Field(
        None,
        description="Given back by `post`: of requests with one idempotency-key, that of the first.",
    )
    multitask_strategy: MultitaskStrategy = Field(
        "enqueue",
        description="What if a turn of the session runs: wait for it; reject this message with 409; interrupt the "
        "running turn and keep what it said; or roll it back, so that its words are unseen and its state is undone.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> "Message":
        if self.message is not None and not self.message.strip():
            raise ValueError("message: is blank; send some text")
        nothing = self.message is None and self.parts is None and self.invocation_id is None
        if nothing and not self.without_parts:
            raise ValueError("message: is missing; send some text, or parts")
        return self

    def content(self) -> Json | None:
        """The message as a genai Content in JSON; None where the agent goes on without one."""
        if self.message is None and not self.parts and not self.without_parts:
            return None
        parts = [types.Part(text=self.message)] if self.message is not None else []
        content = types.Content(role="user", parts=parts + (self.parts or []))
        return content.model_dump(mode="json", by_alias=True, exclude_none=True)


def _or_an_id(schema: Json) -> None:
    inside = dict(schema)
    schema.clear()
    schema.update(
        {"anyOf": [{"type": "string"}, inside], "title": inside["title"], "examples": ["session-123"]},
    )


class History(GetHistory):
    """A session id, or which of a session's events to give."""

    model_config = ConfigDict(json_schema_extra=_or_an_id)

    @model_validator(mode="before")
    @classmethod
    def _id(cls, value: object) -> object:
        return {"session_id": value} if isinstance(value, str) else value


class ListSessions(Request):
    """Which sessions of an app to list, in the order in which they were active."""

    limit: int | None = Field(None, ge=1, description="At most so many.")
    newest_first: bool = Field(False, description="Begin with the one that was active last.")
    cursor: str | None = Field(
        None,
        pattern=r"^[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?:",
        description="Go on after what an earlier answer gave as nextCursor.",
    )


class SessionHead(BaseModel):
    """A session without its events, and what it shares with others, as Chat has read them."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    created: float | None = Field(None, description="When the session was created; null if it does not exist yet.")
    deletions: int | None = Field(None, description="How many sessions the user had deleted when this was read.")
    revision: int = 0
    count: int = Field(0, description="How many events it has.")
    batches: int = Field(0, description="How many of its appends are of turns.")
    mark: str | None = Field(None, description="Of the last append, if a turn made it.")
    last_update_time: float = 0
    first_session: bool = Field(False, description="The user has no index yet.")
    state: Json = {}
    user_state: Json = {}
    app_version: int = Field(0, description="The version of the app: state after this user's last change to it.")


class LoadSession(GetSession):
    """Which of a session's events to give: if it is still the same one, none of those that are at hand."""

    have: int = Field(0, description="How many of the first.")
    until: int | None = Field(None, description="And none from the one of that number on.")
    created: float | None = Field(None, description="As in `TurnBatch`.")
    deletions: int | None = Field(None, description="As in `TurnBatch`.")


class LoadedSession(SessionHead):
    """A session with events up to its newest, from the one of that number on."""

    first: int = 0
    events: list[Json] = []


class TurnRequest(BaseModel):
    """What Chat asks of Turn."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    content: Json | None = None
    run_config: Json | None = None
    invocation_id: str | None = Field(None, description="ADK's, to resume.")
    head: SessionHead = SessionHead()
    events: list[Json] | None = Field(None, description="What an earlier version has sent along: the events to see.")
    state_delta: Json | None = None
    alone: bool = Field(False, description="Refuse with 409 if a turn has got in between.")
    roll_back: str | None = Field(None, description="The Restate invocation of a cancelled turn, to be taken back.")
    publish: bool = Field(False, description="Somebody may be watching.")
    reply_to: str | None = Field(None, description="An awakeable for the reply, resolved once it is stored.")

    @model_validator(mode="before")
    @classmethod
    def _queued_before(cls, value: object) -> object:
        """What an earlier version has asked may wait in a queue for long: a session went along as a whole."""
        if not isinstance(value, dict) or "head" in value:
            return value
        session = value.get("session") or {}
        head = {name: value[name] for name in SessionHead.model_fields if name in value}
        head |= {"state": session.get("state", {}), "revision": session.get("revision", 0)}
        head |= {"last_update_time": session.get("lastUpdateTime", 0), "count": len(session.get("events", []))}
        return {**value, "head": head, "events": session.get("events", [])}


class Reply(BaseModel):
    """The reply of a turn, on its way to who waits for it."""

    to: str
    text: str


class TurnEvents(TurnBatch):
    """What a turn has appended to its session, on its way to Chat."""

    index_page: int | None = Field(None, description="What an earlier version has sent along.", exclude=True)
    first_session: bool = False
    reply: Reply | None = None
    confirm_to: str | None = Field(None, description="A Restate invocation that is told once the events are stored.")
    confirm: str = Field("", description="The signal by which it is told.")


class CancelTurn(SessionRequest):
    """The turn to cancel."""

    turn_id: str | None = Field(None, description="Only if it is this one that runs; by default whichever does.")


class Deleted(BaseModel):
    """A session that was deleted."""

    deletions: int = Field(0, description="How many sessions the user has deleted by then, this one included.")


class RunningTurn(BaseModel):
    """A turn by the Restate invocation that runs it; None for none, or for whichever it is."""

    invocation_id: str | None = None
