"""Names that are stored, pinned. Change one only together with code that still reads the old name."""

from typing import Any

import pytest
from google.genai import types

from adk_chat.dev.server import RestateServer
from adk_chat.gateway.turns import Turns
from adk_chat.protocol import stream
from adk_chat.protocol.frontend import FRONTEND, Frontend, Origin, origin_of
from adk_chat.protocol.messages import Message
from adk_chat.protocol.turn_id import TurnId, TurnKey
from adk_chat.protocol.turns import Reply, TurnEvents, TurnRequest
from adk_chat.sessions import layout
from adk_chat.turns.state import TurnState
from tests.conftest import plain, query, stored
from tests.support import ChatClient

MOVED = "a turn that runs while the service is upgraded repeats its steps: tools run twice, models are paid twice"
LOST = "sessions that users have are not found any more"
UNREADABLE = "a message that waits while the service is upgraded is lost, or runs otherwise"
TWICE = "a frontend's message that was stored before an upgrade is stored again after it"
UNSEEN = "an old gateway does not show what a new endpoint publishes, nor the other way around"


@plain
async def test_steps(chat: ChatClient, server: RestateServer) -> None:
    await chat.message("s", "tool milk")
    rows = await query(
        server,
        "SELECT name FROM sys_journal JOIN sys_invocation ON sys_journal.id = sys_invocation.id "
        f"WHERE target_service_key = '{chat.user}/scripted/s' AND entry_type = 'Command: Run' ORDER BY index",
    )
    began, model, *more = [row["name"] for row in rows]
    assert (began, model) == ("adk_chat began", "model scripted (scripted) [3df1f3 37ee40]"), MOVED
    strands = [name[:-8] for name in more]  # what follows depends on the random id of the call
    assert strands == ["tool note [fba78b", "model scripted (scripted) [04d23f"], MOVED


@plain
async def test_keys_of_a_user(chat: ChatClient, server: RestateServer) -> None:
    await chat.message("a:b", "tool milk")
    await chat.call("create_session", {"session_id": "c", "app_name": "second", "state": {"user:name": "Ada"}})
    await chat.call("delete_session", {"session_id": "none"})
    found = await stored(server, chat.user)
    assert sorted(found) == [
        "session_deletions",
        "session_index",
        "session_store::a%3Ab",
        "session_store::second::c",
        "user_state::second",
    ], LOST
    assert sorted(found["session_store::a%3Ab"]) == [
        "appName",
        "batches",
        "createTime",
        "eventCount",
        "events",
        "id",
        "indexed",
        "lastUpdateTime",
        "mark",
        "revision",
        "sealedBytes",
        "sealedRuns",
        "state",
        "turn",
        "userId",
    ], LOST
    rows = await query(server, f"SELECT key FROM state WHERE service_key = '{chat.user}/scripted/a%3Ab'")
    assert [row["key"] for row in rows] == ["turn"], LOST


def test_other_keys() -> None:
    keys = layout.Keys("second", "first")
    assert [keys.run("s", 3), keys.app_state_version] == [
        "session_events::second::s::3",
        "app_state_version::second",
    ], LOST


def test_what_turn_keeps() -> None:
    assert list(TurnState.model_fields) == ["running", "unsettled", "batches", "created", "deletions"], UNREADABLE


@pytest.mark.parametrize(
    ("entry", "data"),
    [
        (stream.Start(attempt="a"), b'{"type":"start","attempt":"a"}'),
        (
            stream.Partial(attempt="a", after=2, event={"id": "e"}),
            b'{"type":"partial","attempt":"a","after":2,"event":{"id":"e"}}',
        ),
        (stream.Complete(number=3, event={"id": "e"}), b'{"type":"event","number":3,"event":{"id":"e"}}'),
        (
            stream.End(number=4, error=stream.Failure(type="ValueError", message="no", code=500)),
            b'{"type":"end","number":4,"error":{"type":"ValueError","message":"no","code":500}}',
        ),
    ],
)
def test_entries_of_streams(entry: stream.AnyEntry, data: bytes) -> None:
    assert (stream.dump(entry), stream.parse(data)) == (data, entry), UNSEEN


async def test_fingerprints_of_messages() -> None:
    asked: list[tuple[str | None, str | None]] = []

    class Chat:
        async def call(self, handler: str, user_id: str, request: Message, idempotency_key: str) -> object:
            asked.append((request.fingerprint, idempotency_key))
            return {"turn_id": "inv_1.dS9hcHAvcw", "fingerprint": request.fingerprint}

    message = Message(
        app_name="app",
        session_id="s",
        parts=[types.Part(text="hello"), types.Part.from_function_response(name="f", response={"n": 1.5})],
        state_delta={"a": 1},
        run_config={"max_llm_calls": 3, "streaming_mode": "sse"},
        create=False,
    )
    turns: Any = Turns(None, Chat(), None)  # type: ignore[arg-type]
    await turns.post(TurnKey(user_id="u", app_name="app", session_id="s"), message, "key")
    assert asked == [
        (
            "fa92f93bf3a21a4b8c0f92fd39d7ddd76e1a80acd24630084d05b5f5fbd3c005",
            "2c19177af1898149e918e495e8df814a8a3ccbcf78e22670cb822ce8246fd40f",
        )
    ], "a request that is repeated after an upgrade is refused, or runs twice"


def test_turn_ids() -> None:
    turn_id = TurnId(invocation_id="inv_1", key=TurnKey(user_id="u/1", app_name="app", session_id="s"))
    assert str(turn_id) == "inv_1.dSUyRjEvYXBwL3M", "an id that somebody has kept names no turn any more"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (
            TurnRequest,
            "content run_config invocation_id head events state_delta frontend alone roll_back publish reply_to",
        ),
        (
            TurnEvents,
            "session_id app_name events batch turn mark create created deletions index_page first_session reply "
            "confirm_to confirm",
        ),
        (Reply, "to text"),
        (Frontend, "tools context run_id messages"),
    ],
)
def test_requests_between_objects(kind: type[TurnRequest | TurnEvents | Reply | Frontend], names: str) -> None:
    assert sorted(kind.model_fields) == sorted(names.split()), UNREADABLE


def test_origins() -> None:
    noted = {"turn": "inv_1", "run_id": "r", "messages": [{"id": "m", "parts": 1}], "pending": True}
    origin = origin_of({FRONTEND: noted})
    assert FRONTEND == "adk_chat_frontend", TWICE
    assert isinstance(origin, Origin), TWICE
    assert origin.model_dump() == noted, TWICE
