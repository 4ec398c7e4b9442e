"""The stored layout, over a K/V in memory; and older data, on a real server."""

import json
import random
from typing import Any

import httpx
import pytest
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event

from adk_chat.dev.server import RestateServer
from adk_chat.protocol.sessions import AppendEvents
from adk_chat.protocol.turns import TurnEvents
from adk_chat.sessions.index import NEWEST_ROWS, ROWS, SessionIndex, position
from adk_chat.sessions.layout import KEPT_BYTES, NEWEST_BYTES, RUN_BYTES, SessionRecord
from adk_chat.sessions.store import SessionStore
from tests.conftest import stored
from tests.support import ChatClient, Json, until


class Memory:
    """A K/V in memory that counts the bytes written and the values read."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.written = self.read = 0

    async def get(self, *names: str) -> list[Any]:
        self.read += len(names)
        return [json.loads(self.values[name]) if name in self.values else None for name in names]

    async def keys(self) -> list[str]:
        return list(self.values)

    async def prefetch(self, *names: str, keys: bool = False) -> None: ...

    def set(self, name: str, value: object) -> None:
        self.values[name] = json.dumps(value)
        self.written += len(self.values[name])

    def clear(self, name: str) -> None:
        self.values.pop(name, None)

    def write(self) -> None: ...


def store(kv: Memory, app: str = "app") -> SessionStore:
    return SessionStore(kv, "user", app, "app")


def event(number: int, size: int = 300) -> Json:
    return {"id": str(number), "author": "user", "timestamp": float(number), "customMetadata": {"x": "x" * size}}


async def create(kv: Memory, session_id: str, app: str = "app") -> None:
    await store(kv, app).commit(await store(kv, app).create(session_id, {}, 0.0))


async def append(kv: Memory, session_id: str, batch: int, *events: Json) -> None:
    await store(kv).commit(
        await store(kv).append_turn(TurnEvents(session_id=session_id, events=list(events), batch=batch))
    )


async def record_of(kv: Memory, session_id: str) -> SessionRecord:
    record = await store(kv).read(session_id)
    assert record is not None
    return record


async def read(kv: Memory, session_id: str, **part: Any) -> list[int]:
    record = await record_of(kv, session_id)
    return [int(found["id"]) for found in await store(kv).events(record, **part)]


async def test_a_turn_writes_what_is_new_and_the_newest_run() -> None:
    kv = Memory()
    await create(kv, "s")
    most = 0
    sealed: dict[str, str] = {}
    for number in range(400):
        kv.written = 0
        await append(kv, "s", number + 1, event(number))
        most = max(most, kv.written)
        assert all(kv.values[key] == value for key, value in sealed.items()), "a sealed run was rewritten"
        sealed = {key: value for key, value in kv.values.items() if key.startswith("session_events::")}
    assert most < NEWEST_BYTES + KEPT_BYTES + 2000
    assert len(sealed) > 3
    assert await read(kv, "s") == list(range(400))


async def test_any_part_of_a_long_session_can_be_read() -> None:
    kv = Memory()
    await create(kv, "s")
    for number in range(300):
        await append(kv, "s", number + 1, event(number))
    assert await read(kv, "s", last=1) == [299]
    assert await read(kv, "s", last=150) == list(range(150, 300))
    assert await read(kv, "s", last=1000) == list(range(300))
    assert await read(kv, "s", after=37.0) == list(range(37, 300))
    assert await read(kv, "s", last=10, after=295.0) == list(range(295, 300))
    assert await read(kv, "s", last=0) == []


async def test_one_large_event_is_not_written_again_and_again() -> None:
    kv = Memory()
    await create(kv, "s")
    await append(kv, "s", 1, event(0, 200_000))
    kv.written = 0
    await append(kv, "s", 2, event(1))
    assert kv.written < 3000
    assert await read(kv, "s") == [0, 1]


async def test_what_is_imported_is_sealed_in_runs_of_bounded_size() -> None:
    kv = Memory()
    events = [Event.model_validate(event(number, 1000)) for number in range(2000)]
    await store(kv).commit(await store(kv).create("s", {}, 0.0, events))
    assert max(map(len, kv.values.values())) < 1.1 * RUN_BYTES
    assert await read(kv, "s") == list(range(2000))
    kv.read = 0
    assert await read(kv, "s", last=10) == list(range(1990, 2000))
    assert kv.read == 2, "the record and one run"
    await append(kv, "s", 1, event(2000))
    assert await read(kv, "s", last=3) == [1998, 1999, 2000]


async def test_a_batch_that_comes_twice_is_stored_once() -> None:
    kv = Memory()
    await create(kv, "s")
    for batch in (1, 2, 2, 1):
        await append(kv, "s", batch, event(batch))
    assert await read(kv, "s") == [1, 2]


async def test_a_batch_of_another_turn_is_refused_and_not_taken_for_a_repeat() -> None:
    kv = Memory()
    await create(kv, "s")

    async def store_batch(turn: str, number: int) -> None:
        batch = TurnEvents(session_id="s", events=[event(number)], batch=1, turn=turn)
        await store(kv).commit(await store(kv).append_turn(batch))

    await store_batch("first", 1)
    await store_batch("first", 1)
    with pytest.raises(SessionNotFoundError):
        await store_batch("second", 2)
    assert await read(kv, "s") == [1]


def listed(kv: Memory) -> SessionIndex:
    return SessionIndex(kv, "app")


async def test_the_newest_sessions_are_found_on_few_pages_and_a_turn_writes_few() -> None:
    kv, count = Memory(), 10 * ROWS
    for number in range(count):
        await store(kv).commit(await store(kv).create(f"s{number}", {}, float(number)))
    chance = random.Random(7)
    times = {f"s{number}": float(number) for number in range(count)}
    for number, session in enumerate(chance.choices(sorted(times), k=300)):
        kv.written = 0
        await append(kv, session, (await record_of(kv, session)).batches + 1, event(count + number))
        times[session] = float(count + number)
        assert kv.written < 100 * (2 * ROWS + NEWEST_ROWS) + 3000, "two pages were written, not the list"
    for session in chance.sample(sorted(times), 100):
        assert await store(kv).delete(session)
        del times[session]
    by_time = sorted(times, key=times.__getitem__)
    assert [row.id for row in await listed(kv).all(lambda _: True)] == by_time
    kv.read = 0
    newest = await listed(kv).newest(lambda _: True, 50)
    assert [row.id for row in newest] == by_time[:-51:-1]
    assert kv.read <= 5, "the newest pages were read, not the list"
    older = await listed(kv).newest(lambda _: True, 50, position(newest[-1]))
    assert [row.id for row in older] == by_time[-51:-101:-1]


async def test_an_index_of_before_is_read_and_taken_over() -> None:
    kv = Memory()
    ids = [f"s{number}" for number in range(40)]
    for number, session in enumerate(ids):
        old = {"id": session, "appName": "app", "userId": "user", "createTime": 0.0, "lastUpdateTime": float(number)}
        kv.set(f"session_store::{session}", {**old, "indexPage": number // 32, "events": []})
    rows = [{"id": session, "appName": "app", "lastUpdateTime": float(number)} for number, session in enumerate(ids)]
    kv.set("session_index::0", rows[:32])
    kv.set("session_index::1", rows[32:])
    kv.set("session_index", {"pages": 2, "free": [1]})
    kv.set("user_state", {"name": "Ada"})
    for batch in (1, 2):
        assert [row.id for row in await listed(kv).all(lambda _: True)] == ids
        assert [row.id for row in await listed(kv).newest(lambda _: True, 3)] == ids[:-4:-1]
        await append(kv, "s0", batch, event(100 + batch))
        ids = [*(session for session in ids if session != "s0"), "s0"]
    assert await store(kv).user_state() == {"name": "Ada"}
    assert json.loads(kv.values["session_index"])["shared"] == ["user_state"]
    for session in ids:
        assert await store(kv).delete(session)
    assert sorted(kv.values) == ["session_deletions", "session_index", "user_state"]


async def test_a_deleted_session_leaves_nothing() -> None:
    kv = Memory()
    await create(kv, "s")
    for number in range(200):
        await append(kv, "s", number + 1, event(number))
    await store(kv).delete("s")
    assert sorted(kv.values) == ["session_deletions", "session_index"]
    assert '"s"' not in "".join(kv.values.values())


async def test_the_last_deletions_are_known_by_session_and_older_ones_are_taken_for_any() -> None:
    kv = Memory()

    async def may_create(session_id: str, deletions: int) -> bool:
        return await store(kv).belongs(None, session_id, None, deletions)

    for number in range(300):
        await store(kv).delete(f"s{number}")
    assert [await may_create(session, 299) for session in ("s298", "s299", "other")] == [True, False, True]
    assert [await may_create(session, 44) for session in ("s44", "s43", "other")] == [False, True, True]
    assert not await may_create("other", 43), "the session may be among those that are not known any more"
    assert len(kv.values["session_deletions"]) < 10_000


async def test_no_id_reaches_into_another_session() -> None:
    kv = Memory()
    for app, session_id in (("app", "a"), ("app", "b::a"), ("b", "a"), ("app", "a::0"), ("b%3A", "a")):
        await create(kv, session_id, app)
    keys = [key for key in kv.values if key.startswith("session_store::")]
    assert len(keys) == 5


async def test_events_with_the_same_id_are_told_apart_in_old_runs_too() -> None:
    kv = Memory()
    await create(kv, "s")
    for number in range(200):
        await append(kv, "s", number + 1, event(number))
    record = await store(kv).read("s")
    assert record is not None
    (old,) = [Event.model_validate(found) for found in await store(kv).events(record) if found["id"] == "0"]
    write = await store(kv).append(AppendEvents(session_id="s", events=[old], revision=record.revision))
    assert write.events == 0
    kv.read = 0
    new = Event.model_validate(event(200))
    write = await store(kv).append(AppendEvents(session_id="s", events=[new], revision=record.revision))
    assert (write.events, kv.read) == (1, 1), "what is new is known by its time"
    # An earlier version did not note the time; it is noted at the next append.
    old_record = json.loads(kv.values["session_store::s"])
    del old_record["sealedUntil"]
    kv.set("session_store::s", old_record)
    for number, most in ((201, 100), (202, 5)):
        kv.read = 0
        new = Event.model_validate(event(number))
        await store(kv).commit(await store(kv).append(AppendEvents(session_id="s", events=[new])))
        assert kv.read <= most, number


OLD: Json = {
    "id": "old::one",
    "app_name": "agents",
    "user_id": "somebody",
    "state": {"kept": 1, "user:name": "Ada"},
    "events": [
        {"id": "e1", "author": "user", "timestamp": 5.0, "content": {"parts": [{"text": "hi"}], "role": "user"}},
        {"id": "e2", "author": "agent", "timestamp": 6.0, "content": {"parts": [{"text": "ho"}], "role": "model"}},
    ],
    "last_update_time": 0.0,
}


async def test_what_restate_ext_adk_has_stored_is_read_and_goes_on(chat: ChatClient, server: RestateServer) -> None:
    plain = {**OLD, "id": "old"}
    state = {"session_store::old": plain, "session_store::other": {**OLD, "id": "other"}}
    async with httpx.AsyncClient() as admin:
        body = {
            "object_key": chat.user,
            "new_state": {key: list(json.dumps(value).encode()) for key, value in state.items()},
        }
        (await admin.post(f"{server.admin_url}/services/Chat/state", json=body)).raise_for_status()
    await until(lambda: stored(server, chat.user))
    assert await chat.texts("old") == ["hi", "ho"]
    session = await chat.call("get_session", {"session_id": "old"})
    assert (session["state"], session["lastUpdateTime"]) == ({"kept": 1, "user:name": "Ada"}, 6.0)
    listed = await chat.call("list_sessions")
    assert {s["id"] for s in listed["sessions"]} == {"old", "other"}
    assert await stored(server, chat.user) == state, "reading changes nothing"

    assert await chat.message("old", "count") == "3"
    kept = await stored(server, chat.user)
    assert kept["session_store::old"]["eventCount"] == 4
    assert (kept["session_store::old"]["state"], kept["user_state"]) == ({"kept": 1}, {"name": "Ada"})
    assert kept["session_store::other"] == state["session_store::other"]
    assert {s["id"] for s in (await chat.call("list_sessions"))["sessions"]} == {"old", "other"}
    await chat.call("delete_session", {"session_id": "other"})
    assert [s["id"] for s in (await chat.call("list_sessions"))["sessions"]] == ["old"]


@pytest.mark.parametrize("text", ["with space", "ünïcode/slash?&#", "a::b%"])
async def test_any_id_works_from_end_to_end(chat: ChatClient, text: str) -> None:
    user = ChatClient(chat.http, "%20".join((chat.user, "x")), chat.app)
    assert await user.message(text, "hello") == "echo hello"
    assert await user.texts(text) == ["hello", "echo hello"]
    assert await user.message(text, "count") == "3"
