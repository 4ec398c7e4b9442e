"""One log line per request."""

import asyncio
import logging
from typing import Any

import httpx
import pytest

from adk_chat.dev.server import RestateServer
from adk_chat.gateway.access_log import AccessLog
from adk_chat.gateway.server import gateway_app
from adk_chat.gateway.streams.run_request import TURN_ID
from tests.conftest import plain
from tests.gateway.auth.bearer import SECRET, bearer, guarded, settings
from tests.gateway.conftest import gateway_config, served
from tests.support import gates, unique, until


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The records of the access log."""
    records: list[Any] = []
    logger = logging.getLogger("adk_chat.access")
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(logger, "handle", records.append)
    return records


@plain
async def test_a_request_is_a_line_without_its_query(server: RestateServer, logged: list[Any]) -> None:
    user = unique("user")
    sessions = f"/apps/scripted/users/{user}/sessions"
    body = {"appName": "scripted", "userId": user, "sessionId": "s", "newMessage": {"parts": [{"text": "hello"}]}}
    async with served(AccessLog(gateway_app(gateway_config(server)))) as client:
        await client.post(sessions, json={"sessionId": "s"})
        turn = (await client.post("/run_sse", json=body)).headers[TURN_ID]
        await client.get(f"/turns/{turn}/events?after=end&ticket=secret")
        await client.get("/no%0Asuch/path?token=secret")
        await client.get("/ready")
    assert [record.fields["ms"] > 0 for record in logged] == [True] * 4
    assert [record.getMessage().split(" ms")[0].rpartition(" ")[0] for record in logged] == [
        "POST /apps/{app_name}/users/{user_id}/sessions 200",
        "POST /run_sse 200",
        "GET /turns/{turn_id}/events 204",
        "GET /no?such/path 404",
    ]
    assert [record.fields["user"] for record in logged] == [user, user, None, None]
    assert [record.fields["turn_id"] for record in logged] == [None, turn, turn, None]
    assert "secret" not in str([record.__dict__ for record in logged])


@plain
async def test_what_is_refused_and_who_leaves_have_a_line_too(server: RestateServer, logged: list[Any]) -> None:
    user = unique("user")
    app = guarded(gateway_app(gateway_config(server)), settings(auth_key=SECRET))
    async with served(AccessLog(app)) as client:
        sessions = f"/apps/scripted/users/{user}/sessions"
        assert (await client.get(sessions)).status_code == 401
        await client.post(sessions, json={"sessionId": "s"}, headers=bearer(user))
        gates[user] = asyncio.Event()
        body = {"appName": "scripted", "userId": user, "sessionId": "s", "streaming": True}
        body["newMessage"] = {"parts": [{"text": f"wait {user}"}]}
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/run_sse", json=body, headers=bearer(user), timeout=0.5)

        async def left() -> bool:
            return len(logged) == 3

        await until(left)
        gates[user].set()
    assert [(record.fields["status"], record.fields["user"]) for record in logged] == [
        (401, None),
        (200, user),
        (200, user),
    ]
    assert logged[2].getMessage().endswith(" (broke off)")
