"""What the gateway answers while Restate, or one of its nodes, starts: it never reports something as missing that may
exist."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.process import readiness
from adk_chat.process.readiness import Check, Readiness
from adk_chat.protocol.errors import NoAnswerError
from adk_chat.restate_api import Ingress
from adk_chat.restate_api.addresses import Addresses
from tests.conftest import free_port, plain
from tests.gateway.conftest import gateway_config, served
from tests.gateway.test_trouble import SESSIONS, run
from tests.http_server import served as served_at
from tests.support import ChatClient, gates, unique

NO_SERVICE = {"code": 404, "message": "service 'Chat' not found, make sure to register it.", "source": "ingress"}
NO_OUTPUT = {"code": 404, "message": "invocation not found", "source": "ingress"}
NO_INVOCATION = {"code": 404, "message": "not found", "source": "invocation"}


class Front:
    """Stands in front of a Restate, ingress and admin API, and answers like one that has just started."""

    def __init__(self, server: RestateServer) -> None:
        self._server = server
        self._http = httpx.AsyncClient(timeout=60)
        self.knows_services = True
        self.knows_turns = True
        self.arrives = False
        """Whether a turn is known once another request has gone the same way."""
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "PATCH"])])

    async def _answer(self, request: Request) -> Response:
        path, body = request.url.path, await request.body()
        if not self.knows_turns and path == "/query":
            return JSONResponse({"rows": []})
        if not self.knows_turns and path.startswith("/restate/invocation/"):
            return JSONResponse(NO_OUTPUT if path.endswith("/output") else NO_INVOCATION, 404)
        if not self.knows_services:
            return JSONResponse(NO_SERVICE, 404)
        of_admin = path.startswith(("/query", "/invocations/"))
        base = self._server.admin_url if of_admin else self._server.ingress_url
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        answer = await self._http.request(request.method, base + path, content=body, headers=headers)
        if path.endswith("/running_turn") and self.arrives:
            self.knows_turns = True
        return Response(answer.content, answer.status_code, media_type="application/json")


@plain
async def test_while_restate_starts_nothing_is_said_to_be_missing(server: RestateServer, chat: ChatClient) -> None:
    gates[chat.user] = asyncio.Event()
    running, queued = [
        (await chat.call("post", {"message": f"wait {chat.user}", "session_id": "s"}))["turn_id"] for _ in range(2)
    ]
    front, session = Front(server), f"{SESSIONS.format('scripted', chat.user)}/s"
    async with (
        served_at(front.app) as url,
        served(gateway_app(replace(gateway_config(server), ingress_url=url, admin_url=url))) as gateway,
    ):
        front.knows_services = front.knows_turns = False
        asked = [("GET", session), ("GET", f"{session}/turns")]
        asked += [("GET", f"/turns/{turn}/events") for turn in (running, queued)]
        asked += [("POST", f"/turns/{turn}/cancel") for turn in (running, queued)]
        answers = await asyncio.gather(*(gateway.request(*one) for one in asked))
        hello = run("scripted", chat.user, "hello", streaming=True)
        posted = [await gateway.post(path, json=hello) for path in ("/run", "/run_sse")]
        for answer in (*answers, *posted):
            assert (answer.status_code, answer.headers.get("retry-after")) == (503, "2"), answer.text
        front.knows_services = front.knows_turns = True
        assert (await gateway.get(session)).status_code == 200
        assert [turn["turnId"] for turn in (await gateway.get(f"{session}/turns")).json()] == [running, queued]
        assert (await gateway.post(f"/turns/{queued}/cancel")).json() == {"cancelled": True}
        gates[chat.user].set()
        assert "echo wait" in (await gateway.get(f"/turns/{running}/events")).text


@plain
async def test_a_turn_that_has_not_arrived_is_waited_for(server: RestateServer, chat: ChatClient) -> None:
    await chat.call("create_session", {"session_id": "s"})
    front = Front(server)
    front.arrives, front.knows_turns = True, False
    async with (
        served_at(front.app) as url,
        served(gateway_app(replace(gateway_config(server), ingress_url=url, admin_url=url))) as gateway,
    ):
        answer = await gateway.post("/run", json=run("scripted", chat.user, "hello"))
        assert (answer.status_code, "echo hello" in answer.text) == (200, True), answer.text
        turn_id, front.knows_turns = answer.headers["x-turn-id"], False
        assert "echo hello" in (await gateway.get(f"/turns/{turn_id}/events")).text
        gates[chat.user] = asyncio.Event()
        waiting = (await chat.call("post", {"message": f"wait {chat.user}", "session_id": "s"}))["turn_id"]
        front.knows_turns = False
        assert (await gateway.post(f"/turns/{waiting}/cancel")).json() == {"cancelled": True}


@plain
async def test_of_two_ingresses_the_one_that_answers_is_used(server: RestateServer) -> None:
    front, nobody, user = Front(server), f"http://127.0.0.1:{free_port()}", unique("user")
    front.knows_services = False
    async with served_at(front.app) as starting:
        several = f"{nobody},{starting},{server.ingress_url}"
        async with served(gateway_app(replace(gateway_config(server), ingress_url=several))) as gateway:
            assert (await gateway.post(SESSIONS.format("scripted", user), json={"sessionId": "s"})).status_code == 200
            answer = await gateway.post("/run", json=run("scripted", user, "hello"))
            assert (answer.status_code, "echo hello" in answer.text) == (200, True), answer.text
            assert (await gateway.get("/ready")).json()["restate"] == "ok"


@plain
async def test_handlers_of_another_version_are_there(server: RestateServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_HANDLER", "of_another_version")
    probed = Readiness(server.ingress_url, server.admin_url)
    assert await probed.handlers() == Check()
    await probed.close()


async def test_handlers_that_are_not_registered_are_said(binary: Path, tmp_path: Path) -> None:
    async with RestateServer(binary, tmp_path, free_port(), free_port()) as server:
        probed = Readiness(server.ingress_url, server.admin_url)
        assert (await probed.handlers()).said == "not registered; adk-chat serve --register registers them"
        await probed.close()


async def test_a_restate_that_does_not_get_ready_does_not_answer() -> None:
    async def starting(_: Request) -> JSONResponse:
        return JSONResponse(NO_SERVICE, 404)

    async with served_at(Starlette(routes=[Route("/{path:path}", starting)])) as url:
        with pytest.raises(NoAnswerError):
            await Ingress(url).output("inv_1")


def test_an_address_that_failed_is_used_again_after_a_while() -> None:
    now: Any = [100.0]
    addresses = Addresses("http://a/, http://b,http://c", lambda: now[0])
    assert list(addresses) == ["http://a", "http://b", "http://c"]
    addresses.failed("http://a")
    assert list(addresses) == ["http://b", "http://c", "http://a"]
    now[0] += 4.9
    addresses.failed("http://b")
    assert list(addresses) == ["http://c", "http://a", "http://b"]
    now[0] += 0.2
    assert list(addresses) == ["http://a", "http://c", "http://b"]
