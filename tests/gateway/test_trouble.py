"""What the gateway answers when something is wrong: a status and a sentence, at once."""

import asyncio
from dataclasses import replace
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.gateway.streams.run_request import TURN_ID
from adk_chat.protocol.turn_id import TurnId, TurnKey
from adk_chat.settings import Settings
from tests.conftest import plain
from tests.gateway.conftest import gateway_config, served
from tests.gateway.sse import parsed
from tests.http_server import served as served_at
from tests.support import ChatClient, scripted_app, unique

Json = dict[str, Any]
SESSIONS = "/apps/{}/users/{}/sessions"


def run(app: str, user: str, text: str, **more: Any) -> Json:
    message = {"role": "user", "parts": [{"text": text}]}
    return {"appName": app, "userId": user, "sessionId": "s", "newMessage": message, **more}


def turn_of(user: str, invocation_id: str) -> str:
    key = TurnKey(user_id=user, app_name="scripted", session_id="s")
    return f"/turns/{TurnId(invocation_id=invocation_id, key=key)}/events"


@plain
async def test_a_session_that_fits_into_no_answer_is_opened_and_changed(gateway: httpx.AsyncClient) -> None:
    user = unique("user")
    path = SESSIONS.format("choir", user)
    await gateway.post(path, json={"sessionId": "s", "state": {"mood": "fine"}})
    assert (await gateway.post("/run", json=run("choir", user, f"4 {7_000_000}"))).is_success
    session = (await gateway.get(f"{path}/s")).json()
    assert sorted(event["author"] for event in session["events"]) == ["soloist", *["speaker"] * 4, "user"]
    assert session["events"][0]["author"] == "user"
    changed = (await gateway.patch(f"{path}/s", json={"stateDelta": {"mood": "better"}})).json()
    assert changed["state"]["mood"] == "better"


@plain
async def test_a_name_that_is_too_long_is_a_bad_request(gateway: httpx.AsyncClient) -> None:
    path = SESSIONS.format("scripted", "x" * 300)
    for method in ("GET", "PATCH", "DELETE"):
        answer = await gateway.request(method, f"{path}/s", json={"stateDelta": {}} if method == "PATCH" else None)
        assert (answer.status_code, "at most 256 are accepted" in answer.text) == (400, True), method


@plain
async def test_without_the_admin_api_what_is_stored_is_shown(server: RestateServer, chat: ChatClient) -> None:
    turn_id = (await chat.call("post", {"message": "hello", "session_id": "s"}))["turn_id"]
    await chat.message("s", "after")
    config = replace(gateway_config(server), admin_url="http://127.0.0.1:9")
    async with served(gateway_app(config)) as gateway:
        assert "echo hello" in (await gateway.get(f"/turns/{turn_id}/events")).text
        assert (await gateway.get(turn_of(chat.user, "inv_1other"))).status_code == 404
        assert (await gateway.post(f"/turns/{turn_id}/cancel")).json() == {"cancelled": False}
        answer = await gateway.get(f"{SESSIONS.format('scripted', chat.user)}/s/turns")
        assert (answer.status_code, "The service does not answer" in answer.text) == (503, True)


@plain
async def test_a_turn_that_there_is_not(gateway: httpx.AsyncClient) -> None:
    for invocation_id in ("inv_1abc", "inv_1cnwHTQ9gZUK6kyEtqsO2BfMA5hJwPOZGd"):
        answer = await gateway.get(turn_of(unique("user"), invocation_id))
        assert (answer.status_code, "There is no such turn" in answer.text) == (404, True)


@plain
async def test_events_that_share_an_id_are_not_read_for_ever(gateway: httpx.AsyncClient) -> None:
    user = unique("user")
    events = [
        {"id": "same", "author": "user", "invocationId": "e-1", "content": {"parts": [{"text": str(number)}]}}
        for number in range(250)
    ]
    await gateway.post(SESSIONS.format("scripted", user), json={"sessionId": "s", "events": events})
    async with asyncio.timeout(20):
        answer = await gateway.get(turn_of(user, "inv_1cnwHTQ9gZUK6kyEtqsO2BfMA5hJwPOZGd"))
    assert (answer.status_code, "Several events of the session have the id same" in answer.text) == (400, True)


@plain
async def test_every_frame_has_an_id_and_half_an_event_has_that_of_the_one_before(gateway: httpx.AsyncClient) -> None:
    user = unique("user")
    await gateway.post(SESSIONS.format("workshop", user), json={"sessionId": "s"})
    body = run("workshop", user, f'call act {{"name": "{user}"}}', streaming=True)
    frames = parsed((await gateway.post("/run_sse", json=body)).text)
    ids = [frame.id.split(".")[0] for frame in frames]
    assert ids == ["1", "1", "2", "end"], "a call; what its answer says; and its artifact, with which it is shown"
    assert "artifactDelta" in frames[2].data

    await gateway.post(SESSIONS.format("scripted", user), json={"sessionId": "s"})
    failed = await gateway.post("/run_sse", json=run("scripted", user, "error"))
    again = await gateway.get(f"/turns/{failed.headers[TURN_ID]}/events")
    for answer in (failed, again):
        frames_as_sent = answer.text.strip().split("\n\n")
        assert "error" in frames_as_sent[1]
        assert [frame.startswith("id: ") for frame in frames_as_sent] == [True, True, True]


@plain
async def test_the_gateway_may_be_a_part_of_another_app(server: RestateServer) -> None:
    user = unique("user")
    app = Starlette(routes=[Mount("/chat", gateway_app(gateway_config(server)))])
    async with served(app) as client:
        await client.post(f"/chat{SESSIONS.format('scripted', user)}", json={"sessionId": "s"})
        refused = await client.post("/chat/run", json=run("scripted", user, "x", multitaskStrategy="shout"))
        assert refused.status_code == 400
        answer = await client.post("/chat/run", json=run("scripted", user, "x", multitaskStrategy=None))
        assert (answer.status_code, TURN_ID in answer.headers) == (200, True)


async def test_a_restate_behind_a_token_is_given_it() -> None:
    given: list[str | None] = []

    async def restate(request: Request) -> JSONResponse:
        given.append(request.headers.get("authorization"))
        return JSONResponse({"message": "no"}, 418)

    settings = Settings(restate_token=SecretStr("secret"))
    app = Starlette(routes=[Route("/{path:path}", restate, methods=["POST"])])
    async with (
        served_at(app) as url,
        served(ChatService(scripted_app("scripted"), settings=settings).gateway(url, url)) as client,
    ):
        asked = [f"{SESSIONS.format('scripted', 'ada')}/s", f"{SESSIONS.format('scripted', 'ada')}/s/turns"]
        assert [(await client.get(path)).status_code for path in asked] == [418, 503]
    assert {*given} == {"Bearer secret"}
