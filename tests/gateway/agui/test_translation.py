"""The events of a turn as events of AG-UI: what a client shows in the end is what the agent said."""

from collections.abc import Sequence
from typing import Any

import pytest

from adk_chat.gateway.agui import translation
from adk_chat.gateway.agui.translation import Translation
from adk_chat.protocol.events import MODEL_RETRY
from tests.gateway.agui.frontend import Run
from tests.support import Json

QUESTION = {"id": "q", "role": "user", "content": "Why?"}
ASKED: list[Json] = [QUESTION]
Step = Json | None
"""An event of the turn; None for a reset."""


def event(*parts: Json | str, of: str = "e1", author: str = "agent", **fields: Any) -> Json:
    """A complete event."""
    made = [{"text": part} if isinstance(part, str) else part for part in parts]
    content = {"content": {"role": "model", "parts": made}} if made else {}
    return {"id": of, "author": author, "invocationId": "i", "timestamp": 1.0, **content, **fields}


def partial(*parts: Json | str, **fields: Any) -> Json:
    """A partial event."""
    return event(*parts, partial=True, **fields)


def thought(text: str) -> Json:
    return {"text": text, "thought": True}


def shown(steps: Sequence[Step], *, is_current: bool = True, base: list[Json] | None = None) -> Run:
    """What a client shows of these steps."""
    messages = ASKED if base is None else base
    made = Translation("t", "r", is_current, messages, {}, (), "/artifacts")
    run = Run([dict(message) for message in messages])
    events = [*made.started(None, {}, snapshot=False)]
    for step in steps:
        if step is None:
            events += made.reset()
        else:
            events += made.partial(step) if step.get("partial") else made.complete(step)
    for one in [*events, *made.finished()]:
        run.show(one.model_dump(mode="json", by_alias=True))
    return run


def said(run: Run) -> list[tuple[str, str]]:
    return [(message["role"], message.get("content", "")) for message in run.messages[1:]]


STREAMED: dict[str, tuple[list[Step], list[tuple[str, str]]]] = {
    "as one": ([event("It is.")], [("assistant", "It is.")]),
    "streamed": ([partial("It "), partial("is."), event("It is.")], [("assistant", "It is.")]),
    "more at the end": ([partial("It "), event("It is.")], [("assistant", "It is.")]),
    "with thoughts": (
        [partial(thought("Hm")), partial(thought("m.")), partial("It is."), event(thought("Hmm."), "It is.")],
        [("reasoning", "Hmm."), ("assistant", "It is.")],
    ),
    "thoughts after words": (
        [partial("It "), partial(thought("Hm.")), partial("is."), event(thought("Hm."), "It is.")],
        [("assistant", "It is."), ("reasoning", "Hm.")],
    ),
    "reset": (
        [partial("It was"), None, partial("It "), partial("is."), event("It is.")],
        [("assistant", "It is.")],
    ),
    "reset in the thoughts": (
        [partial(thought("Hm"), of="e0"), None, partial("It is."), event("It is.")],
        [("reasoning", ""), ("assistant", "It is.")],
    ),
    "reset, and other thoughts": (
        [
            partial(thought("Hm")),
            None,
            partial(thought("Ah")),
            partial("It is."),
            event(thought("Ah"), "It is."),
        ],
        [("reasoning", ""), ("assistant", "It is."), ("reasoning", "Ah")],
    ),
    "reset after an event": (
        [event("First.", of="e0"), partial("It was"), None, event("It is.")],
        [("assistant", "First."), ("assistant", "It is.")],
    ),
    "interrupted": (
        [partial("It "), partial("was"), event("It was", of="other", interrupted=True)],
        [("assistant", "It was")],
    ),
    "replaced by a callback": ([partial("It is."), event("Secret.")], [("assistant", "Secret.")]),
    "the model is tried again": (
        [partial("It wa"), partial(customMetadata={MODEL_RETRY: {}}), partial("It is."), event("It is.")],
        [("assistant", "It is.")],
    ),
    "a response without its complete event": (
        [partial("It wa", of="e0"), partial("It is."), event("It is.")],
        [("assistant", "It is.")],
    ),
    "left over": ([event("It is."), partial("And", of="e2")], [("assistant", "It is.")]),
    "two speakers": (
        [
            partial("A", author="a", branch="p.a"),
            partial("B", author="b", branch="p.b", of="e2"),
            event("Aa", author="a", branch="p.a"),
            event("Bb", author="b", branch="p.b", of="e2"),
        ],
        [("assistant", "Aa"), ("assistant", "Bb")],
    ),
    "two speakers, one reset": (
        [
            partial("A", author="a", branch="p.a"),
            partial("B", author="b", branch="p.b", of="e2"),
            None,
            partial("B", author="b", branch="p.b", of="e2"),
            event("Aa", author="a", branch="p.a"),
            event("Bb", author="b", branch="p.b", of="e2"),
        ],
        [("assistant", "Bb"), ("assistant", "Aa")],
    ),
    "an output alone": ([event(output={"n": 1}), event(output=[2], of="e2")], [("assistant", "[2]")]),
    "an output beside words": ([event("Two."), event(output=2, of="e2")], [("assistant", "Two.")]),
}


