"""What the gateway serves, and what it does not."""

import asyncio
import json
import logging
import re
import time
from dataclasses import replace
from typing import Any

import httpx
import jwt
import pytest
from google.adk.cli.api_server import RunAgentRequest
from google.adk.cli.conformance.adk_web_server_client import AdkWebServerClient
from google.adk.plugins.base_plugin import BasePlugin
from google.genai import types
from pydantic import SecretStr

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.gateway.auth.tokens import AuthError
from adk_chat.gateway.server import gateway_app
from adk_chat.gateway.turns import RefusedError, Turns
from adk_chat.protocol.limits import MAX_BYTES
from adk_chat.protocol.turn_id import TurnId
from adk_chat.restate_api import Ingress
from adk_chat.sessions.client import IngressClient
from adk_chat.settings import Settings
from adk_chat.streaming import MemoryBroker
from adk_chat.streaming.redis_broker import RedisBroker
from tests.conftest import free_port, plain, query
from tests.gateway.conftest import APPS, gateway_config, served
from tests.support import ChatClient, Json, scripted_app, text_of, unique, until

NOT_OFFERED = [
    ("GET", "/dev/apps/scripted/builder"),
    ("POST", "/dev/apps/scripted/builder/save"),
    ("POST", "/dev/apps/scripted/deploy/cloud_run"),
    ("GET", "/dev/apps/scripted/deploy/defaults"),
    ("POST", "/dev/apps/scripted/tests/run"),
    ("GET", "/dev/apps/scripted/eval-sets"),
    ("POST", "/agent-identity/finalize"),
    ("GET", "/run_live"),
]


@plain
async def test_what_would_run_outside_the_service_is_not_offered(server: RestateServer) -> None:
    app = gateway_app(replace(gateway_config(server), ui=True))
    async with served(app) as client:
        for method, path in NOT_OFFERED:
            assert (await client.request(method, path)).status_code == 404, path
        page = await client.get("/dev-ui/")
        assert (page.status_code, "<title>" in page.text) == (200, True)
        assert (await client.get("/dev/apps/scripted/build_graph")).status_code == 200
        assert (await client.get("/dev/apps/scripted/debug/trace/session/s")).json() == []


@plain
async def test_what_the_service_traces_is_found_by_event_and_by_session(server: RestateServer) -> None:
    user = unique("user")
    async with served(gateway_app(replace(gateway_config(server), ui=True))) as client:
        session = (await client.post(f"/apps/scripted/users/{user}/sessions")).json()["id"]
        message = {"role": "user", "parts": [{"text": "tool x"}]}
        body = {"appName": "scripted", "userId": user, "sessionId": session, "newMessage": message}
        (call, _, _) = (await client.post("/run", json=body)).json()
        spans = (await client.get(f"/dev/apps/scripted/debug/trace/session/{session}")).json()
        assert {"invoke_agent scripted", "execute_tool note"} <= {span["name"] for span in spans}
        assert (await client.get(f"/dev/apps/scripted/debug/trace/{call['id']}")).status_code == 200


@plain
async def test_reading_leaves_nothing_behind_in_restate(server: RestateServer, gateway: httpx.AsyncClient) -> None:
    user = unique("user")
    path = f"/apps/scripted/users/{user}/sessions"
    session = (await gateway.post(path)).json()["id"]
    for read in (path, f"{path}/{session}"):
        assert (await gateway.get(read)).status_code == 200

    async def left() -> list[str]:
        rows = await query(server, f"SELECT target FROM sys_invocation WHERE target_service_key = '{user}'")
        return [row["target"] for row in rows]

    async def only_the_write() -> bool:
        return await left() == [f"Chat/{user}/create_session"]

    await until(only_the_write)


