"""Tools that run in a frontend: they are called, answered together or one by one, and once."""

import asyncio
from typing import Any

from tests.support import ChatClient, Json, calls, text_of

TOOLS = [{"name": "paint", "description": "Paints.", "parameters": {"type": "object", "properties": {}}}]


async def send(chat: ChatClient, message: str, *ids: str, tools: list[Json] | None = None, **more: Any) -> str:
    sent = [{"id": one, "parts": 1} for one in ids]
    frontend = {"tools": TOOLS if tools is None else tools, "run_id": "r", "messages": sent}
    return await chat.message("s", message, frontend=frontend, **more)


async def answer(chat: ChatClient, *answers: tuple[str, str], message: str = "t") -> str:
    parts = [
        {"functionResponse": {"id": call, "name": "paint", "response": {"result": result}}} for call, result in answers
    ]
    sent = [{"id": f"{message}-{call}", "parts": 1} for call, _ in answers]
    body = {"session_id": "s", "parts": parts, "frontend": {"tools": TOOLS, "messages": sent}}
    replied: str = await chat.call("message", body)
    return replied


async def called(chat: ChatClient) -> list[str]:
    """The ids of the calls in the newest event with any."""
    for event in reversed(await chat.call("get_history", "s")):
        found = [part["functionCall"]["id"] for part in event["content"]["parts"] if "functionCall" in part]
        if found:
            assert event["customMetadata"] == {"adk_chat_frontend": {"calls": found}}
            assert sorted(event["longRunningToolIds"]) == sorted(found)
            return found
    raise AssertionError("nothing was called")


async def test_a_call_ends_the_turn_and_its_answer_continues_the_invocation(chat: ChatClient) -> None:
    assert await send(chat, 'call paint {"color": "red"}', "m1") == ""
    (call,) = await called(chat)
    assert await answer(chat, (call, "done")) == "got {'result': 'done'}"
    asked, calling, answered, said = await chat.call("get_history", "s")
    assert {event["invocationId"] for event in (asked, calling, answered, said)} == {asked["invocationId"]}
    origin = asked["customMetadata"]["adk_chat_frontend"]
    assert origin["run_id"] == "r"
    assert origin["turn"].startswith("inv_")
    assert origin["messages"] == [{"id": "m1", "parts": 1}]
    assert answered["customMetadata"]["adk_chat_frontend"]["messages"] == [{"id": f"t-{call}", "parts": 1}]


async def test_several_calls_are_answered_together(chat: ChatClient) -> None:
    await send(chat, 'call paint {"n": 1};paint {"n": 2}', "m1")
    one, two = await called(chat)
    assert await answer(chat, (two, "b"), (one, "a")) == "got {'result': 'b'}, {'result': 'a'}"


async def test_several_calls_are_answered_one_by_one(chat: ChatClient) -> None:
    await send(chat, 'call paint {"n": 1};paint {"n": 2}', "m1")
    one, two = await called(chat)
    models = calls.total()
    assert await answer(chat, (two, "b")) == ""
    assert calls.total() == models, "the model was asked with a call unanswered"
    assert (await chat.call("get_history", "s"))[-1]["content"]["parts"][0]["functionResponse"]["id"] == two
    assert await answer(chat, (one, "a")) == "got {'result': 'b'}, {'result': 'a'}"


async def test_two_tabs_answer_at_once(chat: ChatClient) -> None:
    await send(chat, 'call paint {"n": 1};paint {"n": 2}', "m1")
    one, two = await called(chat)
    said = await asyncio.gather(answer(chat, (one, "a")), answer(chat, (two, "b")))
    assert "" in said
    assert max(said).startswith("got {'result'")
    assert "'a'" in max(said)
    assert "'b'" in max(said)


async def test_a_call_is_answered_once(chat: ChatClient) -> None:
    await send(chat, "call paint {}", "m1")
    (call,) = await called(chat)
    said = await asyncio.gather(answer(chat, (call, "a")), answer(chat, (call, "a"), message="again"))
    assert sorted(said) == ["", "got {'result': 'a'}"]
    assert await answer(chat, (call, "late")) == ""
    assert len(await chat.call("get_history", "s")) == 4


