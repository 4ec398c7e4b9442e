"""Chat over real HTTP: what a user of curl sees, and loses or does not lose."""

import asyncio
import itertools
from typing import Any

import pytest
import restate

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.protocol.limits import MAX_BYTES
from adk_chat.protocol.sessions import CHAT
from tests.conftest import plain, query, stored
from tests.support import ChatClient, calls, gates, scripted_app, unique, until


async def test_a_conversation(chat: ChatClient) -> None:
    assert await chat.message("session-123", "one") == "echo one"
    assert await chat.message("session-123", "count") == "3"
    assert await chat.message("session-567", "two") == "echo two"
    assert await chat.texts("session-123") == ["one", "echo one", "count", "3"]
    assert await chat.texts("session-567") == ["two", "echo two"]


async def test_another_app_has_its_own_sessions(chat: ChatClient) -> None:
    await chat.message("s", "here")
    assert await chat.message("s", "count", app_name="second") == "1"
    listed = await chat.call("list_sessions", {"app_name": "second"})
    assert [session["appName"] for session in listed["sessions"]] == ["second"]
    assert len(await chat.call("get_history", {"session_id": "s", "app_name": "second"})) == 2


async def test_the_message_may_bring_parts_and_state(chat: ChatClient) -> None:
    parts = [{"inlineData": {"mimeType": "image/png", "data": "_wA="}}]
    await chat.message("s", "look", parts=parts, state_delta={"user:name": "Ada", "temp:x": 1})
    (asked, _) = await chat.call("get_history", "s")
    assert asked["content"]["parts"] == [{"text": "look"}, *parts]
    assert asked["actions"] == {"stateDelta": {"user:name": "Ada"}}
    assert await chat.call("get_user_state") == {"name": "Ada"}
    # Parts alone are a message too.
    await chat.call("message", {"session_id": "s", "parts": [{"text": "count"}]})


async def test_history_can_be_read_in_parts(chat: ChatClient) -> None:
    for text in ("a", "b", "c"):
        await chat.message("s", text)
    events = await chat.call("get_history", "s")
    assert await chat.call("get_history", {"session_id": "s", "limit": 2}) == events[-2:]
    assert await chat.call("get_history", {"session_id": "s", "before": events[4]["id"]}) == events[:4]
    assert await chat.call("get_history", {"session_id": "s", "before": events[4]["id"], "limit": 3}) == events[1:4]
    assert await chat.call("get_history", {"session_id": "s", "before": events[0]["id"]}) == []
    after = {"session_id": "s", "after_timestamp": events[3]["timestamp"]}
    assert await chat.call("get_history", after) == events[3:]


async def test_lists_can_be_read_in_pages(chat: ChatClient) -> None:
    for session in ("a", "b", "c"):
        await chat.message(session, "hello")
    first = await chat.call("list_sessions", {"limit": 2})
    rest = await chat.call("list_sessions", {"limit": 2, "cursor": first["nextCursor"]})
    assert [s["id"] for s in first["sessions"]] == ["a", "b"]
    assert [s["id"] for s in rest["sessions"]] == ["c"]
    assert "nextCursor" not in rest


