"""What is shown of a turn in which several agents speak at the same time."""

from contextlib import aclosing
from typing import Any, cast

from adk_chat.gateway.streams.reader import Mark, TurnReader
from adk_chat.gateway.turns import Turns
from adk_chat.protocol.stream import AnyEntry, Complete, End, Partial, Start, dump
from adk_chat.protocol.turn_id import TurnId
from adk_chat.streaming import MemoryBroker
from tests.support import Json

TURN = TurnId.parse("inv_1x.dXNlci94L3M")


class StoredTurns:
    """The turns of a service with these events stored; they do not end."""

    def __init__(self, *events: Json) -> None:
        self._events = list(events)

    async def events(self, _turn_id: TurnId) -> list[Json]:
        return self._events


def said(author: str, text: str) -> Json:
    return {"author": author, "branch": f"duo.{author}", "content": {"parts": [{"text": text}]}, "id": text}


def partial(attempt: str, author: str, text: str, after: int = 0) -> Partial:
    return Partial(attempt=attempt, after=after, event=said(author, text))


async def shown(*entries: AnyEntry, after: Mark | None = None, stored: tuple[Json, ...] = ()) -> list[str]:
    """What a reader shows of these entries: each speaker's text, and resets."""
    broker = MemoryBroker()
    for entry in (Start(attempt="1"), *entries, End(number=0)):
        broker.publish(str(TURN), dump(entry), last=isinstance(entry, End))
    reader = TurnReader(cast(Turns, StoredTurns(*stored)), broker)
    found: list[Any] = []
    async with aclosing(reader.read(TURN, after)) as items:
        async for item in items:
            event = item.event
            found.append("reset" if event is None else f"{event['author']} {event['content']['parts'][0]['text']}")
    return found


async def test_a_complete_event_of_one_leaves_the_partial_text_of_another_to_be_voided() -> None:
    assert await shown(
        partial("1", "alto", "la"),
        partial("1", "tenor", "do"),
        Complete(number=1, event=said("alto", "la la")),
        Start(attempt="2"),
        partial("2", "tenor", "re", 1),
    ) == ["alto la", "tenor do", "alto la la", "reset", "tenor re"]


async def test_what_still_holds_is_shown_again() -> None:
    assert await shown(
        partial("1", "alto", "la"),
        partial("1", "tenor", "do"),
        partial("1", "tenor", "re"),
        Start(attempt="2"),
        partial("2", "alto", "la"),
        partial("2", "tenor", "do"),
        partial("2", "tenor", "mi"),
        partial("2", "alto", "li"),
    ) == ["alto la", "tenor do", "tenor re", "reset", "alto la", "tenor do", "tenor mi", "alto li"]


async def test_a_new_attempt_may_speak_before_the_event_of_another_has_come_again() -> None:
    assert await shown(
        Complete(number=1, event=said("alto", "la la")),
        Start(attempt="2"),
        partial("2", "alto", "la"),
        partial("2", "tenor", "do"),
        partial("2", "tenor", "re", 1),
    ) == ["alto la la", "tenor do", "tenor re"]


async def test_who_comes_back_is_shown_no_partial_text_of_events_that_he_has() -> None:
    entries = (partial("1", "alto", "la"), partial("1", "tenor", "do"), Complete(number=1, event=said("alto", "la la")))
    assert await shown(*entries, after=Mark(1), stored=(said("alto", "la la"),)) == ["reset", "tenor do"]


async def test_what_is_not_said_again_by_the_end_is_void() -> None:
    assert await shown(partial("1", "alto", "la"), Start(attempt="2")) == ["alto la", "reset"]
