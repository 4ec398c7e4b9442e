"""The gateway against ADK's own server with `InMemorySessionService`: the same requests, the same answers."""

import json
import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.gateway.sse import screen
from tests.support import unique

Json = dict[str, Any]
USER = "/apps/scripted/users/{user}"


@dataclass(frozen=True)
class Ask:
    """A request; `{user}` in it is a new user."""

    method: str
    path: str
    body: Any = None


def run(text: str | None, session: str = "s", *, path: str = "/run", **more: Any) -> Ask:
    message = None if text is None else {"role": "user", "parts": [{"text": text}]}
    body = {"appName": "scripted", "userId": "{user}", "sessionId": session, "newMessage": message, **more}
    return Ask("POST", path, body)


def say(parts: list[Json]) -> Ask:
    asked = run("")
    return Ask("POST", asked.path, {**asked.body, "newMessage": {"role": "user", "parts": parts}})


def sse(text: str, session: str = "s", *, streaming: bool = True, **more: Any) -> Ask:
    return run(text, session, path="/run_sse", streaming=streaming, **more)


SESSIONS = f"{USER}/sessions"
SESSION = Ask("GET", f"{SESSIONS}/s")
CREATE = Ask("POST", SESSIONS, {"sessionId": "s", "state": {"mood": "fine", "user:name": "Ada"}})
EVENT = {"author": "user", "invocationId": "e-1", "content": {"role": "user", "parts": [{"text": "before"}]}}
ANSWER = {"author": "scripted", "invocationId": "e-1", "content": {"role": "model", "parts": [{"text": "said"}]}}
ARTIFACTS = f"{SESSIONS}/s/artifacts"

