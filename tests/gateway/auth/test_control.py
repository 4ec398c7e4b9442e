"""Access control, in front of ADK's own server."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from google.adk.artifacts.in_memory_artifact_service import InMemoryArtifactService
from google.adk.cli.fast_api import get_fast_api_app
from google.adk.memory.in_memory_memory_service import InMemoryMemoryService
from starlette.applications import Starlette
from starlette.routing import Route
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from adk_chat.gateway.server import GatewayConfig, gateway_app
from adk_chat.settings import Settings
from tests.gateway.auth.bearer import SECRET, bearer, echo, guarded, settings, token
from tests.gateway.guard import requests, turn_id, unguarded
from tests.http_server import served
from tests.support import scripted_app


@pytest.fixture(scope="module")
def adk(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    agent = tmp_path_factory.mktemp("agents") / "x"
    agent.mkdir()
    (agent / "agent.py").write_text(
        "from google.adk.agents.llm_agent import LlmAgent\nroot_agent = LlmAgent(name='x', model='gemini-2.5-flash')\n"
    )
    return get_fast_api_app(
        agents_dir=str(agent.parent),
        web=True,
        use_local_storage=False,
        session_service_uri="memory://",
        artifact_service_uri="memory://",
    )


@pytest.fixture(scope="module")
def ours() -> FastAPI:
    """The gateway's own app, with nothing behind it."""
    app = scripted_app("x")
    return gateway_app(
        GatewayConfig(
            apps={"x": app},
            ingress_url="http://127.0.0.1:1",
            admin_url="http://127.0.0.1:1",
            artifact_service=InMemoryArtifactService(),
            memory_service=InMemoryMemoryService(),
        )
    )


@pytest_asyncio.fixture(scope="module")
async def gateway(adk: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    app = guarded(adk, settings(auth_key=SECRET))
    async with served(app) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


@pytest_asyncio.fixture(scope="module")
async def anything() -> AsyncIterator[httpx.AsyncClient]:
    """An app that would answer everything."""
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST", "OPTIONS"])])
    protected = guarded(app, settings(auth_key=SECRET))
    async with served(protected) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


async def ask(client: httpx.AsyncClient, method: str, target: str, **values: Any) -> httpx.Response:
    """A request whose target is sent unchanged."""
    return await client.request(method, "/", extensions={"target": target.encode()}, **values)


@pytest.mark.parametrize("server", ["adk", "ours"])
async def test_every_route_refuses_another_user_and_who_has_no_token(
    server: str, request: pytest.FixtureRequest
) -> None:
    app = request.getfixturevalue(server)
    asked = [(method, path, body and body.get("userId")) for method, path, body in requests(app, "bob")]
    assert ("PATCH", "/apps/x/users/bob/sessions/x", None) in asked
    assert {("POST", "/run", "bob"), ("POST", "/run_sse", "bob")} < set(asked)
    assert server == "adk" or ("GET", f"/turns/{turn_id('bob')}/events", None) in asked
    assert server == "adk" or ("GET", "/agui/x/threads/x?user_id=bob", None) in asked
    assert not any(method == "OPTIONS" for method, _, _ in asked)
    guard = guarded(app, settings(auth_key=SECRET))
    async with served(guard) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        assert await unguarded(client, app, "bob", **bearer("alice")) == []
        assert await unguarded(client, app, "bob") == []


async def test_a_user_reaches_what_is_theirs(gateway: httpx.AsyncClient) -> None:
    alice = bearer("alice")
    sessions = "/apps/x/users/alice/sessions"
    created = (await gateway.post(sessions, headers=alice, json={"state": {"a": 1}})).raise_for_status().json()
    assert (await gateway.get(f"{sessions}/{created['id']}", headers=alice)).json()["state"] == {"a": 1}
    assert (await gateway.get("/list-apps", headers=alice)).json() == ["x"]
    assert (await gateway.get("/health")).is_success
    unknown = {"appName": "x", "userId": "alice", "sessionId": "unknown", "newMessage": {"parts": [{"text": "hi"}]}}
    assert (await gateway.post("/run", headers=alice, json=unknown)).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Basic {token('alice')}"},
        {"authorization": "Bearer not.a.token"},
        {"authorization": "Bearer \u00e4"},
        bearer("alice", exp=time.time() - 60),
        bearer("alice", exp=None),
        bearer("alice", nbf=time.time() + 60),
        bearer("alice", aud="other"),
        bearer("alice", aud=None),
        bearer(""),
        bearer("x", sub=None),
        bearer("x", sub=5),
        bearer("alice", "another secret that is long enough too"),
        bearer("alice", None, "none"),
        {"authorization": f"Bearer {token('alice').rsplit('.', 1)[0]}."},
    ],
)
async def test_tokens_that_are_no_good(gateway: httpx.AsyncClient, headers: dict[str, str]) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await gateway.get("/apps/x/users/alice/sessions", headers=encoded)  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["detail"].endswith(".")


