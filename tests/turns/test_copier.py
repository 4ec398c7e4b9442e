"""Copies of events that share nothing."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.adk.events.event import Event
from pydantic import BaseModel

from adk_chat.turns.copier import Copier

EVENTS: list[dict[str, Any]] = [
    {"author": "user", "content": {"role": "user", "parts": [{"text": "hello"}]}},
    {
        "author": "agent",
        "content": {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "f", "args": {"a": [1, {"b": [None, 2.5]}], "c": {}}}},
                {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                {"functionResponse": {"name": "f", "response": {"x": [["y"]]}}},
            ],
        },
        "usageMetadata": {"promptTokenCount": 1, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}]},
        "groundingMetadata": {"webSearchQueries": ["q"], "groundingChunks": [{"web": {"uri": "u"}}]},
        "actions": {
            "stateDelta": {"a": {"b": [1]}, "user:c": [], "d": 1},
            "artifactDelta": {"file": 1},
            "requestedAuthConfigs": {
                "call": {"authScheme": {"type": "apiKey", "in": "header", "name": "k", "x-more": {"extra": [1]}}}
            },
            "requestedToolConfirmations": {"call": {"hint": "really", "payload": {"p": [1]}}},
            "compaction": {
                "startTimestamp": 1.0,
                "endTimestamp": 2.0,
                "compactedContent": {"role": "model", "parts": [{"text": "short"}]},
            },
            "agentState": {"s": [1]},
        },
        "longRunningToolIds": ["call"],
        "customMetadata": {"m": {"n": [1]}},
    },
]


def parts(value: object) -> Iterator[object]:
    """All mutable parts of a value, and the value itself."""
    inner: list[object] = []
    if isinstance(value, BaseModel):
        inner = [vars(value), value.__pydantic_fields_set__, value.__pydantic_extra__, value.__pydantic_private__]
    elif isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    elif not isinstance(value, set):
        return
    yield value
    for part in inner:
        yield from parts(part)


@pytest.mark.parametrize("event", EVENTS, ids=["message", "all"])
def test_copies_are_what_was_copied_and_have_no_part_in_common(event: dict[str, Any]) -> None:
    parsed = Event.model_validate(event)
    expected, copier = parsed.model_copy(deep=True), Copier(parsed)
    one, other = copier.copy(), copier.copy()
    assert one == other == expected
    assert one.model_dump_json() == expected.model_dump_json()
    every = [id(part) for found in (parsed, one, other) for part in parts(found)]
    assert len(every) == len(set(every)) > 3 * 10
