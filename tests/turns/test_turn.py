"""Turns: what a request may ask of them, and what happens if another message or a cancellation meets them."""

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from adk_chat.dev.server import RestateServer
from adk_chat.protocol.turn_id import TurnId
from tests.conftest import plain, query
from tests.support import ChatClient, gates, until

STREAM = {"run_config": {"streamingMode": "sse"}}


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [
        "".join(part.get("text", "") for part in event["content"]["parts"]) for event in events if "content" in event
    ]


async def history_of(chat: ChatClient, turn_id: str) -> list[dict[str, Any]]:
    events = await chat.call("get_history", TurnId.parse(turn_id).key.session_id)
    return [event for event in events if TurnId.parse(turn_id).owns(event)]


async def ended(chat: ChatClient, turn_id: str) -> int:
    """Wait for the end of a turn. Returns its status."""
    inv = TurnId.parse(turn_id).invocation_id
    return (await chat.http.get(f"/restate/invocation/{inv}/attach")).status_code


async def running(chat: ChatClient, session: str, text: str) -> str:
    """Post a message whose turn is at a gate by now. Returns the turn's id."""
    turn_id: str = (await chat.call("post", {"message": text, "session_id": session, **STREAM}))["turn_id"]
    key = TurnId.parse(turn_id).key

    async def is_running() -> bool:
        events = await chat.send("get_history", key.session_id)
        return events.is_success and any(TurnId.parse(turn_id).owns(event) for event in events.json())

    await until(is_running)
    return turn_id


async def test_the_events_of_a_turn_are_known_by_its_id(chat: ChatClient) -> None:
    turns = [(await chat.call("post", {"message": f"tool {n}", "session_id": "s"}))["turn_id"] for n in "ab"]
    assert [await ended(chat, turn) for turn in turns] == [200, 200]
    events = [await history_of(chat, turn) for turn in turns]
    assert [len(found) for found in events] == [4, 4]
    assert events[0] + events[1] == await chat.call("get_history", "s")
    assert len({event["invocationId"] for event in events[0]}) == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"max_calls": 1}, "max_calls is not a field of ADK's RunConfig"),
        ({"streamingMode": "bidi"}, "streaming_mode bidi is for live audio"),
        ({"speechConfig": {}}, "speech_config is for live audio"),
        ({"httpOptions": {"baseUrl": "http://elsewhere"}}, "http_options is set by the service"),
        ({"max_llm_calls": "many"}, "max_llm_calls: Input should be a valid integer"),
        ({"getSessionConfig": {"numRecentEvents": -1}}, "get_session_config.num_recent_events"),
    ],
)
async def test_a_run_config_that_cannot_be_is_refused(chat: ChatClient, config: dict[str, Any], said: str) -> None:
    response = await chat.send("post", {"message": "x", "session_id": "s", "run_config": config})
    assert (response.status_code, said in response.json()["message"]) == (400, True), response.text


async def test_a_run_config_is_heeded(chat: ChatClient) -> None:
    for text in ("one", "two"):
        await chat.message("s", text)
    config = {"customMetadata": {"aB": 1}, "get_session_config": {"num_recent_events": 1}}
    assert await chat.message("s", "count", run_config=config) == "2"
    assert (await chat.call("get_history", "s"))[-1]["customMetadata"] == {"aB": 1}
    limited = await chat.send("message", {"message": "tool x", "session_id": "s", "run_config": {"maxLlmCalls": 1}})
    assert (limited.status_code, "LlmCallsLimitExceededError" in limited.text) == (500, True)


async def test_a_session_need_not_be_created(chat: ChatClient) -> None:
    refused = await chat.send("post", {"message": "x", "session_id": "s", "create": False})
    assert (refused.status_code, refused.json()["message"]) == (404, "Session not found: s")


@plain
async def test_a_second_message_may_be_rejected(chat: ChatClient) -> None:
    gate = gates[chat.user] = asyncio.Event()
    turn_id = await running(chat, "s", f"wait {chat.user}")
    second = {"message": "two", "session_id": "s", "multitask_strategy": "reject"}
    for handler in ("post", "message"):
        refused = await chat.send(handler, second)
        assert (refused.status_code, "A turn is running in session s" in refused.text) == (409, True)
    assert await chat.message("another", "hello", multitask_strategy="reject") == "echo hello"
    gate.set()
    assert await ended(chat, turn_id) == 200
    assert await chat.call("message", second) == "echo two"
    assert await chat.texts("s") == [f"wait {chat.user}", f"echo wait {chat.user}", "two", "echo two"]


@plain
async def test_of_many_that_would_be_alone_one_is(chat: ChatClient, server: RestateServer) -> None:
    gate = gates[chat.user] = asyncio.Event()
    message = {"message": f"wait {chat.user}", "session_id": "s", "multitask_strategy": "reject"}
    asked = [asyncio.create_task(chat.send("message", message)) for _ in range(10)]

    async def all_were_let_in_or_not() -> bool:
        of_user = f"target_service_name = 'Turn' AND target_service_key LIKE '{chat.user}/%'"
        try:
            turns = await query(
                server, f"SELECT id FROM sys_invocation WHERE target_handler_name = 'run' AND {of_user}"
            )
        except httpx.HTTPStatusError:  # a server that has just started
            return False
        return len(turns) + sum(one.done() for one in asked) == len(asked)

    await until(all_were_let_in_or_not)
    gate.set()
    assert sorted([(await one).status_code for one in asked]) == [200, *[409] * 9]
    assert await chat.texts("s") == [message["message"], f"echo {message['message']}"]


