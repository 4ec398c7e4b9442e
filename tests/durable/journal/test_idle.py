"""When an attempt that only waits is suspended."""

import time

import pytest

from adk_chat.durable.journal.idle import Idle
from tests.support import unique


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The share of a CPU that the process uses while an attempt waits."""
    share, worked = [0.0], [0.0]

    def go_on(self: Idle, seconds: float) -> None:
        worked[0] += share[0] * seconds
        original(self, seconds)

    original = Idle.go_on
    monkeypatch.setattr(Idle, "go_on", go_on)
    monkeypatch.setattr(time, "process_time", lambda: worked[0])
    return share


def waited(attempt: Idle) -> float:
    """How many seconds an attempt waits before it may be suspended."""
    seconds = 0.0
    while not attempt.long_enough():
        attempt.go_on(attempt.look_seconds)
        seconds += attempt.look_seconds
    return seconds


@pytest.mark.parametrize(("share", "seconds"), [(0.0, 1.0), (0.4, 1.0), (0.6, 5.0)])
def test_a_process_that_is_busy_is_in_no_hurry(load: list[float], share: float, seconds: float) -> None:
    load[0] = share
    assert waited(Idle("inv", 1)) == seconds


def test_code_at_work_is_looked_at_less_often_each_time(load: list[float]) -> None:
    attempt = Idle("inv", 1)
    looks = []
    for _ in range(6):
        looks.append(waited(attempt))
        attempt.put_off()
    assert looks == [1, 2, 4, 8, 16, 16]
    attempt.end()
    assert waited(attempt) == 1


def test_code_that_adds_nothing_gets_twice_as_long_each_time(load: list[float]) -> None:
    invocation_id = unique("inv")
    for seconds in (1, 2, 4, 8):
        attempt = Idle(invocation_id, 7)
        assert waited(attempt) == 1
        while not attempt.long_enough_to_cut():
            attempt.go_on(attempt.look_seconds)
        assert attempt._seconds == attempt.patience == seconds
        attempt.note_cut()
    assert Idle(invocation_id, 8).patience == 8, "an attempt that added something keeps the factor"
    assert Idle(unique("inv"), 7).patience == 1
