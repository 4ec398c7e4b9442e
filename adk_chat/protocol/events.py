"""ADK's events as JSON, the same in the store, in answers and on streams: camelCase, no nulls, no defaults."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from google.adk.events.event import Event
from pydantic import AfterValidator, BeforeValidator, PlainSerializer
from pydantic_core import to_jsonable_python

from adk_chat.protocol.errors import BadRequestError
from adk_chat.protocol.json import OBJECTS, Json
from adk_chat.protocol.limits import limited

T = TypeVar("T")

TURN_FAILED = "adk_chat_turn_failed"
"""Metadata key of the event that records a failed turn. It is stored where ADK's Runner raised without storing one."""
APPENDED = "adk_chat_appended"
"""Metadata key of an event that the agent's code appended itself. ADK's Runner does not yield such events."""
MODEL_RETRY = "adk_chat_model_retry"
"""Metadata key of a partial event without content: a model call failed and is retried. It is never stored."""
_MARKS = {TURN_FAILED, APPENDED}


def event_json(event: Event) -> Json:
    """Returns `event` as it is stored, answered and streamed. A value without a JSON form becomes its repr."""
    # pydantic's exclude_defaults would also strip the models that tools return, which could not be read back then.
    dumped = _dumped(event)
    if _has_infinite(event.actions.state_delta):  # ADK's own JSON replaces these by null
        dumped["actions"]["stateDelta"] = to_jsonable_python(event.actions.state_delta, by_alias=True, fallback=repr)
    for name in ("actions", "nodeInfo"):
        dumped[name] = _without(_DEFAULTS[name], dumped[name])
    return _without({**_DEFAULTS, "actions": {}, "nodeInfo": {}}, dumped)


def in_time(event: Event) -> Event:
    """Returns `event`.

    Raises:
        BadRequestError: if its timestamp is infinite or NaN. Lists are ordered by it, and JSON has no such number.
    """
    if not math.isfinite(event.timestamp):
        raise BadRequestError(f"Event {event.id} has the timestamp {event.timestamp}; it must be a number.")
    return event


def unmarked(event: Event) -> None:
    """Removes our metadata keys from an event that somebody else made."""
    if event.custom_metadata and not _MARKS.isdisjoint(event.custom_metadata):
        event.custom_metadata = {name: value for name, value in event.custom_metadata.items() if name not in _MARKS}


def is_model_retry(event: Json) -> bool:
    """Returns whether a partial event only reports that a model call is retried."""
    return MODEL_RETRY in event.get("customMetadata", {})


def is_shown(event: Json) -> bool:
    """Returns whether ADK's Runner would have yielded a stored event.

    It yields neither the user's message, nor events that the agent's code appended, nor our record of a failure. It
    does yield what a workflow node says in the user's name.
    """
    of_user = event["author"] == "user" and not event.get("nodeInfo", {}).get("path")
    return not of_user and not _MARKS & event.get("customMetadata", {}).keys()


def without_rewound(
    events: Sequence[T], invocation_of: Callable[[T], str], rewound_by: Callable[[T], str | None]
) -> list[T]:
    """Returns events, oldest first, without those that ADK's rewind hides.

    Args:
        events: the events.
        invocation_of: returns the ADK invocation of one.
        rewound_by: returns the invocation before which one goes back; None for any other event.
    """
    kept: list[T] = []
    for event in events:
        if (rewound := rewound_by(event)) is None:
            kept.append(event)
            continue
        first = next((place for place, one in enumerate(kept) if invocation_of(one) == rewound), len(kept))
        del kept[first:]
    return kept


def _has_infinite(value: object) -> bool:
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


def _identified(events: object) -> object:
    if isinstance(events, list):
        limited(events)
    # ADK would generate missing ones, differently on each replay.
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
"""A list of ADK's events in a request, each with an id and a finite timestamp."""
