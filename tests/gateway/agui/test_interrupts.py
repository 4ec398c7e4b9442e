"""Questions of workflows and requests for credentials, as interrupts."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlparse

import httpx
import pytest
import pytest_asyncio

from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.streaming import MemoryBroker
from tests.conftest import plain
from tests.durable.postman import asked, postman
from tests.gateway.agui.apps import asking, behind, flowing
from tests.gateway.agui.frontend import Frontend, calls_in, tool_message
from tests.gateway.conftest import gateway_config, served
from tests.support import Json, calls, unique

pytestmark = plain


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(server: RestateServer, broker: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
    apps = {app.name: app for app in (asking(), behind(), flowing(), postman())}
    async with served(gateway_app(replace(gateway_config(server, broker), apps=apps))) as client:
        yield client


def resolved(interrupt: Json, payload: Any) -> list[Json]:
    return [{"interruptId": interrupt["id"], "status": "resolved", "payload": payload}]


async def test_a_question_of_a_workflow(gateway: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway, "asking")
    item = unique("apples")
    (interrupt,) = (await frontend.run(item)).interrupts
    assert interrupt["reason"] == "input_required"
    assert interrupt["message"] == f"How many {item}?"
    assert interrupt["responseSchema"] == {"type": "integer"}
    assert interrupt["metadata"] == {"adk": {"payload": {"item": item}}}
    assert (await frontend.connect()).interrupts == [interrupt]
    run = await frontend.run(resume=resolved(interrupt, 3))
    assert run.text == "told 3"
    assert run.end["result"] == "told 3"
    assert calls[f"looked for {item}"] == 1
    assert [message["content"] for message in (await frontend.connect()).messages] == [item, "told 3"]
    # It asks again under the same id.
    (interrupt,) = (await frontend.run(unique("plums"))).interrupts
    assert (await frontend.run(resume=resolved(interrupt, 5))).text == "told 5"


async def test_a_question_behind_a_tool(gateway: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway, "behind")
    item = unique("pears")
    run = await frontend.run(f'call survey {{"item": "{item}"}}')
    (interrupt,) = run.interrupts
    (call,) = calls_in(run)
    run = await frontend.run(resume=resolved(interrupt, 4))
    assert [result["toolCallId"] for result in run.of("TOOL_CALL_RESULT")] == [call]
    assert "told 4" in run.text
    assert calls[f"looked for {item}"] == 1, "the workflow began again"


async def test_a_credential(gateway: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway, "postman")
    run = await frontend.run("call read {}")
    (interrupt,) = run.interrupts
    assert interrupt["reason"] == "adk:credential"
    assert interrupt["toolCallId"] == calls_in(run)[0]
    assert not run.of("TOOL_CALL_RESULT")
    uri = interrupt["metadata"]["adk"]["authUri"]
    code, (state,) = unique("code"), parse_qs(urlparse(uri).query)["state"]
    payload = {"authResponseUri": f"http://127.0.0.1:9/back?code={code}&state={state}", "redirectUri": "http://x/back"}
    run = await frontend.run(resume=resolved(interrupt, payload))
    assert run.end["outcome"] == {"type": "success"}
    assert str(len(f"token-for-{code}")) in run.text
    assert asked[code] == 1
    assert "secret" not in str(run.events).lower()


@pytest.mark.parametrize("payload", [None, 5, [1]])
async def test_what_is_no_credential(gateway: httpx.AsyncClient, payload: Any) -> None:
    frontend = Frontend(gateway, "postman")
    (interrupt,) = (await frontend.run("call read {}")).interrupts
    answer = await gateway.post("/agui/postman", json=frontend.input(resume=resolved(interrupt, payload)))
    assert answer.status_code == 400
    assert "authResponseUri" in answer.json()["detail"]


async def test_a_declined_credential(gateway: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway, "postman")
    run = await frontend.run("call read {}")
    (interrupt,) = run.interrupts
    run = await frontend.run(resume=[{"interruptId": interrupt["id"], "status": "cancelled"}])
    assert run.end["type"] == "RUN_FINISHED"


async def test_a_late_answer_of_the_frontend(gateway: httpx.AsyncClient) -> None:
    """The user writes instead of answering, and answers after all."""
    frontend = Frontend(gateway, "behind")
    frontend.tools = [{"name": "paint", "description": ""}]
    (call,) = calls_in(await frontend.run("call paint {}"))
    assert (await frontend.run("count")).text == "4", "models refuse a history with an unanswered call"
    assert (await frontend.run(tool_message(call, "red"))).text == "got {'result': 'red'}"


async def test_a_tool_of_the_frontend_in_a_workflow(gateway: httpx.AsyncClient) -> None:
    frontend = Frontend(gateway, "flowing")
    frontend.tools = [{"name": "paint", "description": ""}]
    (call,) = calls_in(await frontend.run("call paint {}"))
    run = await frontend.run(tool_message(call, "red"))
    said = [message["content"] for message in run.messages if message["role"] == "assistant" and "content" in message]
    assert said == ["got {'result': 'red'}", "echo got {'result': 'red'}"]