CONVERSATIONS: dict[str, list[Ask]] = {
    "apps": [
        Ask("GET", "/list-apps"),
        Ask("GET", "/list-apps?detailed=true"),
        Ask("GET", "/apps/scripted/app-info"),
        Ask("GET", "/apps/nope/app-info"),
        Ask("GET", "/health"),
    ],
    "messages that say nothing": [CREATE, run("hello"), say([]), say([{"text": ""}]), SESSION, run("hello"), SESSION],
    "sessions": [
        Ask("GET", SESSIONS),
        SESSION,
        CREATE,
        CREATE,
        SESSION,
        Ask("POST", SESSIONS),
        Ask("POST", f"{SESSIONS}/t", {"color": "red"}),
        Ask("POST", f"{SESSIONS}/t", {}),
        Ask("GET", SESSIONS),
        Ask("DELETE", f"{SESSIONS}/t"),
        Ask("DELETE", f"{SESSIONS}/t"),
        Ask("GET", SESSIONS),
        Ask("GET", "/apps/second/users/{user}/sessions"),
    ],
    "patch": [
        CREATE,
        Ask(
            "PATCH", f"{SESSIONS}/s", {"stateDelta": {"__session_metadata__": {"displayName": "My talk"}, "mood": None}}
        ),
        Ask("PATCH", f"{SESSIONS}/s", {"stateDelta": {"user:y": 2, "temp:z": 3}}),
        # An app's state stays; no other test reads this one's.
        Ask("POST", "/apps/choir/users/{user}/sessions", {"sessionId": "s"}),
        Ask("PATCH", "/apps/choir/users/{user}/sessions/s", {"stateDelta": {"app:x-{user}": 1}}),
        Ask("PATCH", f"{SESSIONS}/nope", {"stateDelta": {}}),
        Ask("PATCH", f"{SESSIONS}/s", {"delta": {}}),
        SESSION,
    ],
    "import": [
        Ask("POST", SESSIONS, {"sessionId": "s", "events": [EVENT, ANSWER]}),
        SESSION,
        run("count"),
        Ask("POST", SESSIONS, {"events": [{**EVENT, "actions": {"stateDelta": {"x": 1}}}]}),
        Ask("POST", SESSIONS, {"events": [{**EVENT, "longRunningToolIds": ["x"]}]}),
        Ask("POST", SESSIONS, {"events": [{"content": 5}]}),
    ],
    "run": [
        CREATE,
        run("hello"),
        run("tool a,b"),
        run("hello", stateDelta={"mood": "better", "user:name": "Bob", "temp:x": 1}),
        run("instruction"),
        run("hello", customMetadata={"a": {"bC": None}}),
        SESSION,
    ],
    "without a message": [
        CREATE,
        run("hello"),
        run(None),
        run(None, stateDelta={"mood": "better"}),
        run(None, path="/run_sse", streaming=True),
        SESSION,
    ],
    "run_sse": [
        CREATE,
        sse("hello", streaming=False),
        sse("tool a,b"),
        sse("stream once upon a time"),
        sse("stream once upon a time", streaming=False),
        SESSION,
    ],
    "errors": [
        run("hello", "nope"),
        sse("hello", "nope"),
        run("hello", appName="nope"),
        sse("hello", appName="nope"),
        run("hello", appName=None),
        run("hello", sessionId=None),
        run("hello", newMessage={"parts": [{"nonsense": 1}]}),
        Ask("POST", "/run", "text"),
        Ask("GET", "/nowhere"),
        CREATE,
        sse("error"),
        run("error"),
        sse("call unknown {}"),
        sse("hello", serviceTier="deferred"),
    ],
    "artifacts": [
        CREATE,
        Ask("GET", ARTIFACTS),
        Ask("POST", ARTIFACTS, {"filename": "a.txt", "artifact": {"text": "one"}}),
        Ask("POST", ARTIFACTS, {"filename": "a.txt", "artifact": {"text": "two"}, "customMetadata": {"k": 1}}),
        Ask("GET", ARTIFACTS),
        Ask("GET", f"{ARTIFACTS}/a.txt"),
        Ask("GET", f"{ARTIFACTS}/a.txt/versions"),
        Ask("GET", f"{ARTIFACTS}/a.txt/versions/0"),
        Ask("GET", f"{ARTIFACTS}/a.txt/versions/1/metadata"),
        Ask("GET", f"{ARTIFACTS}/a.txt/versions/7"),
        Ask("DELETE", f"{ARTIFACTS}/a.txt"),
        Ask("GET", f"{ARTIFACTS}/a.txt"),
    ],
    "memory": [
        CREATE,
        run("hello"),
        Ask("PATCH", f"{USER}/memory", {"sessionId": "s"}),
        Ask("PATCH", f"{USER}/memory", {"sessionId": "nope"}),
        Ask("PATCH", f"{USER}/memory", {}),
    ],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_the_same_requests_get_the_same_answers(
    gateway: httpx.AsyncClient, adk: httpx.AsyncClient, name: str
) -> None:
    user = unique("user")
    ours, theirs = Normalizer(), Normalizer()
    for ask in CONVERSATIONS[name]:
        assert ours.normalized(await answer(gateway, ask, user)) == theirs.normalized(await answer(adk, ask, user)), ask


async def answer(client: httpx.AsyncClient, ask: Ask, user: str) -> list[Any]:
    """Status and body."""
    body = json.loads(json.dumps(ask.body).replace("{user}", user))
    request = client.build_request(ask.method, ask.path.format(user=user), json=body)
    if ask.body is None:
        request = client.build_request(ask.method, ask.path.format(user=user))
    try:
        response = await client.send(request)
    except httpx.RemoteProtocolError:
        return [0, "broken off"]
    return [response.status_code, content(response)]


def content(response: httpx.Response) -> Any:
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return screen(response.text).all
    try:
        return response.json()
    except ValueError:
        return response.text


_ID = re.compile(r"(e-|p-|adk-)?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIMES = {"timestamp", "lastUpdateTime", "createTime", "eventTime"}


class Normalizer:
    """Numbers the ids of a conversation by their first appearance, and removes times."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def normalized(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "time" if key in _TIMES else self.normalized(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.normalized(item) for item in value]
        return _ID.sub(self._number, value) if isinstance(value, str) else value

    def _number(self, found: re.Match[str]) -> str:
        return self._seen.setdefault(found[0], f"{found[1] or ''}#{len(self._seen)}")