@pytest.mark.parametrize(
    ("handler", "body", "status", "said"),
    [
        ("message", '{"message": "x"', 400, "The body is not JSON"),
        ("message", "[]", 400, "object"),
        ("message", "{}", 400, "session_id: Field required"),
        ("message", '{"session_id": "s"}', 400, "message: is missing"),
        ("message", '{"message": " ", "session_id": "s"}', 400, "message: is blank"),
        ("message", '{"message": "x", "session_id": " "}', 400, "session_id"),
        ("message", '{"message": 5, "session_id": "s"}', 400, "message"),
        ("message", '{"message": "x", "session_id": "s", "sesion": 1}', 400, "sesion: Extra inputs"),
        ("message", '{"message": "x", "session_id": "s", "parts": [{"nonsense": 1}]}', 400, "parts.0"),
        (
            "message",
            '{"message": "x", "session_id": "s", "app_name": "nope"}',
            404,
            "The apps are: scripted, second, workshop, gemini, unreachable",
        ),
        (
            "post",
            '{"message": "x", "session_id": "s", "app_name": "nope"}',
            404,
            "The apps are: scripted, second, workshop, gemini, unreachable",
        ),
        ("message", '{"message": "x", "session_id": "%s"}' % ("s" * 257), 400, "257 characters; at most 256"),
        ("message", '{"message": "%s", "session_id": "s"}' % ("x" * 16_800_000), 413, "at most"),
        ("create_session", '{"session_id": "%s"}' % ("s" * 257), 400, "257 characters"),
        ("create_session", '{"app_name": "nope"}', 404, "there is no app nope. The apps are: scripted, second"),
        ("get_session", '{"session_id": "s", "num_recent_events": -1}', 400, "num_recent_events"),
        ("append_events", '{"session_id": "s", "events": [{"id": "x"}]}', 400, "needs an id and a timestamp"),
        (
            "append_events",
            '{"session_id": "s", "events": [{"id": "x", "timestamp": "then"}]}',
            400,
            "events.0.timestamp",
        ),
        ("append_events", '{"session_id": "s", "events": [{"id": "x", "timestamp": 1}]}', 404, "not found"),
        ("get_history", '{"session_id": "nobody"}', 404, "not found"),
        ("get_history", '"nobody"', 400, "app_name: is missing. The service has several apps: scripted, second"),
        ("post", '{"message": "x", "session_id": "s", "app_name": null}', 400, "app_name: is missing"),
        ("list_sessions", "null", 400, "app_name: is missing"),
        ("get_history", '{"session_id": "s", "limit": 0}', 400, "limit"),
        ("list_sessions", '{"cursor": "yesterday"}', 400, "cursor"),
    ],
    ids=itertools.count(),
)
async def test_bad_input_is_refused_in_a_sentence_and_stores_nothing(
    chat: ChatClient, server: RestateServer, handler: str, body: str, status: int, said: str
) -> None:
    if "app_name" not in body:
        body = body.replace('"session_id"', '"app_name": "scripted", "session_id"')
    response = await chat.http.post(
        f"/Chat/{chat.user}/{handler}", content=body, headers={"content-type": "application/json"}
    )
    assert (response.status_code, said in response.json()["message"]) == (status, True), response.text
    assert await stored(server, chat.user) == {}


@plain
async def test_what_no_handler_takes_gets_no_further_than_the_ingress(chat: ChatClient) -> None:
    url = chat.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"POST /Chat/{chat.user}/post HTTP/1.1\r\nhost: localhost\r\ncontent-length: {MAX_BYTES + 1}\r\n\r\n"
    writer.write(head.encode())
    assert b"413" in await reader.readline()
    writer.close()


@pytest.mark.parametrize("name", ["message", "post", "create_session", "append_events"])
async def test_where_the_ingress_takes_more_the_handlers_do_not(name: str) -> None:
    chat = next(made for made in ChatService(scripted_app("scripted")).objects if made.name == CHAT)
    handler: Any = chat.handlers[name]
    request = handler.handler_io.input_serde.deserialize(b"[" * (MAX_BYTES + 1))
    with pytest.raises(restate.TerminalError, match="The request takes 25165825 bytes; at most 25165824") as refused:
        await handler.fn(None, request)
    assert refused.value.status_code == 413


async def test_a_repeated_request_is_the_same_turn(chat: ChatClient) -> None:
    text = unique("once")
    answers = [await chat.message("s", text)]
    body = {"message": text, "session_id": "s2"}
    answers += [await chat.call("message", body, **{"idempotency-key": text + chat.user}) for _ in range(3)]
    assert set(answers) == {f"echo {text}"}
    assert len(await chat.call("get_history", "s2")) == 2


async def test_a_refusal_is_forgotten_and_nothing_else(chat: ChatClient) -> None:
    text = unique("once")
    key = {"idempotency-key": text + chat.user}
    body = {"message": text, "session_id": "s", "create": False}
    refused = await chat.send("message", body, **key)
    assert refused.status_code == 404
    forget = {"invocation_id": refused.headers["x-restate-id"]}
    await chat.call("create_session", {"session_id": "s"})
    assert await ChatClient(chat.http, chat.user + "x").call("forget_refusal", forget) is True
    assert (await chat.send("message", body, **key)).status_code == 404
    for _ in range(2):
        assert await chat.call("forget_refusal", forget) is True
        assert await chat.call("message", body, **key) == f"echo {text}"
    assert len(await chat.call("get_history", "s")) == 2


async def test_posted_turns_run_in_order(chat: ChatClient) -> None:
    texts = [unique("post") for _ in range(8)]
    for text in texts:
        assert (await chat.call("post", {"message": text, "session_id": "s"}))["turn_id"].startswith("inv_")

    async def all_there() -> bool:
        response = await chat.send("get_history", "s")
        return response.is_success and len(response.json()) == 16

    await until(all_there)
    assert await chat.texts("s") == [said for text in texts for said in (text, f"echo {text}")]


