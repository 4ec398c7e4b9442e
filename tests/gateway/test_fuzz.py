"""Requests that nobody meant to send: each is answered, never with a 5xx, and blocks nobody else."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from google.adk.artifacts.file_artifact_service import FileArtifactService

from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.streaming import MemoryBroker
from tests.conftest import plain
from tests.gateway.conftest import gateway_config, served
from tests.support import ChatClient

_REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "400"))
_HANDLERS = (
    *("message", "post", "cancel", "get_history", "list_sessions", "get_session"),
    *("create_session", "append_events", "delete_session", "get_user_state"),
)
_FIELDS = (
    *("message", "session_id", "app_name", "parts", "state_delta", "run_config", "invocation_id", "limit", "before"),
    *("multitask_strategy", "events", "state", "cursor", "turn_id", "after_timestamp", "num_recent_events", "create"),
    *("appName", "userId", "sessionId", "newMessage", "stateDelta", "streaming", "name", "filename", "artifact"),
)
_HALVES = ("\ud83d", "a\ude00b", "\ud83d\ud83d\ude00")
"""Half of an emoji, in JSON; in a URL it has no form."""
_TEXTS = (
    *("s", "scripted", "user", " ", "", "\0", "a\0b", "%41", "%2F", "a/b", "..", ".", "a[b]", "a b", "ü", "\U0001f600"),
    *("x" * 300, "user:f", "-1", "1", "1e999", "0.5:s", "1.2.3:s", "'; --", "inv_1.x", "\\", "//", "?", "#", "\n"),
    *_HALVES,
)
_PATHS = (
    *("/list-apps", "/run", "/run_sse", "/apps/{}/users/{}/sessions", "/apps/{}/users/{}/sessions/{}"),
    *("/apps/{}/users/{}/sessions/{}/turns", "/apps/{}/users/{}/sessions/{}/artifacts"),
    *("/apps/{}/users/{}/sessions/{}/artifacts/{}", "/apps/{}/users/{}/sessions/{}/artifacts/{}/versions"),
    *("/apps/{}/users/{}/sessions/{}/artifacts/{}/versions/{}", "/apps/{}/users/{}/memory", "/apps/{}/app-info"),
    *("/turns/{}/events", "/turns/{}/cancel", "/apps/{}/users/{}/sessions/{}/artifacts/{}/versions/{}/metadata"),
    *("/apps/{}/users/{}/sessions/{}/artifacts/{}/versions/metadata", "/version", "/health"),
)


class Nonsense:
    """Requests that differ from real ones in one way or another."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        """Some JSON."""
        kind = self._random.randrange(8 if depth < 3 else 5)
        if kind < 3:
            return self._random.choice(_TEXTS)
        if kind == 3:
            return self._random.choice([0, -1, 1, 10**30, 1.5, True, None])
        if kind == 4:
            return {"role": "user", "parts": [{"text": self._random.choice(_TEXTS)}]}
        if kind == 5:
            return [self.value(depth + 1) for _ in range(self._random.randrange(3))]
        return {
            self._random.choice((*_FIELDS, *_TEXTS)): self.value(depth + 1) for _ in range(self._random.randrange(3))
        }

    def body(self, usual: dict[str, Any]) -> bytes:
        """A body that is nearly valid, or not at all."""
        if self._random.random() < 0.1:
            return self._random.choice([b"", b"{", b"\xff", b"null", b'"s"', b"[[", b"1", b'{"a":1,"a":2}'])
        body = dict(usual)
        for _ in range(self._random.randrange(3)):
            body[self._random.choice(_FIELDS)] = self.value()
        return json.dumps(body).encode()

    def at_the_ingress(self, user: str) -> httpx.Request:
        """A request to a handler of Chat."""
        handler = self._random.choice(_HANDLERS)
        user = self._random.choice([user, user, *_TEXTS])
        headers = {"content-type": "application/json"}
        usual = {
            "app_name": "scripted",
            "session_id": "s",
            **({"message": "hello"} if handler in ("message", "post") else {}),
        }
        return httpx.Request(
            "POST", f"http://ingress/Chat/{_quoted(user)}/{handler}", content=self.body(usual), headers=headers
        )

    def at_the_gateway(self, user: str) -> httpx.Request:
        """A request to ADK's API, or to our own routes beside it."""
        names = [self._random.choice([usual, usual, *_TEXTS]) for usual in ("scripted", user, "s", "f", "0")]
        path = self._random.choice(_PATHS)
        path = path.format(*map(_quoted, names))
        method = self._random.choice(["GET", "GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"])
        query = (
            f"?{self._random.choice(_FIELDS)}={_quoted(self._random.choice(_TEXTS))}"
            if self._random.random() < 0.3
            else ""
        )
        usual = {"appName": "scripted", "userId": user, "sessionId": "s", "newMessage": {"parts": [{"text": "hi"}]}}
        if path.endswith("/artifacts"):
            usual = {"filename": self._random.choice(_TEXTS), "artifact": {"text": "x"}}
        content = self.body(usual) if method in ("POST", "PATCH", "PUT") else b""
        headers = {b"content-type": b"application/json"}
        if self._random.random() < 0.2:
            name = self._random.choice([b"last-event-id", b"idempotency-key", b"origin"])
            headers[name] = self._random.choice([b"nonsense", b"", b"%00", b"\xfc", b"x" * 300])
        return httpx.Request(method, f"http://gateway{path}{query}", content=content, headers=headers)


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


@plain
async def test_nonsense_is_refused_and_harms_nobody(
    chat: ChatClient, server: RestateServer, broker: MemoryBroker, tmp_path: Path
) -> None:
    config = replace(gateway_config(server, broker), artifact_service=FileArtifactService(tmp_path))
    async with served(gateway_app(config)) as gateway:
        await _harass(chat, gateway)


async def _harass(chat: ChatClient, gateway: httpx.AsyncClient) -> None:
    nonsense = Nonsense(7)
    await chat.message("s", "hello")
    for name in ("a\0b", "x" * 300, "a[b", " ", "..", "user:"):
        path = f"/apps/scripted/users/{chat.user}/sessions/s/artifacts"
        for method, asked in (("GET", f"{path}/{quote(name, safe='')}"), ("DELETE", f"{path}/{quote(name, safe='')}")):
            answer = await gateway.request(method, asked)
            assert answer.status_code < 500, f"{method} {asked}: {answer.text}"
        answer = await gateway.post(path, json={"filename": name, "artifact": {"text": "x"}})
        assert answer.status_code < 500, f"{name!r}: {answer.text}"
    statuses: dict[int, int] = {}
    for number in range(_REQUESTS):
        at_the_gateway = number % 2 == 0
        made = nonsense.at_the_gateway(chat.user) if at_the_gateway else nonsense.at_the_ingress(chat.user)
        client = gateway if at_the_gateway else chat.http
        url = str(client.base_url).rstrip("/") + made.url.raw_path.decode()
        try:
            response = await client.request(
                made.method,
                url,
                content=made.content,
                headers={**dict(made.headers.raw), b"Host": client.base_url.netloc},
            )
        except httpx.TransportError as error:
            raise AssertionError(f"cut off: {made.method} {url} {made.content!r}") from error
        said = f"{response.status_code} to {made.method} {url} {dict(made.headers)} {made.content!r}: {response.text}"
        assert response.status_code < 500, said
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
    assert statuses[200] > _REQUESTS / 10, statuses
    assert await chat.message("s", "after all that") == "echo after all that"
