"""Requests about sessions: what Chat's session handlers take and answer."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from adk_chat.protocol.events import Events
from adk_chat.protocol.json import Json

CHAT = "Chat"
"""The name of the virtual object that stores the sessions of one user."""

SessionId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
AppName = Annotated[str, StringConstraints(min_length=1)]


class Request(BaseModel):
    """The fields that all requests share."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]}, ser_json_inf_nan="constants")

    app_name: AppName | None = Field(None, description="The app. Optional if the service has only one.")


class SessionRequest(Request):
    """A request about one session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"session_id": "session-123"}]})

    session_id: SessionId


class GetSession(SessionRequest):
    """Which of a session's events to return with it."""

    num_recent_events: int | None = Field(None, ge=0, description="Only this many of the newest events; 0 for none.")
    after_timestamp: float | None = Field(
        None, description="Only events from this time on, in seconds since the epoch."
    )


class GetHistory(SessionRequest):
    """Which of a session's events to return."""

    limit: int | None = Field(None, ge=1, description="Only this many of the newest events.")
    before: str | None = Field(None, description="Only events before the one with this id.")
    after_timestamp: float | None = Field(
        None, description="Only events from this time on, in seconds since the epoch."
    )


def _or_an_id(schema: Json) -> None:
    inside = dict(schema)
    schema.clear()
    schema.update(
        {"anyOf": [{"type": "string"}, inside], "title": inside["title"], "examples": ["session-123"]},
    )


class History(GetHistory):
    """A session id, or an object that also says which events to return."""

    model_config = ConfigDict(json_schema_extra=_or_an_id)

    @model_validator(mode="before")
    @classmethod
    def _id(cls, value: object) -> object:
        return {"session_id": value} if isinstance(value, str) else value


class ListSessions(Request):
    """Which sessions of an app to list, ordered by when they were last active."""

    limit: int | None = Field(None, ge=1, description="At most this many.")
    newest_first: bool = Field(False, description="Start with the most recently active session.")
    cursor: str | None = Field(
        None,
        pattern=r"^[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?:",
        description="The nextCursor of an earlier answer: continue after it.",
    )


def _blank_is_none(value: object) -> object:
    return (value.strip() or None) if isinstance(value, str) else value


class CreateSession(Request):
    """A session to create."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"session_id": "session-123", "state": {"mood": "fine"}}]}
    )

    session_id: Annotated[str | None, BeforeValidator(_blank_is_none)] = Field(
        None, description="By default a new UUID."
    )
    state: Json = {}
    events: Events = Field([], description="ADK's events to start with, each with an id and a timestamp.")
    any_app: bool = Field(
        False, description="Accept an app that the service does not have: another program runs it and stores it here."
    )


class AppendEvents(SessionRequest):
    """Events to append to a session.

    A writer that holds a copy of the session passes its `revision`, or its `last_update_time` if it has lost the
    revision. If the session has changed since, nothing is stored and the answer is 412.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "session_id": "session-123",
                    "events": [
                        {
                            "id": "my-event",
                            "timestamp": 1700000000.0,
                            "author": "user",
                            "actions": {"stateDelta": {"mood": "fine"}},
                        }
                    ],
                }
            ]
        }
    )

    events: Events = Field(description="ADK's events, each with an id and a timestamp.")
    revision: int | None = None
    last_update_time: float | None = None


class Appended(BaseModel):
    """A session after an append. The events are durable when this is answered."""

    revision: int
    last_update_time: float
    stored: int = Field(description="How many of the events were new. An equal event is stored once.")


class KeptRefusal(Request):
    """A refused request whose answer Restate keeps under its idempotency key."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"invocation_id": "inv_1"}]})

    invocation_id: str = Field(
        pattern="^inv_[0-9A-Za-z]+$", description="The Restate invocation: header x-restate-id of the answer."
    )
