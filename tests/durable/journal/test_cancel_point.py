"""Where code is told of a cancellation: after the same results in every attempt."""

from types import SimpleNamespace
from typing import Any

import pytest

from adk_chat.durable.journal.cancel_point import CancelPoint
from adk_chat.durable.journal.commands import run_key
from adk_chat.durable.journal.entries import Kind
from adk_chat.durable.journal.keys import Key
from adk_chat.durable.journal.recorded import HEARTBEAT, Memory, Recorded


class Machine:
    """A state machine whose handles 10, 11 and 12 stand for the results 0, 2 and 4."""

    def __init__(self, told: bytes | None = None, number: int = 7) -> None:
        self.memory = Memory()
        self.numbers = {10: 0, 11: 2, 12: 4}
        self.recorded: list[bytes] = []
        self._told = told and SimpleNamespace(value=told, number=number)

    def find(self, _key: Key) -> Any:
        return self._told

    def record(self, _key: Key, make: Any) -> None:
        self.recorded.append(make())


def point(machine: Any) -> CancelPoint:
    return CancelPoint(machine)


def test_a_replay_gives_code_what_it_had_when_it_was_told_and_makes_the_same_ids() -> None:
    first = Machine()
    told = point(first)
    told.give([10, 12, 99])
    told.tell()
    (journaled,) = first.recorded
    second = Machine(journaled)
    replay = point(second)
    assert [replay.is_before(handle) for handle in (10, 11, 12, 99)] == [True, False, True, True]
    replay.tell()
    assert (replay.name, second.recorded) == (told.name, [])
    elsewhere = point(Machine())
    elsewhere.tell()
    assert elsewhere.name != told.name


@pytest.mark.parametrize(
    ("what", "number", "ahead"),
    [
        (run_key("tool x"), 3, True),
        ((Kind.CALL, "Chat"), 3, True),
        (run_key("tool x"), 8, False),
        ((Kind.SLEEP, HEARTBEAT), 3, False),
        ((Kind.SEND, "Chat"), 3, False),
    ],
    ids=["a step", "a call", "a step of afterwards", "a heartbeat", "what nobody waits for"],
)
def test_code_is_told_when_it_has_asked_for_all_that_it_waited_for_before(what: Any, number: int, ahead: bool) -> None:
    machine = Machine(b'{"results": [], "name": "x"}')
    recorded = Recorded("000000", "", 10, number=number)
    machine.memory.keep(what, recorded)
    assert point(machine).is_ahead() is ahead
    recorded.taken = True
    assert not point(machine).is_ahead()


def test_code_is_told_when_it_has_brought_forth_what_was_sent() -> None:
    waiting = point(Machine())
    waiting.expects = lambda: True
    assert waiting.is_ahead()
