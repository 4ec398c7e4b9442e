"""Bodies that are too large, or have content that cannot be stored: a 4xx and a sentence, never a 500."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from adk_chat.gateway.bodies import MAX_ARTIFACT_BYTES, BoundedBodies, JsonBodies, RefusedBodyError, readable
from adk_chat.protocol.limits import MAX_BYTES
from tests.conftest import plain
from tests.gateway.conftest import served
from tests.gateway.test_trouble import SESSIONS, run
from tests.support import ChatClient, unique

JSON = {"content-type": "application/json"}
DEEP = b'{"d":' * 300 + b"1" + b"}" * 300
VALUES = {
    "not_utf8": b'"\xff"',
    "half": rb'"\ud83d"',
    "nan": b"NaN",
    "infinity": b"-Infinity",
    "too_large": b"1e999",
    "deep": DEEP,
    "deeper": b"[" * 100_000 + b"]" * 100_000,
    "nul": rb'"\u0000"',
    "digits": b"9" * 5000,
    "empty": b'""',
    "null": b"null",
}
RUN = b'{"appName": "scripted", "userId": "%s", "sessionId": "s", '
MESSAGE = b'"newMessage": {"parts": [{"text": "hello"}]}}'
EVENT = b'{"events": [{"author": "user", "id": "e", "timestamp": 1.0, '
BODIES = {
    "body": ("PATCH", "/s", b"%s"),
    "state": ("POST", "", b'{"state": {"x": %s}}'),
    "key": ("POST", "", b'{"state": {%s: 1}}'),
    "session": ("POST", "", b'{"sessionId": %s}'),
    "delta": ("PATCH", "/s", b'{"stateDelta": {"x": %s}}'),
    "time": ("POST", "", b'{"events": [{"author": "user", "id": "e", "timestamp": %s}]}'),
    "text": ("POST", "", EVENT + b'"content": {"parts": [{"text": %s}]}}]}'),
    "artifact": ("POST", "/s/artifacts", b'{"filename": %s, "artifact": {"text": "x"}}'),
    "run": ("POST", "/run", RUN + b'"newMessage": {"parts": [{"text": %s}]}}'),
    "response": (
        *("POST", "/run"),
        RUN + b'"newMessage": {"parts": [{"functionResponse": {"id": "x", "name": "x", "response": {"x": %s}}}]}}',
    ),
    "streaming": ("POST", "/run_sse", RUN + b'"streaming": %s, ' + MESSAGE),
    "user": ("POST", "/run", b'{"appName": "scripted", "userId": %s, "sessionId": "s", ' + MESSAGE),
    "session_of_run": ("POST", "/run", b'{"appName": "scripted", "userId": "nobody", "sessionId": %s, ' + MESSAGE),
}


@plain
@pytest.mark.parametrize("body", BODIES)
async def test_whatever_a_field_says_is_no_error_of_the_server(gateway: httpx.AsyncClient, body: str) -> None:
    user = unique("user")
    sessions = SESSIONS.format("scripted", user)
    await gateway.post(sessions, json={"sessionId": "s"})
    method, path, template = BODIES[body]
    answers = {}
    for name, value in VALUES.items():
        content = template.replace(b"%s", user.encode(), template.count(b"%s") - 1).replace(b"%s", value)
        url = path if path.startswith("/run") else sessions + path
        answers[name] = await gateway.request(method, url, content=content, headers=JSON)
    assert {name: answer.text for name, answer in answers.items() if answer.status_code >= 500} == {}
    assert {answers[name].status_code for name in ("not_utf8", "deep", "deeper")} <= {400, 422}


@plain
async def test_half_an_emoji_is_shown_as_a_character_that_is_missing(gateway: httpx.AsyncClient) -> None:
    user = unique("user")
    await gateway.post(SESSIONS.format("scripted", user), json={"sessionId": "s"})
    body = json.dumps(run("scripted", user, "a \ud83d b \U0001f600", stateDelta={"k\ude00": "\ud83d"}))
    answer = await gateway.post("/run", content=body, headers=JSON)
    assert answer.json()[0]["content"]["parts"] == [{"text": "echo a \ufffd b \U0001f600"}]
    state = (await gateway.get(f"{SESSIONS.format('scripted', user)}/s")).json()["state"]
    assert state == {"k\ufffd": "\ufffd"}
    of_nobody = json.dumps(run("scripted", "half \ud83d", "hello"))
    assert (await gateway.post("/run", content=of_nobody, headers=JSON)).status_code == 404


@plain
async def test_half_an_emoji_is_the_same_at_the_ingress(chat: ChatClient) -> None:
    async def send(handler: str, body: dict[str, Any]) -> Any:
        content = json.dumps({"app_name": "scripted", **body})
        answer = await chat.http.post(f"/Chat/{chat.user}/{handler}", content=content, headers=JSON)
        assert answer.status_code == 200, answer.text
        return answer.json()

    delta = {"k\ude00": "\ud83d", "user:\ud83d": 1}
    message = {"session_id": "s\ud83d", "message": "a \ud83d b", "state_delta": delta}
    assert await send("message", message) == "echo a \ufffd b"
    found = await send("get_session", {"session_id": "s\ud83d"})
    assert (found["id"], found["state"]) == ("s\ufffd", {"k\ufffd": "\ufffd", "user:\ufffd": 1})


@plain
async def test_a_blank_id_is_that_of_nothing(gateway: httpx.AsyncClient) -> None:
    user = unique("user")
    for blank in ("", " ", "\n"):
        for route in ("/run", "/run_sse"):
            answer = await gateway.post(route, json={**run("scripted", user, "hello"), "sessionId": blank})
            assert (answer.status_code, answer.json()) == (404, {"detail": f"Session not found: {blank}"})
    answer = await gateway.get(f"{SESSIONS.format('scripted', user)}/%20/turns")
    assert (answer.status_code, answer.json()) == (200, [])
    of_nothing = urlsafe_b64encode(f"{user}/scripted/%20".encode()).decode().rstrip("=")
    assert (await gateway.get(f"/turns/inv_1abc.{of_nothing}/events")).status_code == 404


def test_only_what_is_half_is_replaced() -> None:
    whole = rb'{"a": "\ud83d\ude00 \\ud83d \"\ud83d\ude00\" \u00e9"}'
    assert readable(whole) == whole
    assert json.loads(readable(rb'["\ud83d\ud83d\ude00\\\ude00"]')) == ["\ufffd\U0001f600\\\ufffd"]
    assert json.loads(readable(b'["\xed\xa0\xbd"]')) == ["\ufffd"]
    assert json.loads(readable('["é"]'.encode("utf-16"))) == ["é"]
    with pytest.raises(RefusedBodyError, match="not valid UTF-8"):
        readable(b'["\xe9"]')


@dataclass
class Counting:
    """An app that reports how many bytes it received, and accepts 300,000 of them at the same time."""

    client: httpx.AsyncClient = field(init=False)
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def count(self, request: Request) -> Response:
        size = len(await request.body())
        if request.url.path == "/streams":
            return StreamingResponse(self.stream())
        if request.url.path == "/waits":
            self.waits.set()
            await self.go.wait()
        return JSONResponse(size)

    async def stream(self) -> AsyncIterator[str]:
        """Say something at once, and more later."""
        yield "something"
        await self.go.wait()


@pytest_asyncio.fixture
async def counting() -> AsyncIterator[Counting]:
    """The app, served."""
    made = Counting()
    app = Starlette(routes=[Route("/{path:path}", made.count, methods=["POST"])])
    async with served(BoundedBodies(JsonBodies(app), 300_000)) as made.client:
        yield made


async def test_no_more_is_taken_at_the_same_time_than_there_is_memory_for(counting: Counting) -> None:
    large, small = b"x" * 280_000, b"x" * 50_000
    waiting = asyncio.create_task(counting.client.post("/waits", content=large))
    await counting.waits.wait()
    refused = await counting.client.post("/", content=large)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert (await counting.client.post("/", content=small)).json() == len(small)
    counting.go.set()
    assert (await waiting).json() == len(large)
    assert (await counting.client.post("/", content=large)).json() == len(large)


async def test_a_body_counts_until_its_answer_begins(counting: Counting) -> None:
    large = b"x" * 280_000
    async with counting.client.stream("POST", "/streams", content=large):
        assert (await counting.client.post("/", content=large)).json() == len(large)
        counting.go.set()


async def test_what_is_too_large_is_refused_however_it_is_sent(counting: Counting) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b" " * 100_000

    client = counting.client
    assert (await client.post("/", content=chunks())).status_code == 503
    for path, most in (("/run", MAX_BYTES), ("/apps/a/users/u/sessions/s/artifacts", MAX_ARTIFACT_BYTES)):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {most + 1}\r\n\r\n".encode())
        assert b"413" in await reader.readline()
        writer.close()
