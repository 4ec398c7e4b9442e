"""Runs of AG-UI over HTTP."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.conftest import plain
from tests.gateway.agui.frontend import Frontend, Run, calls_in, tool_message
from tests.support import Json, calls, gates, text_of, unique, until

pytestmark = plain
NO_DATA = {"type": "data", "value": "?", "mimeType": "image/png"}
PAINT = {"name": "paint", "description": "Paints.", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def frontend(gateway: httpx.AsyncClient) -> Frontend:
    made = Frontend(gateway)
    made.tools = [PAINT]
    return made


async def left_in_the_middle(frontend: Frontend) -> tuple[str, Json, Run]:
    """A run whose client leaves after the first word. Returns what it waits for, its input, and what was shown."""
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    body = frontend.input(f"stream one @{gate} two")
    async with frontend.streaming(body) as (run, events):
        async for _ in events:
            if run.text == "one ":
                break
    return gate, body, run


async def test_a_conversation(frontend: Frontend) -> None:
    run = await frontend.run("hello")
    assert run.types == [
        "RUN_STARTED",
        "STATE_SNAPSHOT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    started, finished = run.events[0], run.end
    assert started["protocolVersion"] == "1.0"
    assert finished["outcome"] == {"type": "success"}
    assert finished["usage"] == [{"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}]
    assert run.text == "echo hello"
    assert (await frontend.run("count")).text == "3"
    turn = started["metadata"]["adk_chat"]["turnId"]
    async with frontend.client.stream("GET", f"/turns/{turn}/events") as response:
        assert "echo hello" in (await response.aread()).decode()


async def test_text_is_streamed(frontend: Frontend) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    async with frontend.streaming(frontend.input(f"stream one two @{gate} three")) as (run, events):
        async for event in events:
            if event["type"] == "TEXT_MESSAGE_CONTENT" and run.text == "one two ":
                gates[gate].set()
    assert run.text == "one two three "
    assert len(run.of("TEXT_MESSAGE_START")) == 1
    (stored,) = [event for event in await frontend.events() if event["author"] == "scripted"]
    assert stored["id"] == run.of("TEXT_MESSAGE_START")[0]["messageId"]


async def test_a_tool(frontend: Frontend) -> None:
    run = await frontend.run("tool milk")
    (call,) = calls_in(run)
    (result,) = run.of("TOOL_CALL_RESULT")
    assert result["toolCallId"] == call
    assert result["content"] == '{"noted":"milk"}'
    assert run.state == {"note milk": True}
    assert run.text == "got {'noted': 'milk'}"


async def test_a_tool_of_the_frontend(frontend: Frontend) -> None:
    run = await frontend.run('call paint {"color": "red"}')
    (call,) = calls_in(run)
    assert run.end["outcome"] == {"type": "success", "pendingToolCallIds": [call]}
    assert run.of("TOOL_CALL_ARGS")[0]["delta"] == '{"color":"red"}'
    answer = tool_message(call, '{"done": true}')
    again = await frontend.run(answer)
    assert again.text == "got {'done': True}"
    assert again.end["outcome"] == {"type": "success"}
    events = await frontend.events()
    assert len({event["invocationId"] for event in events}) == 1
    models = calls.total()
    assert (await frontend.run(answer)).end["outcome"] == {"type": "success"}
    assert calls.total() == models, "it was answered twice"
    assert await frontend.events() == events


async def test_tools_of_the_frontend_are_answered_one_by_one(frontend: Frontend) -> None:
    one, two = calls_in(await frontend.run('call paint {"n": 1};paint {"n": 2}'))
    first = await frontend.run(tool_message(two, "b"))
    assert first.types == ["RUN_STARTED", "STATE_SNAPSHOT", "RUN_FINISHED"]
    # The page is opened again meanwhile, and knows of the answer.
    connected = await frontend.connect()
    assert [one["content"] for one in connected.messages if one["role"] == "tool"] == ["b"]
    thread = (await frontend.client.get(f"/agui/scripted/threads/{frontend.thread}?user_id={frontend.user}")).json()
    assert thread["pendingToolCallIds"] == [one]
    assert (await frontend.run(tool_message(one, "a"))).text == "got {'result': 'b'}, {'result': 'a'}"


async def test_an_answer_and_a_text_at_once(frontend: Frontend) -> None:
    (call,) = calls_in(await frontend.run("call paint {}"))
    assert (await frontend.run(tool_message(call, "red"), "count")).text == "4"


async def test_an_approval(frontend: Frontend) -> None:
    run = await frontend.run('call pay {"amount": 5}')
    (call,) = calls_in(run)
    (interrupt,) = run.interrupts
    assert interrupt["reason"] == "tool_call"
    assert interrupt["toolCallId"] == call
    assert interrupt["metadata"] == {"adk": {"toolCall": {"name": "pay", "args": {"amount": 5}}}}
    assert not run.of("TOOL_CALL_RESULT"), "the first response is for the model only"
    resume = [{"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}]
    resumed = await frontend.run(resume=resume)
    assert resumed.of("TOOL_CALL_RESULT")[0]["content"] == '{"paid":5}'
    assert resumed.text == "got {'paid': 5}"
    events = await frontend.events()
    # The same answer again is no second payment, nor is another one.
    for status in ("resolved", "cancelled"):
        again = [{"interruptId": interrupt["id"], "status": status, "payload": True}]
        assert (await frontend.run(resume=again)).end["outcome"] == {"type": "success"}
    assert await frontend.events() == events


async def test_a_refused_approval(frontend: Frontend) -> None:
    (interrupt,) = (await frontend.run('call pay {"amount": 5}')).interrupts
    resumed = await frontend.run(resume=[{"interruptId": interrupt["id"], "status": "cancelled"}])
    assert "rejected" in resumed.of("TOOL_CALL_RESULT")[0]["content"]


async def test_an_approval_by_a_tool_message(frontend: Frontend) -> None:
    (call,) = calls_in(await frontend.run('call pay {"amount": 7}'))
    unclear = await frontend.client.post("/agui/scripted", json=frontend.input(tool_message(call, "hm")))
    assert unclear.status_code == 400
    assert '{"approved": true}' in unclear.json()["detail"]
    frontend.messages.pop()
    resumed = await frontend.run(tool_message(call, '{"approved": true}'))
    assert resumed.text == "got {'paid': 7}"


async def test_an_interrupt_that_is_not_answered_stays(frontend: Frontend) -> None:
    run = await frontend.run('call pay {"amount": 1};pay {"amount": 2}')
    one, two = run.interrupts
    assert (await frontend.run("hello")).interrupts == [one, two]
    half = await frontend.run(resume=[{"interruptId": one["id"], "status": "resolved", "payload": True}])
    assert half.interrupts == [two]
    assert (await frontend.connect()).interrupts == [two]
    last = await frontend.run(resume=[{"interruptId": two["id"], "status": "resolved", "payload": True}])
    assert last.end["outcome"] == {"type": "success"}


async def test_a_run_posted_again_is_the_same_turn(frontend: Frontend) -> None:
    gate, body, run = await left_in_the_middle(frontend)
    # The client has a part of the answer in its messages.
    running = asyncio.create_task(frontend.send({**body, "messages": run.messages}))
    gates[gate].set()
    again = await running
    ended = await frontend.send({**body, "messages": run.messages})
    for shown in (again, ended):
        assert shown.text == "one two "
        assert shown.events[0]["metadata"] == run.events[0]["metadata"], "it is another turn"
    assert [message["role"] for message in ended.messages] == ["user", "assistant"]
    assert len(await frontend.events()) == 2


async def test_a_message_sent_again_in_another_run(frontend: Frontend) -> None:
    gate, body, run = await left_in_the_middle(frontend)
    await until(frontend.events)
    other = asyncio.create_task(frontend.send({**body, "messages": run.messages, "runId": unique("run")}))
    gates[gate].set()
    assert (await other).text == "one two "
    assert len(await frontend.events()) == 2


async def test_connecting_follows_what_runs(frontend: Frontend) -> None:
    await frontend.run("hello")
    gate, *_ = await left_in_the_middle(frontend)
    page = Frontend(frontend.client)
    page.user, page.thread = frontend.user, frontend.thread
    async with page.streaming(page.input(), "/connect") as (run, events):
        async for _ in events:
            if run.text == "one ":
                gates[gate].set()
    said = [message["content"] for message in run.messages]
    assert said == ["hello", "echo hello", f"stream one @{gate} two", "one two "]


async def test_stopping_a_thread(frontend: Frontend) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    for is_current in (True, False):
        frontend.is_current = is_current
        async with frontend.streaming(frontend.input(f"stream one @{gate} two")) as (run, events):
            async for event in events:
                if event["type"] == "TEXT_MESSAGE_CONTENT":
                    path = f"/agui/scripted/threads/{frontend.thread}/stop?user_id={frontend.user}"
                    assert (await frontend.client.post(path)).json() == {"stopped": True}
        frontend.messages = run.messages
        if is_current:
            assert run.end["outcome"] == {"type": "cancelled"}
        else:
            assert (run.end["type"], run.end["code"]) == ("RUN_ERROR", "abort")
    assert [one["content"] for one in (await frontend.connect()).messages if one["role"] == "assistant"] == ["one "] * 2


async def test_peers_without_a_version(gateway: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway, is_current=False)
    frontend.tools = [PAINT]
    run = await frontend.run("call paint {}")
    assert "protocolVersion" not in run.events[0]
    assert "outcome" not in run.end
    (call,) = calls_in(run)
    assert (await frontend.run(tool_message(call, "red"))).text == "got {'result': 'red'}"
    assert (await frontend.run('call pay {"amount": 5}')).interrupts


async def test_the_state(frontend: Frontend) -> None:
    frontend.state = {"mood": "fine", "user:name": "Ada", "app:shown": 1, "temp:x": 1}
    assert (await frontend.run("hello")).state == {"mood": "fine"}
    frontend.state = {"mood": "better", "__session_metadata__": {"displayName": "mine"}}
    run = await frontend.run("tool a/b~c")
    assert run.state == {"mood": "better", "note a/b~c": True}
    first, *_ = await frontend.events()
    assert first["actions"]["stateDelta"] == {"mood": "fine"}
    assert (await frontend.connect()).state == run.state


async def test_context_and_properties(frontend: Frontend) -> None:
    context = [{"description": "The cart", "value": "3 apples"}]
    props = {"userId": frontend.user, "tone": "dry"}
    system = {"id": unique("message"), "role": "system", "content": "Be brief."}
    run = await frontend.run(system, "instruction", context=context, forwardedProps=props)
    assert run.text.endswith("Instructions of the application:\nBe brief.\n\nThe cart:\n3 apples")
    asked, said = await frontend.events()
    assert asked["customMetadata"]["forwarded_props"] == said["customMetadata"]["forwarded_props"] == {"tone": "dry"}


async def test_media(frontend: Frontend) -> None:
    image = {"type": "image", "source": {"type": "data", "value": "+/A=", "mimeType": "image/png"}}
    old = {"type": "binary", "mimeType": "application/pdf", "url": "gs://b/x.pdf"}
    content = [{"type": "text", "text": "look"}, image, old]
    await frontend.run({"id": unique("message"), "role": "user", "content": content})
    asked, _ = await frontend.events()
    inline, file = asked["content"]["parts"][1:]
    assert inline["inlineData"]["mimeType"] == "image/png"
    assert file == {"fileData": {"fileUri": "gs://b/x.pdf", "mimeType": "application/pdf"}}
    shown = (await frontend.connect()).messages[0]["content"]
    document = {"type": "url", "value": "gs://b/x.pdf", "mimeType": "application/pdf"}
    assert shown == [content[0], image, {"type": "document", "source": document}]


async def test_a_failed_run(frontend: Frontend) -> None:
    run = await frontend.run("error")
    assert (run.end["type"], run.end["code"]) == ("RUN_ERROR", "ValueError")
    assert run.end["message"] == "the model is out of order"
    assert (await frontend.run("hello")).text == "echo hello"


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"messages": []}, 400, "Send one."),
        ({"threadId": " "}, 400, "threadId: is blank"),
        ({"runId": None}, 400, "runId: Field required"),
        ({"messages": [{"id": "1", "role": "nobody"}]}, 400, "messages.0"),
        ({"tools": [{"name": "adk_request_input", "description": ""}]}, 400, "adk_"),
        ({"tools": [{"name": f"t{n}", "description": ""} for n in range(257)]}, 400, "tools"),
        ({"context": [{"description": "", "value": "x" * 2**20}]}, 413, "frontend"),
        ({"messages": [{"id": "t", "role": "tool", "toolCallId": "c", "content": ""}]}, 400, "not in thread"),
        (
            {"messages": [{"id": "1", "role": "user", "content": [{"type": "image", "source": NO_DATA}]}]},
            400,
            "not base64",
        ),
    ],
)
async def test_what_is_refused(frontend: Frontend, change: Json, status: int, sentence: str) -> None:
    answer = await frontend.client.post("/agui/scripted", json=frontend.input("hello", **change))
    assert answer.status_code == status, answer.text
    assert sentence in answer.text
    path = f"/agui/scripted/threads/{frontend.thread}?user_id={frontend.user}"
    assert (await frontend.client.get(path)).status_code == 404, "something was stored"


async def test_an_unknown_agent(gateway: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway)
    answer = await gateway.post("/agui/nobody", json=frontend.input("hello"))
    assert answer.status_code == 404
    assert "There is no agent nobody. The agents are: " in answer.json()["detail"]


async def test_parallel_agents(gateway: httpx.AsyncClient) -> None:
    for is_current in (True, False):
        frontend = Frontend(gateway, "choir", is_current=is_current)
        run = await frontend.run("3 10")
        assert len(run.of("SUBAGENT_STARTED")) == len(run.of("SUBAGENT_FINISHED")) == (2 if is_current else 0)
        assert [one["content"] for one in run.messages if one.get("name") == "speaker" or True][-1]
        assert len([one for one in run.messages if one["role"] == "assistant"]) == 4


async def test_what_others_stored_is_shown(gateway: httpx.AsyncClient) -> None:
    """A conversation by ADK's API, continued in a frontend."""
    frontend = Frontend(gateway)
    message: dict[str, Any] = {"role": "user", "parts": [{"text": "tool milk"}]}
    path = f"/apps/scripted/users/{frontend.user}/sessions"
    await gateway.post(path, json={"sessionId": frontend.thread})
    body = {"appName": "scripted", "userId": frontend.user, "sessionId": frontend.thread, "newMessage": message}
    await gateway.post("/run", json=body)
    run = await frontend.connect()
    assert [message["role"] for message in run.messages] == ["user", "assistant", "tool", "assistant"]
    assert (await frontend.run("count")).text == "5"
    assert [text_of(event) for event in await frontend.events()][-2:] == ["count", "5"]
