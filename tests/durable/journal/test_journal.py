"""Ids, times and random numbers of a journal, and the end of an attempt."""

from types import SimpleNamespace
from typing import Any

from adk_chat.durable.journal import keys
from adk_chat.durable.journal.journal import AtEnd, Journal, _Beginning, _beginning
from adk_chat.durable.journal.keys import Strand


def journal(invocation: str = "inv_1", told: str = "", prefix: str = "abc") -> Any:
    """A journal without a handler, for its ids and times."""
    made: Any = Journal.__new__(Journal)
    made._id, made.id_prefix, made._wide, made._now = invocation, prefix, True, 100.0
    made._strand = Strand()
    made.pump = SimpleNamespace(cancel_point=SimpleNamespace(name=told))
    keys.enter(None)
    return made


def test_the_same_code_makes_the_same_ids_in_every_attempt() -> None:
    first, second = journal(), journal()
    assert [first.new_id() for _ in range(3)] == [second.new_id() for _ in range(3)]
    assert first.random().random() == second.random().random()
    assert len({first.new_id(), second.new_id(), journal("inv_2").new_id()}) == 2
    assert first.new_id().startswith("abc")


def test_ids_after_a_cancellation_are_ids_of_no_other_attempt() -> None:
    assert journal().new_id() != journal(told="x1").new_id() != journal(told="x2").new_id()


def test_spans_take_no_ids_away() -> None:
    traced, plain = journal(), journal()
    traced.new_span_id()
    assert traced.new_id() == plain.new_id()


def test_times_only_go_on_and_follow_the_journal() -> None:
    made = journal()
    first = made.time()
    made.advance(50.0)
    second = made.time()
    made.advance(200.0)
    assert 100.0 < first < second < 101.0
    assert made.time() > 200.0


def test_a_beginning_of_an_earlier_version_is_read() -> None:
    assert _Beginning.model_validate_json("1700000000.5") == _Beginning(time=1700000000.5, wide=False)
    assert _Beginning.model_validate_json(_beginning(None)).wide


def test_what_is_due_at_the_end_is_done_once_and_only_for_good() -> None:
    done: list[str] = []
    end = AtEnd()
    end.do(lambda: done.append("before"))
    end.come(for_good=True)
    end.do(lambda: done.append("after"))
    assert done == ["before", "after"]
    again = AtEnd()
    again.do(lambda: done.append("never"))
    again.come(for_good=False)
    again.do(lambda: done.append("never"))
    assert done == ["before", "after"]
