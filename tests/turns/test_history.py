"""What a turn starts from: the session as this process has cached it, and what it lacks."""

import asyncio
import gc
from typing import Any

import pytest
from google.adk.events.event import Event
from google.genai import types
from pydantic_core import to_json

from adk_chat.dev.server import RestateServer
from adk_chat.objects.app_state import AppStates
from adk_chat.protocol.events import event_json
from adk_chat.protocol.turns import LoadedSession, SessionHead, TurnRequest
from adk_chat.turns import history as turn_history
from adk_chat.turns.history import Events, Known, Pending, SessionCache
from tests.conftest import plain, query
from tests.support import ChatClient, gates, unique, until


class Loads:
    """Counts how often turns read from Chat."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        load = turn_history.load

        async def counted(*args: Any, **options: Any) -> LoadedSession:
            self.count += 1
            return await load(*args, **options)

        patch.setattr(turn_history, "load", counted)


def forget() -> None:
    """Clear this process's cache of sessions, as in a new process."""
    for found in gc.get_objects():
        if isinstance(found, SessionCache):
            found._known.clear()
            found._events = 0


async def journal_bytes(server: RestateServer, turn: str) -> int:
    """How many bytes a turn received and journaled."""
    rows = await query(server, f"SELECT entry_json FROM sys_journal WHERE id = '{turn}'")
    return sum(len(row["entry_json"]) for row in rows)


@plain
async def test_what_a_turn_sends_and_journals_does_not_grow(
    chat: ChatClient, server: RestateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AppStates, "had_none", lambda *_: True)  # a turn asks again when the cached answer is too old
    for _ in range(40):
        await chat.message("s", "hello")
    turns = await query(
        server,
        f"SELECT id FROM sys_invocation WHERE target_service_name = 'Turn' AND target_service_key LIKE '{chat.user}/%' "
        "AND target_handler_name = 'run' ORDER BY created_at",
    )
    early, late = [[await journal_bytes(server, turn["id"]) for turn in part] for part in (turns[8:11], turns[36:39])]
    assert len(turns) == 40
    assert max(late) < 1.2 * min(early)


async def test_a_process_reads_only_what_it_lacks(chat: ChatClient, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = Loads(monkeypatch)
    for number in range(3):
        assert await chat.message("s", "count") == str(2 * number + 1)
    assert loads.count == 0
    event = {"id": "e", "timestamp": 1.0, "author": "user", "content": {"role": "user", "parts": [{"text": "psst"}]}}
    await chat.call("append_events", {"session_id": "s", "events": [event]})
    assert await chat.message("s", "count") == "8"
    assert loads.count > 0
    forget()
    assert await chat.message("s", "count") == "10"
    assert await chat.message("s", "count", run_config={"getSessionConfig": {"numRecentEvents": 2}}) == "3"
    loads.count = 0
    await chat.call("delete_session", {"session_id": "s"})
    assert await chat.message("s", "count") == "1"
    assert loads.count == 0


async def test_a_replay_in_another_process_starts_from_the_same(chat: ChatClient) -> None:
    """Under "plain" the turn continues in its attempt; under "replay" each await starts another attempt."""
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    for _ in range(4):
        await chat.call("post", {"message": "hello", "session_id": "s"})
    await chat.message("s", "hello")
    turn = asyncio.create_task(chat.message("s", f"gated {gate}"))

    async def asked() -> bool:
        return len(await chat.call("get_history", "s")) > 10

    await until(asked)
    forget()
    gates[gate].set()
    assert gate in await turn
    assert await chat.message("s", "count") == "15"


def test_what_a_turn_has_sent_counts_if_the_session_is_exactly_that() -> None:
    cache = SessionCache(10)
    events = [event_json(Event(author="a", timestamp=float(number))) for number in range(3)]
    after = SessionHead(created=1.0, revision=6, count=5, mark="mine")
    # Another session, one that somebody has written to, and one whose turn was repeated elsewhere.
    others = {"created": 2.0, "revision": 7, "count": 6, "mark": "theirs"}
    for name, value in [*others.items(), ("", None)]:
        cache.keep("k", Known(1.0, Events().with_stored(events), whole=True))
        cache.expect("k", 1.0, Pending(6, 5, "mine", [to_json(event) for event in events[:2]]))
        known = cache.at("k", after.model_copy(update={name: value} if name else {}))
        found = 0 if known is None else known.events.until
        assert found == {"created": 0, "": 5}.get(name, 3), name


def test_the_sessions_used_last_are_kept() -> None:
    cache = SessionCache(10)
    events = [event_json(Event(author="a")) for _ in range(4)]
    for key in ("a", "b"):
        cache.keep(key, Known(1.0, Events().with_stored(events), whole=True))
    assert cache.get("a", 1.0)
    cache.keep("c", Known(1.0, Events().with_stored(events), whole=True))
    assert [bool(cache.get(key, 1.0)) for key in "abc"] == [True, False, True]
    large = event_json(Event(author="a", content=types.Content(parts=[types.Part(text="x" * 30_000)])))
    cache.keep("large", Known(1.0, Events().with_stored([large]), whole=True))
    assert [bool(cache.get(key, 1.0)) for key in ("a", "c", "large")] == [False, False, True]
    for number in range(20):
        cache.expect(f"new {number}", 1.0, Pending(1, 2, "mark", [to_json(event) for event in events[:2]]))
    assert cache._events <= 10
    assert len(cache._known) <= 5


def test_what_an_earlier_version_has_asked_is_understood() -> None:
    events = [event_json(Event(author="a"))]
    session = {"id": "s", "state": {"n": 1, "user:name": "Ada"}, "events": events, "revision": 3, "lastUpdateTime": 5.0}
    old = {"session": session, "created": 1.0, "batches": 2, "index_page": 0, "reply_to": "somebody"}
    request = TurnRequest.model_validate(old)
    assert (request.events, request.reply_to) == (events, "somebody")
    head = SessionHead(created=1.0, revision=3, count=1, batches=2, last_update_time=5.0, state=session["state"])
    assert request.head == head
    new = TurnRequest.model_validate({"user_state": {"name": "Ada"}, "first_session": True})
    assert (new.events, new.head) == ([], SessionHead(user_state={"name": "Ada"}, first_session=True))
