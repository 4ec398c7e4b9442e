"""What goes in and out of the session handlers of Chat: ADK's session contract as JSON.

Whatever is ADK's is in ADK's own JSON: camelCase, no nulls, no defaults.
"""

import logging
import math
from collections.abc import Sequence
from typing import Annotated, Any

from google.adk.events.event import Event
from google.adk.sessions.session import Session
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticSerializationError, to_jsonable_python

logger = logging.getLogger(__name__)

CHAT = "Chat"
"""The name of the virtual object that keeps the sessions of one user."""

MAX_BYTES = 24 * 1024 * 1024
"""The most that goes into one K/V value or one message. The engine refuses 32 MiB, and would be asked for ever."""

MAX_STATE_BYTES = 4 * 1024 * 1024
"""The most that one scope of the state takes as JSON: of a session, of a user, of an app. A turn carries all three."""

MAX_EVENTS = 20_000
"""The most events in one request. To check one takes a tenth of a millisecond, in which everybody else waits."""

MAX_DEPTH = 180
"""How deep what is kept may be nested; JSON is read to a depth of 200."""

Json = dict[str, Any]
OBJECTS = WithJsonSchema({"type": "array", "items": {"type": "object"}})
"""Types of ADK and genai, whose own schemas would bury those of the requests in the playground."""
SessionId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
AppName = Annotated[str, StringConstraints(min_length=1)]


def event_json(event: Event) -> Json:
    """`event` as it is stored, answered and streamed. A value without a form in JSON becomes its repr."""
    # pydantic's exclude_defaults would reach into the models that tools return, and nobody could read those back.
    dumped = _dumped(event)
    if _has_infinite(event.actions.state_delta):  # of which ADK's JSON makes null
        dumped["actions"]["stateDelta"] = to_jsonable_python(event.actions.state_delta, by_alias=True, fallback=repr)
    for name in ("actions", "nodeInfo"):
        dumped[name] = _without(_DEFAULTS[name], dumped[name])
    return _without({**_DEFAULTS, "actions": {}, "nodeInfo": {}}, dumped)


def _has_infinite(value: object) -> bool:
    """Whether there is an infinity in it, or NaN."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_infinite, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_infinite, value))


def _dumped(event: Event) -> Json:
    return event.model_dump(mode="json", by_alias=True, exclude_none=True, fallback=repr)


def _without(defaults: Json, given: Json) -> Json:
    return {name: value for name, value in given.items() if name not in defaults or value != defaults[name]}


_DEFAULTS = {
    name: value for name, value in _dumped(Event(author="")).items() if name not in ("id", "author", "timestamp")
}


def json_safe(state: Json) -> Json:
    """`state` with every value in JSON; what has no such form becomes its repr, with a warning, as in ADK's stores."""
    try:
        safe: Json = to_jsonable_python(state)
    except PydanticSerializationError:
        logger.warning("Some values of the state have no form in JSON and are stored as text: %s", sorted(state))
        safe = to_jsonable_python(state, serialize_unknown=True)
    return safe


class BadRequestError(ValueError):
    """What is asked for makes no sense."""


