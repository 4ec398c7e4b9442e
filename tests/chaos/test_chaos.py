"""Twenty seconds of faults under load; and the auditor, which finds exactly what is wrong in forged histories."""

import copy
import os
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from adk_chat.protocol.turn_id import TurnId, TurnKey, event_id_prefix
from tests.chaos.audit import audit
from tests.chaos.observed import Appended, Run, Sent, Stored
from tests.chaos.run import chaos
from tests.support import Json

SECONDS, USERS = 20, 6
KEY = ("ada", "chaos", "a")
TURN = str(TurnId(invocation_id="inv_1x", key=TurnKey(user_id="ada", app_name="chaos", session_id="a")))
ID = event_id_prefix("inv_1x") + "-5000-8000-00000000000{}"


def event(number: int, author: str, *parts: Json, **more: object) -> Json:
    """An event of the turn of the first message."""
    made = {"id": ID.format(number), "author": author, "content": {"parts": list(parts)}}
    return {**made, "invocationId": "e-1", "timestamp": float(number), **more}


def sent(tag: str, **more: object) -> Sent:
    """A post that was answered with its reply."""
    made = Sent(tag, *KEY[::2], KEY[1], "post", "enqueue", "count; say 1", began=1.0, lives_before=0, status=200)
    made.said, made.accepted, made.accepted_in = f'"{tag} by solo "', 2.0, 0
    for name, value in more.items():
        setattr(made, name, value)
    return made


def right() -> Run:
    """A run without any fault: two messages, the first with a tool call, and an append."""
    call = {"functionCall": {"id": "c", "args": {"key": "tag-1/solo/0"}}}
    answer = {"functionResponse": {"id": "c", "response": {"nonce": "x", "n": 1}}}
    events = [
        event(1, "user", {"text": "tag-1 count; say 1"}),
        event(2, "solo", call),
        event(3, "solo", answer, actions={"stateDelta": {"n": 1}}),
        event(4, "solo", {"text": "tag-1 by solo "}),
        {"id": "second", "author": "user", "content": {"parts": [{"text": "tag-2 say 1"}]}},
        {"id": "third", "author": "solo", "content": {"parts": [{"text": "tag-2 by solo "}]}},
        {"id": "appended", "author": "user"},
    ]
    first = sent("tag-1", turn_id=TURN, events=copy.deepcopy(events[1:4]), ended=True)
    effects = [
        {"what": what, "key": "tag-1/solo/0", "nonce": "x", "time": 1.0 + n} for n, what in enumerate(("begin", "end"))
    ]
    return Run(
        sent=[first, sent("tag-2", began=3.0, accepted=4.0)],
        appended=[Appended("appended", "ada", "a", "chaos", 0, 200)],
        stored={KEY: Stored(events, {"n": 1})},
        effects=effects,
    )


def lose_a_question(run: Run) -> None:
    del run.stored[KEY].events[4]


def lose_an_answer(run: Run) -> None:
    del run.stored[KEY].events[5]


def repeat_an_id(run: Run) -> None:
    run.stored[KEY].events[5]["id"] = "second"


def repeat_a_message(run: Run) -> None:
    run.stored[KEY].events.append({**run.stored[KEY].events[4], "id": "again"})


def leave_a_call_open(run: Run) -> None:
    del run.stored[KEY].events[2]


def answer_a_call_twice(run: Run) -> None:
    run.stored[KEY].events.append({**run.stored[KEY].events[2], "id": "again"})


def swap_messages(run: Run) -> None:
    events = run.stored[KEY].events
    events[0], events[4] = events[4], events[0]


def change_the_state(run: Run) -> None:
    run.stored[KEY].state["n"] = 2


def count_too_far(run: Run) -> None:
    run.stored[KEY].state["n"] = run.stored[KEY].events[2]["actions"]["stateDelta"]["n"] = 2


def keep_what_was_deleted(run: Run) -> None:
    run.stored[KEY].life.asked = run.stored[KEY].life.done = 1


def say_that_there_is_none(run: Run) -> None:
    run.sent[1].status, run.sent[1].said = 404, "There is no such turn"


def say_that_it_was_cancelled(run: Run) -> None:
    run.sent[1].status, run.sent[1].said = 409, "The turn was cancelled before it began."


def fail(run: Run) -> None:
    run.sent[1].status = 500


def never_answer(run: Run) -> None:
    run.sent[1].status = None


def show_less(run: Run) -> None:
    del run.sent[0].events[0]


def show_what_is_void(run: Run) -> None:
    run.sent[0].show({"author": "solo", "partial": True, "content": {"parts": [{"text": "tag-1 said"}]}})
    run.sent[0].show(run.sent[0].events.pop())


def lose_an_append(run: Run) -> None:
    del run.stored[KEY].events[6]


def call_again(run: Run) -> None:
    run.effects.append({"what": "begin", "key": "tag-1/solo/0", "nonce": "y", "time": 9.0})


def make_up_a_result(run: Run) -> None:
    del run.effects[1]


def leave_a_turn(run: Run) -> None:
    run.unfinished.append({"id": "inv_1x"})


FORGERIES: dict[Callable[[Run], None], str] = {
    lose_a_question: "lost",
    lose_an_answer: "lost",
    repeat_an_id: "an id twice",
    repeat_a_message: "twice",
    leave_a_call_open: "calls and answers",
    answer_a_call_twice: "calls and answers",
    swap_messages: "order",
    change_the_state: "state",
    count_too_far: "counter",
    keep_what_was_deleted: "of a deleted session",
    say_that_there_is_none: "404",
    say_that_it_was_cancelled: "said to be cancelled, and stored",
    fail: "status",
    never_answer: "no answer",
    show_less: "stream",
    show_what_is_void: "stream",
    lose_an_append: "append",
    call_again: "again",
    make_up_a_result: "effect",
    leave_a_turn: "unfinished",
}


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    assert audit(right()) == []


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_what_is_wrong_is_found(forge: Callable[[Run], None]) -> None:
    run = right()
    forge(run)
    assert FORGERIES[forge] in {wrong.partition(":")[0] for wrong in audit(run)}


async def test_no_promise_is_broken_while_processes_are_killed(binary: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"the seed is {seed}; set CHAOS_SEED to it to make the same faults")  # noqa: T201  shown on failure
    with tempfile.TemporaryDirectory() as directory:  # a short path, as sockets require
        found = await chaos(binary, Path(directory), seed, SECONDS, USERS)
    assert found.wrong == []
    assert sum(found.counts["faults"].values()) > SECONDS / 20
    assert found.counts["other"]["events"] > 10 * SECONDS
