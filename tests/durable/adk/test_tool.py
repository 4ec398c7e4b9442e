"""Tool calls as journaled steps: once each, in parallel, with the same results on a replay."""

import asyncio
import json
from typing import Any

import pytest
from google.adk.tools.function_tool import FunctionTool

from adk_chat import restate_tool
from adk_chat.durable.adk.tool import needs_restate
from tests.durable import workshop
from tests.support import ChatClient, Json, calls, unique


async def use(chat: ChatClient, *wanted: tuple[str, Json], session: str = "s") -> list[Json]:
    """Make the model call tools. Returns the turn's function responses."""
    said = ";".join(f"{name} {json.dumps(args)}" for name, args in wanted)
    body = {"message": f"call {said}", "session_id": session, "app_name": "workshop"}
    answer = await chat.send("message", body)
    assert answer.is_success, answer.text
    events = await chat.call("get_history", {"session_id": session, "app_name": "workshop"})
    parts = [part for event in events for part in event.get("content", {}).get("parts", [])]
    return [part["functionResponse"]["response"] for part in parts if "functionResponse" in part]


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        ("dict", {"a": [1, None, {"b": 2.5}]}),
        ("text", {"result": "plain"}),
        ("none", {"result": None}),
        ("tuple", {"result": [1, "two"]}),
        ("model", {"result": {"city": "Paris", "at": "2026-01-02T00:00:00Z"}}),
        ("dataclass", {"result": {"x": 1, "y": [2, 3]}}),
        ("nested", {"weather": {"city": "Rome", "at": "2026-01-02T00:00:00Z"}}),
    ],
)
async def test_results_of_any_kind_are_journaled(chat: ChatClient, kind: str, response: Any) -> None:
    name = unique("give")
    assert await use(chat, ("give", {"kind": kind, "name": name})) == [response]
    assert calls[f"tool: {name}"] == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("half", "The result of tool give cannot be stored: response.text is not valid Unicode text"),
        ("deep", "The result of tool give cannot be stored: response.in.in"),
    ],
)
async def test_a_result_that_cannot_be_kept_is_an_error_that_says_what_it_is(
    chat: ChatClient, kind: str, said: str
) -> None:
    name = unique("give")
    body = {"message": f'call give {{"kind": "{kind}", "name": "{name}"}}', "session_id": "s", "app_name": "workshop"}
    answer = await chat.send("message", body)
    assert answer.status_code == 500
    assert said in answer.json()["message"], answer.text
    assert (await chat.message("s", "next", app_name="workshop")) == "echo next"


@pytest.mark.parametrize(
    ("kind", "said"),
    [("fail", "KeyError: 'no {name}'"), ("page", "The agent failed: HTTPError: HTTP Error 404: Not Found")],
)
async def test_an_exception_ends_the_turn_and_is_not_tried_again(chat: ChatClient, kind: str, said: str) -> None:
    name = unique(kind)
    body = {"message": f'call fail {{"name": "{name}"}}', "session_id": "s", "app_name": "workshop"}
    answer = await chat.send("message", body)
    assert (answer.status_code, said.format(name=name) in answer.json()["message"]) == (500, True), answer.text
    assert calls[f"tool: {name}"] == 1
    events = await chat.call("get_history", {"session_id": "s", "app_name": "workshop"})
    assert events[-1]["errorCode"] == ("KeyError" if kind == "fail" else "HTTPError")
    assert (await chat.message("s", "next", app_name="workshop")) == "echo next"


async def test_calls_of_one_response_run_in_parallel(chat: ChatClient) -> None:
    where, names = unique("where"), [unique("meet") for _ in range(3)]
    workshop.meetings[where] = asyncio.Barrier(3)
    answers = await use(chat, *(("meet", {"where": where, "name": name}) for name in names))
    assert answers == [{"met": where}] * 3
    assert [calls[f"tool: {name}"] for name in names] == [1, 1, 1]


async def test_answers_keep_the_order_of_the_calls(chat: ChatClient) -> None:
    seconds = [0.2, 0.0, 0.1]
    answers = await use(chat, *(("pause", {"seconds": s, "name": unique("p")}) for s in seconds))
    assert [answer["slept"] for answer in answers] == seconds


async def test_what_a_tool_does_besides_is_kept(chat: ChatClient) -> None:
    name = unique("act")
    assert await use(chat, ("act", {"name": name})) == [{"acted": name}]
    assert calls[f"tool: {name}"] == 1
    session = await chat.call("get_session", {"session_id": "s", "app_name": "workshop"})
    assert session["state"] == {"plain": name, "user:shared": name, "list": [name]}
    actions = session["events"][-1]["actions"]
    assert actions["artifactDelta"] == {"file.txt": 0}
    assert actions["skipSummarization"] is True
    assert "temp:gone" not in actions["stateDelta"]


async def test_a_tool_may_use_the_session_service(chat: ChatClient) -> None:
    name, at = unique("note"), {"app_name": "workshop"}
    await chat.message("older", "hello", **at)
    (answer,) = await use(chat, ("write_down", {"name": name}))
    assert answer == {"sessions": ["older", "s"], "older": 3, "made": name}
    assert calls[f"tool: {name}"] == 1
    own = await chat.call("get_session", {"session_id": "s", **at})
    assert [event["author"] for event in own["events"]] == ["user", "workshop", "notes", "workshop", "workshop"]
    states = [(await chat.call("get_session", {"session_id": one, **at}))["state"] for one in ("s", "older", name)]
    assert states == [{"n": name}, {"seen": name}, {"by": "tool"}]
    assert await chat.message("s", "next", **at) == "echo next"


async def test_tools_that_are_listed_otherwise_later_change_nothing_that_has_happened(chat: ChatClient) -> None:
    name = unique("away")
    body = {"message": f'call pause {{"seconds": 0, "name": "{name}"}}', "session_id": name, "app_name": "away"}
    answer = await chat.send("message", body)
    assert (answer.status_code, "got {'slept': 0" in answer.text) == (200, True), answer.text
    assert calls[f"tool: {name}"] == 1


async def test_the_context_is_refused_inside_a_step(chat: ChatClient) -> None:
    body = {"message": f'call ask_for_context {{"name": "{unique()}"}}', "session_id": "s", "app_name": "workshop"}
    answer = await chat.send("message", body)
    assert answer.status_code == 500
    assert "decorate it with @adk_chat.restate_tool" in answer.json()["message"]


async def test_tools_that_need_restate_get_it(chat: ChatClient) -> None:
    timers, call = [unique("timer"), unique("timer")], unique("call")
    answers = await use(
        chat,
        ("with_timer", {"name": timers[0]}),
        ("with_call", {"name": call}),
        ("with_timer", {"name": timers[1]}),
        ("pause", {"seconds": 0.2, "name": unique("p")}),
    )
    assert answers == [{"done": timers[0]}, {"answered": f'"{call}"'}, {"done": timers[1]}, {"slept": 0.2}]
    assert [calls[f"tool: {name}"] for name in timers] == [1, 1]


def test_which_tools_need_restate_is_recognized() -> None:
    @restate_tool
    async def marked() -> None: ...

    seen = {name: needs_restate(FunctionTool(getattr(workshop, name))) for name in ("with_timer", "pause", "with_call")}
    assert seen == {"with_timer": True, "pause": False, "with_call": True}
    assert needs_restate(FunctionTool(marked))