async def test_two_tokens_are_none(gateway: httpx.AsyncClient) -> None:
    both = [("authorization", f"Bearer {token(user)}") for user in ("alice", "bob")]
    assert (await gateway.get("/apps/x/users/alice/sessions", headers=both)).status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        "/apps/x/users/bob/sessions",
        "/apps/x/users/%62ob/sessions",
        "/apps/x/users/%2562ob/sessions",
        "/apps/x/users/Alice/sessions",
        "/apps/x/users/alice%20/sessions",
        "/apps/x/users/alice%00/sessions",
        "//apps/x/users/alice/sessions",
        "/apps//x/users/alice/sessions",
        "/apps/x/users//alice/sessions",
        "/apps/x/users/alice/../bob/sessions",
        "/apps/x/users/alice/%2e%2e/bob/sessions",
        "/apps/x/users/alice/sessions/s/artifacts/..%2f..%2fbob",
        "/apps/x/users/alice/sessions/..%5c..%5cbob",
        "/apps/%2e%2e/users/alice/sessions",
        "/APPS/x/users/alice/sessions",
        "/Apps/x/users/bob/sessions",
        "/users/alice/sessions",
        "/apps/x/users/alice/sessions?user_id=bob",
        "/apps/x/users/alice/sessions?userId=alice&userId=bob",
        "/dev-ui/../apps/x/users/bob/sessions",
        "/dev-ui/%2e%2e/apps/x/users/bob/sessions",
        "/dev-ui//x",
        "/list-apps/",
        "/LIST-APPS",
        f"/turns/{turn_id('bob')}/events",
        f"/turns/{turn_id('alice')}=/events",
        f"/turns/{turn_id('alice')}%0a/events",
        "/turns/x/events",
        "/turns/inv_1x./events",
        "/dev/apps/x/debug/trace/session/x",
        "/dev/apps/x/users/bob/sessions/s/events/e/graph",
        "/docs",
    ],
)
async def test_paths_of_others_and_paths_that_can_be_read_in_two_ways(anything: httpx.AsyncClient, target: str) -> None:
    for method in ("GET", "POST", "HEAD", "OPTIONS", "DELETE"):
        assert (await ask(anything, method, target, headers=bearer("alice"))).status_code == 403, method


@pytest.mark.parametrize(
    "target",
    [
        "/apps/x/users/alice/sessions",
        "/apps/x/users/%61lice/sessions",
        "/apps/x/users/alice/sessions/s/artifacts/a/b.txt/versions/0",
        f"/turns/{turn_id('alice')}/events?after=5",
        "/apps/x/users/alice/sessions?user_id=alice",
    ],
)
async def test_paths_of_ones_own(anything: httpx.AsyncClient, target: str) -> None:
    assert (await ask(anything, "GET", target, headers=bearer("alice"))).is_success


async def test_a_user_id_is_any_text(anything: httpx.AsyncClient) -> None:
    user = "https://issuer.example/ä b|5"
    target = f"/turns/{turn_id(user)}/events"
    assert (await ask(anything, "GET", target, headers=bearer(user))).is_success
    assert (await ask(anything, "GET", target, headers=bearer(user + "0"))).status_code == 403
    body = {"userId": user}
    assert (await anything.post("/run", json=body, headers=bearer(user))).is_success


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"userId": "alice"}', 200),
        (b'{"user_id": "alice"}', 200),
        (b'{"user_id": "alice", "userId": "alice"}', 200),
        (b'{"userId": "bob"}', 403),
        (b'{"user_id": "bob"}', 403),
        (b'{"user_id": "alice", "userId": "bob"}', 403),
        (b'{"userId": "alice", "user_id": "bob"}', 403),
        (b'{"userId": "bob", "user\\u0049d": "alice"}', 400),
        (b'{"userId": "alice", "userId": "alice"}', 400),
        (b'{"USERID": "alice"}', 403),
        (b'{"userId": ["alice"]}', 403),
        (b'{"userId": null, "user_id": "alice"}', 403),
        (b'[{"userId": "alice"}]', 403),
        ('{"userId": "bob"}'.encode("utf-16"), 403),
        (b"userId=alice", 403),
        (b"{", 403),
        (b"[" * 100_000, 403),
        (b"", 403),
    ],
)
@pytest.mark.parametrize("path", ["/run", "/run_sse"])
async def test_bodies(anything: httpx.AsyncClient, path: str, body: bytes, status: int) -> None:
    for kind in ("application/json", "text/plain"):
        headers = {**bearer("alice"), "content-type": kind}
        assert (await anything.post(path, content=body, headers=headers)).status_code == status


async def test_a_body_may_not_name_another_user_than_the_path(anything: httpx.AsyncClient) -> None:
    sessions = "/apps/x/users/alice/sessions"
    assert (await anything.post(sessions, json={"userId": "bob"}, headers=bearer("alice"))).status_code == 403
    large = b'{"a": "' + b"x" * 5_000_000 + b'"}'
    answer = await anything.post(sessions, content=large, headers=bearer("alice"))
    assert answer.json() == {"path": sessions, "bytes": len(large)}


async def test_websockets_are_refused_and_preflights_are_not(
    gateway: httpx.AsyncClient, anything: httpx.AsyncClient
) -> None:
    url = str(gateway.base_url).rstrip("/").replace("http", "ws") + "/run_live?app_name=x&user_id=alice&session_id=s"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, additional_headers=bearer("alice"))
    assert refused.value.response.status_code == 403
    preflight = {"origin": "https://chat.example", "access-control-request-method": "POST"}
    assert (await anything.options("/run", headers=preflight)).is_success
    assert (await anything.options("/run")).status_code == 401


def test_without_settings_there_is_nothing_in_between(tmp_path: Path) -> None:
    app = Starlette()
    assert guarded(app, Settings()) is app