@plain
async def test_a_session_is_imported_in_one_write(server: RestateServer, gateway: httpx.AsyncClient) -> None:
    user = unique("user")
    path = f"/apps/scripted/users/{user}/sessions"

    def events(count: int, **last: Any) -> list[Json]:
        made: list[Json] = [
            {"author": "user", "timestamp": 1.0 + number, "content": {"role": "user", "parts": [{"text": str(number)}]}}
            for number in range(count)
        ]
        return [*made[:-1], made[-1] | last]

    deep = {"customMetadata": {"x": json.loads("[" * 179 + "]" * 179)}}
    large = {"customMetadata": {"x": "x" * MAX_BYTES}}
    marked = {"actions": {"stateDelta": {"n": 1}}}
    for status, last in ((400, deep), (413, large), (400, marked)):
        refused = await gateway.post(path, json={"sessionId": "s", "events": events(3, **last)})
        assert (refused.status_code, (await gateway.get(path)).json()) == (status, []), refused.text
    whole = await gateway.post(path, json={"sessionId": "s", "state": {"n": 1}, "events": events(300)})
    assert whole.status_code == 200, whole.text
    found = (await gateway.get(f"{path}/s")).json()
    assert ([text_of(event) for event in found["events"]], found["state"]) == ([*map(str, range(300))], {"n": 1})
    assert (whole.json()["events"], found["lastUpdateTime"]) == (found["events"], 300.0)
    assert (await gateway.post(path, json={"sessionId": "s", "events": events(3)})).status_code == 409
    options = await gateway.post(path, json={"options": {"events": []}})
    assert (options.status_code, "not supported" in options.text) == (400, True)
    rows = await query(server, f"SELECT target FROM sys_invocation WHERE target_service_key = '{user}'")
    assert {row["target"] for row in rows} == {f"Chat/{user}/create_session"}


@plain
async def test_other_hosts_and_origins_are_refused(gateway: httpx.AsyncClient) -> None:
    assert (await gateway.get("/list-apps", headers={"host": "evil.example"})).status_code == 403
    assert (await gateway.post("/run", json={}, headers={"origin": "http://evil.example"})).status_code == 403
    assert (await gateway.get("/list-apps")).status_code == 200


async def test_beyond_this_machine_only_with_access_control() -> None:
    app = scripted_app("scripted")
    alone = ChatService(app, settings=Settings())
    with pytest.raises(AuthError, match="Set ADK_CHAT_AUTH_JWKS_URL"):
        alone.gateway("http://localhost:1", None, "0.0.0.0")
    settings = Settings(auth_key=SecretStr("x" * 32), auth_audience="chat")
    everywhere = ChatService(app, settings=settings).gateway("http://localhost:1", None, "0.0.0.0")
    token = jwt.encode({"sub": "ada", "aud": "chat", "exp": time.time() + 60}, "x" * 32)
    async with served(everywhere) as client:
        headers = {"host": "chat.example"}
        assert (await client.get("/list-apps", headers=headers)).status_code == 401
        headers["authorization"] = f"Bearer {token}"
        assert (await client.get("/list-apps", headers=headers)).json() == ["scripted"]
    behind_a_proxy = ChatService(app, settings=settings).gateway("http://localhost:1", None)
    async with served(behind_a_proxy) as client:
        assert (await client.get("/list-apps", headers=headers)).json() == ["scripted"]


@plain
async def test_the_api_alone(gateway: httpx.AsyncClient) -> None:
    for path in ("/dev-ui/", "/", "/dev/apps/scripted/build_graph"):
        assert (await gateway.get(path)).status_code == 404