async def test_concurrent_turns_of_many_users_keep_each_session_in_order(chat: ChatClient) -> None:
    users = [ChatClient(chat.http, f"{chat.user}-{number}", chat.app) for number in range(4)]
    await asyncio.gather(*(user.message(f"s{n}", f"{verb} {n}") for user in users for verb in "ab" for n in (1, 2)))
    for user in users:
        for n in (1, 2):
            said = await user.texts(f"s{n}")
            assert sorted(said) == [f"a {n}", f"b {n}", f"echo a {n}", f"echo b {n}"]
            assert (said[1], said[3]) == (f"echo {said[0]}", f"echo {said[2]}")


@plain
async def test_a_slow_turn_is_visible_and_blocks_nothing_else(chat: ChatClient) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    await chat.message("third", "hello")
    await chat.message("warm", "hello")
    slow = asyncio.create_task(chat.message("slow", f"wait {gate}"))

    async def question_is_stored() -> bool:
        response = await chat.send("get_history", "slow")
        return response.is_success and len(response.json()) == 1

    await until(question_is_stored)
    await chat.message("other", "hello")
    await chat.call("get_history", "third")
    await chat.call("list_sessions")
    await chat.call("delete_session", {"session_id": "third"})
    assert not slow.done()
    gates[gate].set()
    assert await slow == f"echo wait {gate}"
    assert await chat.texts("slow") == [f"wait {gate}", f"echo wait {gate}"]


@plain
async def test_a_cancelled_turn_answers_and_the_session_goes_on(chat: ChatClient) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    turn = asyncio.create_task(chat.send("message", {"message": f"wait {gate}", "session_id": "s"}))
    await until(lambda: chat.call("cancel", {"session_id": "s"}))
    answer = await asyncio.wait_for(turn, 10)
    assert (answer.status_code, answer.json()["message"]) == (409, "The turn was cancelled.")
    assert await chat.message("s", "next") == "echo next"
    events = await chat.call("get_history", "s")
    assert [event.get("errorCode") for event in events] == [None, "INVOCATION_ABORTED", None, None]
    assert not await chat.call("cancel", {"session_id": "s"})


@plain
async def test_a_cancelled_tool_call_is_answered(chat: ChatClient) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    turn = asyncio.create_task(chat.send("message", {"message": f"gated {gate}", "session_id": "s"}))

    async def tool_is_called() -> bool:
        response = await chat.send("get_history", "s")
        return response.is_success and len(response.json()) == 2

    await until(tool_is_called)
    assert await chat.call("cancel", {"session_id": "s"})
    assert (await turn).status_code == 409
    assert calls[f"tool: {gate}"] == 0
    call, answer = (await chat.call("get_history", "s"))[1:]
    (called,), (answered,) = call["content"]["parts"], answer["content"]["parts"]
    assert called["functionCall"]["id"] == answered["functionResponse"]["id"]
    assert await chat.message("s", "next") == "echo next"


@plain
async def test_deleting_a_session_ends_its_turn_and_brings_nothing_back(chat: ChatClient) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    turn = asyncio.create_task(chat.send("message", {"message": f"wait {gate}", "session_id": "s"}))

    async def question_is_stored() -> bool:
        return (await chat.send("get_history", "s")).is_success

    await until(question_is_stored)
    await chat.call("delete_session", {"session_id": "s"})
    gates[gate].set()
    answer = await turn
    assert (answer.status_code, "was deleted while its turn ran" in answer.text) == (404, True)
    assert (await chat.send("get_history", "s")).status_code == 404
    assert await chat.message("s", "count") == "1"


@plain
async def test_a_rename_during_a_turn_is_merged(chat: ChatClient, server: RestateServer) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    await chat.message("s", "hello")
    turn = asyncio.create_task(chat.message("s", f"wait {gate}"))

    async def running() -> bool:
        return len(await chat.call("get_history", "s")) == 3

    await until(running)
    session = await chat.call("get_session", {"session_id": "s"})
    rename = {
        "id": "rename",
        "author": "user",
        "timestamp": session["lastUpdateTime"],
        "actions": {"stateDelta": {"__session_metadata__": {"displayName": "Greetings"}}},
    }
    await chat.call("append_events", {"session_id": "s", "events": [rename], "revision": session["revision"]})
    gates[gate].set()
    await turn
    kept = (await stored(server, chat.user))["session_store::s"]
    assert (kept["title"], kept["eventCount"]) == ("Greetings", 5)


