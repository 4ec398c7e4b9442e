"""Keys of steps, and the strands of tasks that ask for them."""

import pytest

from adk_chat.durable.journal import keys
from adk_chat.durable.journal.keys import ROOT, Key, Strand


@pytest.mark.parametrize(
    "key",
    [
        Key("tool note", ROOT, "abcdef"),
        Key("model agent", "123abc", "abcdef", "gemini (2.5)"),
        Key("save artifact", ROOT, "", "a [b].txt"),
        Key("state a (b) [c]", ROOT),
        Key("several\nlines", "123abc", "abcdef"),
    ],
    ids=lambda key: key.what.split()[0],
)
def test_a_key_is_read_back_from_its_name(key: Key) -> None:
    assert Key.parse(key.name) == key


def test_a_name_that_is_no_key_belongs_to_no_strand() -> None:
    assert Key.parse("charge the card") == Key("charge the card", "")


def test_tasks_of_one_kind_do_not_shift_those_of_another() -> None:
    first, second = Strand(), Strand()
    first.child("heartbeat")
    assert first.child("_run_node").path == second.child("_run_node").path
    assert first.child("_run_node").path != first.child("_run_node").path


def test_a_child_context_has_its_own_strand() -> None:
    parent = Strand()
    keys.enter(parent)
    child = parent.child("task")
    assert keys.child_context(child).run(keys.current_path) == child.path
    assert keys.current_strand() is parent
    keys.enter(None)
    assert keys.current_path() == ROOT