def sentence(error: ValidationError) -> str:
    """What is wrong with a request, in one sentence."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return f"The body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}."
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}." if where else f"{said}."


def in_time(event: Event) -> Event:
    """The event, if it has a place in time: lists and windows are ordered by it, and JSON has no such number.

    Raises:
        BadRequestError: its timestamp is infinite, or NaN.
    """
    if not math.isfinite(event.timestamp):
        raise BadRequestError(f"Event {event.id} has the timestamp {event.timestamp}; it has to be a number.")
    return event


class TooLargeError(ValueError):
    """Something is larger than fits into one message of the engine."""


def sized(data: bytes, what: str, most: int = MAX_BYTES) -> bytes:
    """`data`, if it is not too large.

    Raises:
        TooLargeError: it does not.
    """
    if len(data) > most:
        raise TooLargeError(f"{what} takes {len(data)} bytes; at most {most} can be kept.")
    return data


def shallow(value: Json, data: bytes, what: str) -> None:
    """Refuse what is nested so deep that it could not be read again.

    Args:
        value: what is to be kept.
        data: the same as JSON.
        what: it is called in errors.

    Raises:
        BadRequestError: it is.
    """
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(MAX_DEPTH):
        level = [
            (f"{path}.{key}"[:100], item)
            for path, container in level
            for key, item in (container.items() if isinstance(container, dict) else enumerate(container))
            if isinstance(item, dict | list)
        ]
    if level:
        raise BadRequestError(f"{what} is nested more than {MAX_DEPTH} levels deep, at {level[0][0].lstrip('.')}...")


def limited(events: Sequence[object]) -> None:
    """Refuse more events than can be checked while everybody else waits.

    Raises:
        BadRequestError: there are.
    """
    if len(events) > MAX_EVENTS:
        raise BadRequestError(f"{len(events)} events are too many; at most {MAX_EVENTS} are taken at once.")


def _identified(events: object) -> object:
    if isinstance(events, list):
        limited(events)
    # ADK would make them up, and differently on a replay.
    for event in events if isinstance(events, list) else []:
        if isinstance(event, dict) and not {"id", "timestamp"} <= event.keys():
            raise ValueError("every event needs an id and a timestamp")
    return events


def _in_time(events: list[Event]) -> list[Event]:
    return [in_time(event) for event in events]


def _compact(events: list[Event]) -> list[Json]:
    return [event_json(event) for event in events]


Events = Annotated[
    list[Event], BeforeValidator(_identified), AfterValidator(_in_time), PlainSerializer(_compact), OBJECTS
]


class StoredSession(Session):
    """A session read from Chat. It remembers the revision it was read at, so that an outdated copy is noticed."""

    _revision: int | None = PrivateAttr(default=None)

    @property
    def revision(self) -> int | None:
        """The number of writes that this copy has seen."""
        return self._revision

    @revision.setter
    def revision(self, revision: int) -> None:
        self._revision = revision

    @classmethod
    def parse(cls, answer: Json) -> "StoredSession":
        """The session in an answer of `get_session` or `create_session`."""
        session = cls.model_validate({key: value for key, value in answer.items() if key != "revision"})
        session.revision = answer["revision"]
        return session


class Request(BaseModel):
    """What every request about sessions may carry."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]}, ser_json_inf_nan="constants")

    app_name: AppName | None = Field(None, description="The app; may be left out where there is but one.")


class SessionRequest(Request):
    """One session."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"session_id": "session-123"}]})

    session_id: SessionId


class GetSession(SessionRequest):
    """Which part of a session's events to read."""

    num_recent_events: int | None = Field(None, ge=0, description="Only so many of the newest events; 0 for none.")
    after_timestamp: float | None = Field(
        None, description="Only events from this time on, in seconds since the epoch."
    )


def _blank_is_none(value: object) -> object:
    return (value.strip() or None) if isinstance(value, str) else value


class CreateSession(Request):
    """A session to create."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"session_id": "session-123", "state": {"mood": "fine"}}]}
    )

    session_id: Annotated[str | None, BeforeValidator(_blank_is_none)] = Field(
        None, description="By default one is made up."
    )
    state: Json = {}
    events: Events = Field([], description="ADK's events that it begins with; each has an id and a timestamp.")
    any_app: bool = Field(
        False, description="Also in an app that the service does not have: another program runs it, and keeps it here."
    )


class AppendEvents(SessionRequest):
    """Events to add to the end of a session.

    A writer that holds a copy of the session says which: by its `revision`, or by its `last_update_time` if the copy
    has lost that. If the session has moved on since, nothing is stored and the answer is 412.
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

    events: Events = Field(description="ADK's events; each has an id and a timestamp.")
    revision: int | None = None
    last_update_time: float | None = None


class KeptRefusal(Request):
    """What the engine keeps under an idempotency key: that a request of the user's was refused."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"invocation_id": "inv_1"}]})

    invocation_id: str = Field(pattern="^inv_[0-9A-Za-z]+$", description="Restate's: x-restate-id of the answer.")


class TurnBatch(SessionRequest):
    """Events of a turn, and the session they belong to: the one that was there when the turn's message was accepted.

    That one is `created`; where there was none, it is whichever has come since, unless a session of that id was deleted
    meanwhile.
    """

    events: list[Json]
    batch: int = Field(description="Counts the appends of the session's turns; one that comes again is stored once.")
    turn: str | None = Field(None, description="The Restate invocation that has made it; null from an earlier version.")
    mark: str | None = Field(None, description="Drawn at random by the attempt that has made the batch.")
    create: bool = Field(False, description="Create the session if there is none.")
    created: float | None = Field(None, description="When the session was created that the turn has found, if any.")
    deletions: int | None = Field(None, description="How many sessions the user had deleted when the turn found that.")


class Appended(BaseModel):
    """Where a session stands after an append. It is stored when this is answered."""

    revision: int
    last_update_time: float
    stored: int = Field(description="How many of the events were new; an equal event is stored once.")