@pytest.mark.parametrize("is_current", [True, False])
@pytest.mark.parametrize("name", STREAMED)
def test_a_client_shows_what_was_said(name: str, is_current: bool) -> None:
    steps, wanted = STREAMED[name]
    assert said(shown(steps, is_current=is_current)) == wanted


def test_a_call_beside_words_that_were_replaced() -> None:
    call = {"functionCall": {"id": "c", "name": "look", "args": {"at": 1}}}
    run = shown([partial("It is."), event("Secret.", call)])
    (message,) = run.messages[1:]
    assert message["content"] == "Secret."
    assert [one["id"] for one in message["toolCalls"]] == ["c"]


def test_a_call_beside_an_interrupted_answer_belongs_to_it() -> None:
    call = {"functionCall": {"id": "c", "name": "look", "args": {}}}
    (message,) = shown([partial("It "), event("It ", call, of="other")]).messages[1:]
    assert (message["id"], message["content"], len(message["toolCalls"])) == ("e1", "It ", 1)


def test_an_artifact_has_its_address() -> None:
    run = shown([event("Drawn.", actions={"artifactDelta": {"a b.png": 2}})])
    (custom,) = run.of("CUSTOM")
    assert custom["name"] == "adk:artifact"
    assert custom["value"] == {"name": "a b.png", "version": 2, "url": "/artifacts/a%20b.png/versions/2"}


def test_usage_is_added_up() -> None:
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 1, "cachedContentTokenCount": 1}
    first = event("One.", usageMetadata=usage, modelVersion="m")
    run = shown([first, {**first, "id": "e2"}, event("Two.", of="e3", usageMetadata={"promptTokenCount": 1})])
    assert run.end["usage"] == [
        {
            "model": "m",
            "inputTokens": 6,
            "outputTokens": 6,
            "totalTokens": 12,
            "reasoningTokens": 2,
            "cachedInputTokens": 2,
        },
        {"inputTokens": 1},
    ]


def test_what_the_model_ended_with() -> None:
    failed = shown([event(errorCode="SAFETY", errorMessage="No.")]).end
    assert (failed["type"], failed["code"], failed["message"]) == ("RUN_ERROR", "SAFETY", "No.")
    assert shown([event(errorCode="SAFETY"), event("Yes.", of="e2")]).end["type"] == "RUN_FINISHED"


def test_a_snapshot_that_no_client_could_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation, "_SNAPSHOT_BYTES", 200)
    base = [{"id": f"m{n}", "role": "user", "content": "x" * 50} for n in range(10)]
    run = shown([partial("It was"), None, event("It is.")], base=base)
    assert [message["id"] for message in run.messages] == ["m9", "e1:1"]