async def test_app_state_reaches_the_turns_of_other_users(chat: ChatClient) -> None:
    other, name = ChatClient(chat.http, unique("user"), chat.app), unique("shown")
    await other.message("s", "hello", app_name="second")
    await chat.message("s", "hello", app_name="second", state_delta={"app:shown": name})
    session = await other.call("get_session", {"session_id": "s", "app_name": "second"})
    assert session["state"] == {"app:shown": name}, "the session handlers answer with the current state"
    for one in (chat, other):
        assert f"shown={name}" in await one.message("s", "instruction", app_name="second")


async def test_users_in_turn_count_in_app_state(chat: ChatClient) -> None:
    users, name = [chat, *(ChatClient(chat.http, unique("user"), chat.app) for _ in range(2))], unique("count")
    for _ in range(2):
        for user in users:
            await user.message("s", f'call count_up {{"name": "{name}"}}', app_name="counting")
    session = await chat.call("get_session", {"session_id": "s", "app_name": "counting"})
    assert session["state"][f"app:{name}"] == 6


async def test_the_model_fails_for_good(chat: ChatClient) -> None:
    answer = await chat.send("message", {"message": "error", "session_id": "s"})
    assert (answer.status_code, "the model is out of order" in answer.text) == (500, True)
    events = await chat.call("get_history", "s")
    assert [event.get("errorMessage") for event in events] == [None, "the model is out of order"]
    assert await chat.message("s", "next") == "echo next"


@plain
async def test_what_is_too_large_for_restate_is_refused_once(chat: ChatClient) -> None:
    answer = await chat.send("message", {"message": "large 9000000", "session_id": "s"})
    assert (answer.status_code, "at most 8388608 can be stored" in answer.text) == (500, True)
    assert len(await chat.message("s", f"say {'x' * 4_000_000}")) == 4_000_000 + len("echo say ")
    photo = {"inlineData": {"mimeType": "image/jpeg", "data": "x" * 5_600_000}}
    assert await chat.message("photo", "hello", parts=[photo]) == "echo hello "
    assert await chat.message("photo", "count") == "3"
    event = {"timestamp": 1, "author": "user", "content": {"parts": [{"text": "x" * 16_000_000}]}}
    await chat.call("append_events", {"session_id": "s", "events": [{**event, "id": "large"}]})
    assert len(await chat.message("s", "large 2000000")) == 2_000_000
    answer = await chat.send("get_history", "s")
    assert (answer.status_code, "Set a limit" in answer.text) == (413, True)
    newest = await chat.call("get_history", {"session_id": "s", "limit": 2})
    (older,) = await chat.call("get_history", {"session_id": "s", "limit": 1, "before": newest[0]["id"]})
    assert older["id"] == "large"
    assert await chat.message("s", "count") == "3", "the model is shown what fits"


async def test_the_playground_opens_with_requests_that_work(chat: ChatClient, server: RestateServer) -> None:
    api = (await chat.http.get(f"{server.admin_url}/services/Chat/openapi")).json()
    requests = {
        name.removesuffix("Request"): schema
        for name, schema in api["components"]["schemas"].items()
        if name.endswith("Request")
    }
    assert set(requests) == {
        *("message", "post", "cancel", "running_turn", "get_history", "list_sessions", "get_session", "create_session"),
        *("append_events", "delete_session", "get_user_state", "forget_refusal", "list_apps"),
    }
    await chat.message("session-123", "hello")
    for handler in sorted(requests, key="delete_session".__eq__):
        (example,) = requests[handler]["examples"]
        expected = 409 if handler == "create_session" else 200
        answer = await chat.http.post(f"/Chat/{chat.user}/{handler}", json=example)
        assert answer.status_code in (expected, 202), answer.text
        assert len(str(requests[handler])) < 3000, f"nobody reads the schema of {handler}"


async def test_what_lies_in_the_store_can_be_read_by_a_person(chat: ChatClient, server: RestateServer) -> None:
    await chat.message("session-123", "hello", state_delta={"user:name": "Ada", "mood": "fine"})
    kept: dict[str, Any] = await stored(server, chat.user)
    session = kept["session_store::session-123"]
    assert list(session)[:3] == ["id", "appName", "userId"]
    assert [event["content"]["parts"][0]["text"] for event in session["events"]] == ["hello", "echo hello"]
    assert (session["state"], kept["user_state"]) == ({"mood": "fine"}, {"name": "Ada"})
    assert "null" not in str(session)


async def test_finished_turns_leave_little_behind(chat: ChatClient, server: RestateServer) -> None:
    await chat.message("s", "hello")
    rows = await query(
        server, f"SELECT key FROM state WHERE service_name = 'Turn' AND service_key LIKE '{chat.user}/%'"
    )
    assert [row["key"] for row in rows] == ["turn"]
