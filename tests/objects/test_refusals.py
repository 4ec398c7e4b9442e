"""A refusal changes nothing, and a deletion leaves nothing."""

import asyncio
import random
from typing import Any

import httpx

from adk_chat.dev.server import RestateServer
from adk_chat.sessions import RestateSessionService
from tests.conftest import plain, query
from tests.support import ChatClient, Json, gates, unique, until

_SIZES = (10, 3_000_000, 5_000_000)


async def everything(server: RestateServer, *keys: str) -> list[Json]:
    """Everything stored under these keys, of any object, byte for byte."""
    wanted = " OR ".join(f"service_key LIKE '%{key}%'" for key in keys)
    rows = await query(server, f"SELECT service_name, service_key, key, value_utf8 FROM state WHERE {wanted}")
    return sorted(rows, key=str)


class Writer:
    """Writes what may be refused to the sessions of a user, in an app that nobody else uses."""

    def __init__(self, chat: ChatClient, seed: int) -> None:
        self.chat = chat
        self.app = unique("app")
        self._random = random.Random(seed)
        self._clock = 0

    def _state(self) -> Json:
        scopes = self._random.sample(["", "user:", "app:"], self._random.randint(1, 2))
        return {f"{scope}{self._random.choice('ab')}": "x" * self._random.choice(_SIZES) for scope in scopes}

    async def write(self) -> httpx.Response:
        """Some request."""
        self._clock += 1
        session: dict[str, Any] = {"app_name": self.app, "session_id": self._random.choice("12")}
        match self._random.randrange(4):
            case 0:
                return await self.chat.send("create_session", {**session, "state": self._state(), "any_app": True})
            case 1:
                return await self.chat.send("delete_session", session)
            case _:
                event: Json = {"id": unique(), "timestamp": self._clock, "author": "user"}
                event["actions"] = {"stateDelta": self._state()}
                revision = {"revision": 0} if self._random.random() < 0.2 else {}
                return await self.chat.send("append_events", {**session, "events": [event], **revision})


@plain
async def test_whatever_is_refused_has_written_nothing(chat: ChatClient, server: RestateServer) -> None:
    writer = Writer(chat, 1)
    refused = 0
    large_state = {"x": "x" * 5 * 1024 * 1024}
    large = await chat.send("create_session", {"app_name": writer.app, "any_app": True, "state": large_state})
    assert large.status_code == 413
    before = await everything(server, chat.user, writer.app)
    for _ in range(16):
        response = await writer.write()
        after = await everything(server, chat.user, writer.app)
        if not response.is_success:
            assert response.status_code in (404, 409, 412, 413), response.text
            assert after == before
            refused += 1
        before = after
    assert refused > 5
    # One that is refused last, where the `app:` state is stored, when everything else is ready to be written.
    too_large = {"a": "fits", "user:a": "fits", "app:a": "x" * 5_000_000}
    for session in (
        "new",
        *(s["id"] for s in (await chat.call("list_sessions", {"app_name": writer.app}))["sessions"]),
    ):
        event = {"id": unique(), "timestamp": 1e9, "author": "user", "actions": {"stateDelta": too_large}}
        made = {"state": too_large, "any_app": True} if session == "new" else {"events": [event]}
        handler = "create_session" if session == "new" else "append_events"
        refused_last = await chat.send(handler, {"app_name": writer.app, "session_id": session, **made})
        assert (refused_last.status_code, "The app: state" in refused_last.text) == (413, True), refused_last.text
        assert await everything(server, chat.user, writer.app) == before
    # What is left can be read and written.
    assert (await chat.call("list_sessions", {"app_name": writer.app})).keys() == {"sessions"}
    await chat.call("create_session", {"app_name": writer.app, "session_id": "3", "any_app": True})


@plain
async def test_damaged_data_is_an_answer_and_keeps_nobody_waiting(chat: ChatClient, server: RestateServer) -> None:
    await chat.message("s", "hello")
    async with httpx.AsyncClient() as http:
        state = {"session_store::s": list(b'{"id": "s"}')}
        body = {"object_key": chat.user, "new_state": state}
        answer = await http.post(f"{server.admin_url}/services/Chat/state", json=body)
        assert answer.is_success, answer.text

    async def damaged() -> bool:
        return (await chat.send("get_session", {"session_id": "s"})).status_code == 500

    await until(damaged)
    more: dict[str, Json] = {"message": {"message": "x"}, "append_events": {"events": []}}
    for handler, body in more.items():
        response = await chat.send(handler, {"session_id": "s", **body})
        assert (response.status_code, "its data is damaged" in response.text) == (500, True), response.text
    # Everybody else's sessions are listed.
    sessions, other = RestateSessionService(server.ingress_url, admin_url=server.admin_url), unique("user")
    await sessions.create_session(app_name="scripted", user_id=other)
    listed = {session.user_id for session in (await sessions.list_sessions(app_name="scripted")).sessions}
    assert (other in listed, chat.user in listed) == (True, False)
    # Other sessions of the user go on.
    assert await chat.message("other", "hello") == "echo hello"


@plain
async def test_a_session_that_is_created_again_is_another(chat: ChatClient, server: RestateServer) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    session = {"session_id": "s"}
    await chat.message("s", "hello")
    turn = (await chat.call("post", {"message": f"wait {gate}", **session}))["turn_id"]

    async def running() -> bool:
        return any(
            "running" in row["value_utf8"] for row in await everything(server, chat.user) if row["key"] == "turn"
        )

    await until(running)
    await chat.call("delete_session", session)
    await chat.call("create_session", session)
    gates[gate].set()
    async with httpx.AsyncClient(base_url=server.ingress_url) as http:
        ended = await http.get(f"/restate/invocation/{turn.partition('.')[0]}/attach", timeout=20)
    assert (ended.status_code, "was deleted while its turn ran" in ended.text) == (404, True), ended.text
    # Nothing of the old one is in the new one, and the new one accepts messages in every way.
    assert await chat.call("get_history", "s") == []
    assert await chat.message("s", "again", multitask_strategy="reject") == "echo again"
    assert await chat.texts("s") == ["again", "echo again"]
    await chat.call("delete_session", session)
    assert await chat.message("s", "once more", multitask_strategy="reject") == "echo once more"
    await chat.call("delete_session", session)

    async def nothing_left() -> bool:
        return {row["key"] for row in await everything(server, chat.user)} == {"session_index", "session_deletions"}

    await until(nothing_left)


@plain
async def test_a_turn_whose_state_is_too_large_is_stored_as_failed_and_the_session_goes_on(chat: ChatClient) -> None:
    large = {"a": "x" * 3_000_000, "b": "x" * 3_000_000}
    refused = await chat.send("message", {"message": "hello", "session_id": "s", "state_delta": large})
    assert (refused.status_code, "The message was refused: The state" in refused.text) == (413, True), refused.text
    await chat.message("s", "hello", state_delta={"a": large["a"]})
    body = {"message": f"tool {large['b']}", "session_id": "s"}
    failed = await chat.send("message", body)
    assert (failed.status_code, "The agent failed: TooLargeError" in failed.text) == (500, True), failed.text[:300]
    assert (await chat.call("get_history", {"session_id": "s", "limit": 1}))[0]["errorCode"] == "TooLargeError"
    assert await chat.message("s", "again") == "echo again"