async def test_a_message_is_stored_once(chat: ChatClient) -> None:
    said = await asyncio.gather(send(chat, "hello", "m1"), send(chat, "hello", "m1"))
    assert sorted(said) == ["", "echo hello"]
    parts = [{"text": "hello"}, {"text": "count"}]
    body = {"session_id": "s", "parts": parts, "frontend": {"messages": [{"id": i, "parts": 1} for i in ("m1", "m2")]}}
    assert await chat.call("message", body) == "3"
    assert [text_of(event) for event in await chat.call("get_history", "s")] == ["hello", "echo hello", "count", "3"]


async def test_a_message_that_was_rewound_is_new(chat: ChatClient) -> None:
    await send(chat, "hello", "m1")
    (asked, _) = await chat.call("get_history", "s")
    actions = {"rewindBeforeInvocationId": asked["invocationId"]}
    rewind = {"id": "rewind", "timestamp": asked["timestamp"] + 1, "author": "user", "actions": actions}
    await chat.call("append_events", {"session_id": "s", "events": [rewind]})
    assert await send(chat, "hello", "m1") == "echo hello"


async def test_an_answer_beside_text_is_stored_before_it(chat: ChatClient) -> None:
    await send(chat, "call paint {}", "m1")
    (call,) = await called(chat)
    parts = [
        {"functionResponse": {"id": call, "name": "paint", "response": {"result": "red"}}},
        {"text": "count"},
    ]
    assert await chat.call("message", {"session_id": "s", "parts": parts, "frontend": {"tools": TOOLS}}) == "4"


async def test_text_instead_of_an_answer(chat: ChatClient) -> None:
    await send(chat, "call paint {}", "m1")
    (call,) = await called(chat)
    # Models refuse a history with an unanswered call.
    assert await send(chat, "count", "m2") == "4"
    assert await send(chat, "count", "m3") == "6"
    assert (await answer(chat, (call, "late"))).startswith("got {'result': 'late'}")


async def test_an_approval_beside_a_call_that_is_open(chat: ChatClient) -> None:
    await send(chat, 'call pay {"amount": 5};paint {}', "m1")
    events = await chat.call("get_history", "s")
    parts = [part["functionCall"] for event in events for part in event["content"]["parts"] if "functionCall" in part]
    (asked,) = [call["id"] for call in parts if call["name"] == "adk_request_confirmation"]
    (call,) = [call["id"] for call in parts if call["name"] == "paint"]
    response = {"id": asked, "name": "adk_request_confirmation", "response": {"confirmed": True}}
    body = {"session_id": "s", "parts": [{"functionResponse": response}], "frontend": {"tools": TOOLS}}
    said = await chat.call("message", body)
    assert "{'paid': 5}" in said
    assert "pending" in said, "models refuse a history with an unanswered call"
    assert "red" in await answer(chat, (call, "red"))


async def test_an_unknown_call_is_not_answered(chat: ChatClient) -> None:
    await send(chat, "hello", "m1")
    assert await answer(chat, ("nobodys", "a")) == ""
    assert len(await chat.call("get_history", "s")) == 2


async def test_context_is_instruction(chat: ChatClient) -> None:
    frontend = {"context": [{"description": "The cart", "value": "3 apples"}]}
    told = await chat.message("s", "instruction", frontend=frontend)
    assert told.endswith("The cart:\n3 apples")
    assert "apples" not in await chat.message("s", "instruction")


async def test_an_agents_own_tool_takes_precedence(chat: ChatClient) -> None:
    tools: list[Json] = [*TOOLS, {"name": "note", "description": "Not the agent's."}]
    assert await send(chat, 'call note {"text": "milk"}', "m1", tools=tools) == "got {'noted': 'milk'}"


async def test_tools_are_of_one_message(chat: ChatClient) -> None:
    await send(chat, "hello", "m1")
    said = await chat.message("s", "call paint {}")
    assert "no tool with that name is available. The tools you can call are: note, gated, pay." in said


async def test_what_cannot_be_a_tool_is_refused(chat: ChatClient) -> None:
    for name in ("adk_request_confirmation", "", "two words", "x" * 200):
        response = await chat.send(
            "message", {"session_id": "s", "message": "hi", "frontend": {"tools": [{"name": name}]}}
        )
        assert response.status_code == 400, response.text
        assert "frontend.tools.0.name" in response.json()["message"]
    body = {"session_id": "s", "message": "hi", "frontend": {"context": [{"description": "", "value": "x" * 2**20}]}}
    response = await chat.send("message", body)
    assert response.status_code == 413, response.text
    assert (await chat.send("get_history", "s")).status_code == 404