class Closable(BasePlugin):
    """A plugin that records that it was closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True


@plain
async def test_what_belongs_to_the_agents_outlives_the_gateway(server: RestateServer) -> None:
    user, plugin = unique("user"), Closable(name="closable")
    app = scripted_app("scripted", plugins=[plugin])
    async with served(gateway_app(replace(gateway_config(server), apps={app.name: app}))) as client:
        await client.post(f"/apps/scripted/users/{user}/sessions", json={"sessionId": "s"})
        message = {"role": "user", "parts": [{"text": "hello"}]}
        body = {"appName": "scripted", "userId": user, "sessionId": "s", "newMessage": message}
        assert (await client.post("/run", json=body)).is_success
    assert not plugin.closed


@plain
async def test_a_gateway_is_ready_when_what_it_needs_is_there(
    gateway: httpx.AsyncClient, server: RestateServer, broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "adk_chat.process.readiness")
    answer = await gateway.get("/ready")
    said = {"status": "ok", "restate": "ok", "handlers": "ok", "streams": "ok"}
    assert (answer.status_code, answer.json()) == (200, said)
    lonely = replace(gateway_config(server), broker=RedisBroker(f"redis://127.0.0.1:{free_port()}"))
    async with served(gateway_app(lonely)) as client:
        answer = await client.get("/ready")
        lost = {**said, "status": "degraded", "streams": "Redis does not answer"}
        assert (answer.status_code, answer.json()) == (200, lost), "turns go on"
    stranger = scripted_app("stranger")
    other = replace(gateway_config(server, broker), apps={**APPS, "stranger": stranger})
    async with served(gateway_app(other)) as client:
        answer = await client.get("/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["handlers"].endswith("but not stranger")
        assert "but not stranger." in caplog.text


@plain
async def test_without_restate_a_request_ends_in_seconds(
    server: RestateServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "adk_chat.gateway")
    nobody = f"http://127.0.0.1:{free_port()}"
    user = "ada"
    run = {"appName": "scripted", "userId": user, "sessionId": "s", "newMessage": {"parts": [{"text": "hi"}]}}
    async with served(gateway_app(replace(gateway_config(server), ingress_url=nobody, admin_url=nobody))) as client:
        answers = await asyncio.gather(
            client.get("/ready"),
            client.get(f"/apps/scripted/users/{user}/sessions"),
            client.post(f"/apps/scripted/users/{user}/sessions", json={}),
            client.get(f"/apps/scripted/users/{user}/sessions/s/turns"),
            client.post("/run", json=run),
            client.post("/run_sse", json={**run, "streaming": True}),
        )
    assert [answer.status_code for answer in answers] == [503] * 6
    assert "Is restate-server running, and the endpoint?" in caplog.text
    for answer in answers:  # and clients learn nothing about its internals
        assert not re.search(r"127\.0\.0\.1|ADK_CHAT_|Error|\(", answer.text), answer.text


async def test_who_waits_for_a_turn_is_told_when_restate_stays_away() -> None:
    turn_id = TurnId.parse("inv_1x.dXNlci94L3M")
    ingress = Ingress(f"http://127.0.0.1:{free_port()}")
    turns = Turns(ingress, IngressClient(ingress), None)
    with pytest.raises(
        RefusedError, match=f"The turn continues when it is back; GET /turns/{turn_id}/events"
    ) as refused:
        await turns.outcome(turn_id, patience=0)
    assert refused.value.status_code == 503
    await ingress.close()


@plain
async def test_a_turn_that_is_on_its_way_is_waited_for(
    server: RestateServer, chat: ChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingress = Ingress(server.ingress_url)
    turns = Turns(ingress, IngressClient(ingress), None)
    turn_id = TurnId.parse((await chat.call("post", {"message": "hello", "session_id": "s"}))["turn_id"])
    request = ingress._http.request
    unknown = iter([f"{server.ingress_url}/restate/invocation/inv_1cnwHTQ9gZUK6kyEtqsO2BfMA5hJwPOZGd/attach"])
    monkeypatch.setattr(ingress._http, "request", lambda method, url, *more: request(method, next(unknown, url), *more))
    assert (await turns.outcome(turn_id)).status == 200
    await ingress.close()


@plain
async def test_adks_own_client_takes_us_for_adk(gateway: httpx.AsyncClient) -> None:
    user = unique("user")
    await gateway.post(f"/apps/scripted/users/{user}/sessions", json={"sessionId": "s"})
    message = types.Content(role="user", parts=[types.Part(text="stream one two")])
    request = RunAgentRequest(app_name="scripted", user_id=user, session_id="s", new_message=message, streaming=True)
    async with AdkWebServerClient(base_url=str(gateway.base_url)) as client:
        events = [event async for event in client.run_agent(request)]
    texts = [((event.content and event.content.parts) or [types.Part()])[0].text for event in events]
    assert texts == ["one ", "two ", "one two "]  # and no event that is not ADK's