@plain
@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_a_running_turn_may_be_interrupted_or_rolled_back(chat: ChatClient, strategy: str) -> None:
    gates[chat.user] = asyncio.Event()
    await chat.call("create_session", {"session_id": "s", "state": {"mood": "fine"}})
    await chat.message("s", "hello", state_delta={"color": "red", "user:name": "Ada"})
    first = {"message": f"stream once upon @{chat.user} a time", "session_id": "s", **STREAM}
    turn_id = (await chat.call("post", {**first, "state_delta": {"color": "blue", "new": 1}}))["turn_id"]
    await until_said(chat, turn_id)
    said = await chat.message("s", "count", multitask_strategy=strategy)
    assert await ended(chat, turn_id) == 409
    kept = await history_of(chat, turn_id)
    assert texts(kept) == [first["message"], "once upon "]
    assert kept[1]["interrupted"] is True
    assert kept[2]["errorCode"] == "INVOCATION_ABORTED"
    state = (await chat.call("get_session", {"session_id": "s"}))["state"]
    if strategy == "interrupt":
        assert (said, state["color"], state["new"]) == ("5", "blue", 1)
    else:
        assert (said, state["color"], "new" in state) == ("3", "red", False)
    assert (state["mood"], state["user:name"]) == ("fine", "Ada")


@plain
async def test_a_roll_back_leaves_what_others_have_said_since(chat: ChatClient) -> None:
    gates[chat.user] = asyncio.Event()
    turn_id = await running(chat, "s", f"wait {chat.user}")
    await chat.call("post", {"message": "queued", "session_id": "s"})
    assert await chat.message("s", "count", multitask_strategy="rollback") == "4"
    assert await ended(chat, turn_id) == 409


async def until_said(chat: ChatClient, turn_id: str) -> None:
    """Wait until the model of a turn is at its gate."""

    async def stored() -> bool:
        return bool(await history_of(chat, turn_id))

    await until(stored)


@plain
async def test_only_the_turn_that_is_meant_is_cancelled(chat: ChatClient) -> None:
    gate = gates[chat.user] = asyncio.Event()
    turn_id = await running(chat, "s", f"wait {chat.user}")
    other = TurnId.parse(turn_id).model_copy(update={"invocation_id": "inv_1other"})
    elsewhere = TurnId.parse(turn_id)
    elsewhere = elsewhere.model_copy(update={"key": elsewhere.key.model_copy(update={"session_id": "t"})})
    for wrong in (other, elsewhere):
        assert await chat.call("cancel", {"session_id": "s", "turn_id": str(wrong)}) is False
    assert (await chat.send("cancel", {"session_id": "s", "turn_id": "inv_x"})).status_code == 400
    assert await chat.call("cancel", {"session_id": "s", "turn_id": turn_id}) is True
    assert await ended(chat, turn_id) == 409
    gate.set()


@plain
async def test_a_turn_may_say_more_than_one_message_of_the_engine_holds(chat: ChatClient) -> None:
    """One agent says 35 MiB while another one's step starts. Restate refuses 32 MiB, and would be asked for ever."""
    at = {"app_name": "choir", "session_id": "s"}
    turn_id = (await chat.call("post", {"message": f"5 {7 * 1024 * 1024}", **at, **STREAM}))["turn_id"]
    assert await ended(chat, turn_id) == 200
    pages = [await chat.call("get_history", {"limit": 2, **at})]
    while len(pages[-1]) == 2:
        pages.append(await chat.call("get_history", {"limit": 2, "before": pages[-1][0]["id"], **at}))
    authors = Counter(event["author"] for page in pages for event in page)
    assert authors == {"user": 1, "soloist": 1, "speaker": 5}


@plain
async def test_a_turn_that_was_killed_locks_nobody_out(chat: ChatClient, server: RestateServer) -> None:
    gates[chat.user] = asyncio.Event()
    turn_id = await running(chat, "s", f"wait {chat.user}")
    again = {"message": "hello", "session_id": "s", "multitask_strategy": "reject"}
    assert (await chat.send("message", again)).status_code == 409
    await chat.http.patch(f"{server.admin_url}/invocations/{TurnId.parse(turn_id).invocation_id}/kill")
    assert await ended(chat, turn_id) != 200
    assert await chat.call("message", again) == "echo hello"


async def test_without_a_message_there_has_to_be_something_to_go_on_from(chat: ChatClient) -> None:
    refused = await chat.send("message", {"session_id": "s", "parts": []})
    assert (refused.status_code, "no messages in session s" in refused.text) == (400, True), refused.text
    assert await chat.call("get_session", {"session_id": "s"}) is None
    await chat.message("s", "hello")
    assert await chat.call("message", {"session_id": "s", "parts": []}) == "echo echo hello"
