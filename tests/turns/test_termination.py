"""However a turn ends, and whoever ends it: its end is stored, callers are told, and the session accepts the next
message."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
import pytest_asyncio
import restate
from restate.exceptions import RetryableError

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.durable import Journal, RetryPolicy
from adk_chat.durable.journal import attempt, standstill
from adk_chat.durable.journal.pump import Pump
from adk_chat.protocol.turn_id import TurnId
from adk_chat.settings import Settings
from adk_chat.turns.attempt import TurnAttempt
from adk_chat.turns.outbox import Outbox
from adk_chat.turns.publisher import Publisher
from adk_chat.turns.sessions import TurnSessions
from tests.conftest import hosting, plain, query
from tests.support import ChatClient, calls, freed, gates, released, scripted_app, taken, unique, until
from tests.turns.test_turn import ended, running

END_SECONDS = 2


async def last_event(chat: ChatClient, **where: Any) -> dict[str, Any]:
    """The session's newest event."""
    events = await chat.call("get_history", {"session_id": "s", **where})
    newest: dict[str, Any] = events[-1]
    return newest


@pytest.mark.parametrize("tool", ["leave", "leave_the_loop", "give_up"])
async def test_whatever_a_tool_raises_is_raised_once(chat: ChatClient, tool: str) -> None:
    name = unique(tool)
    body = {"message": f'call {tool} {{"name": "{name}"}}', "session_id": "s", "app_name": "workshop"}
    answer = await chat.send("message", body)
    code = (await last_event(chat, app_name="workshop")).get("errorCode")
    if tool == "give_up":  # with which ADK ends a run silently
        assert (answer.status_code, code) == (200, None), answer.text
    else:
        assert (answer.status_code, code, "SystemExit" in answer.text) == (500, "SystemExit", True), answer.text
    assert calls[f"tool: {name}"] == 1
    assert await chat.message("s", "hello", app_name="workshop") == "echo hello"


async def test_a_model_that_exits_fails(chat: ChatClient) -> None:
    answer = await chat.send("message", {"message": "exit", "session_id": "s"})
    assert (answer.status_code, "SystemExit" in answer.text) == (500, True), answer.text
    assert (await last_event(chat))["errorCode"] == "SystemExit"
    assert await chat.message("s", "hello") == "echo hello"


async def test_a_bug_of_ours_shows_a_few_times_and_ends_the_turn(
    chat: ChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = 0

    async def roll_back(_self: object, _sessions: object) -> None:
        nonlocal shown
        shown += 1
        raise ArithmeticError("a bug")

    with monkeypatch.context() as broken:
        broken.setattr(TurnAttempt, "_roll_back", roll_back)
        answer = await chat.send("message", {"message": "hello", "session_id": "s"})
    assert (answer.status_code, "ArithmeticError('a bug')" in answer.text, shown >= 3) == (500, True, True), answer.text
    assert (await last_event(chat))["errorCode"] == "ArithmeticError"
    assert await chat.message("s", "again") == "echo again"


async def test_a_bug_in_storing_is_settled_afterwards(chat: ChatClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await chat.message("s", "hello")

    async def store(_self: object, _reply: object = None) -> None:
        raise ArithmeticError("a bug")

    with monkeypatch.context() as broken:
        broken.setattr(Outbox, "store", store)
        answer = await chat.send("message", {"message": "hello", "session_id": "s"})
    assert answer.status_code == 500
    await until_ended(chat)
    assert await chat.message("s", "again") == "echo again"


async def test_a_bug_in_what_hears_the_engine_is_not_tried_for_ever(
    chat: ChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chat.message("s", "hello")
    shown = 0

    def stored(_self: Publisher, _events: object) -> None:
        nonlocal shown
        shown += 1
        raise ArithmeticError("a bug")

    with monkeypatch.context() as broken:
        broken.setattr(Publisher, "stored", stored)
        turn_id = (await chat.call("post", {"message": "hello", "session_id": "s"}))["turn_id"]
        assert await ended(chat, turn_id) == 500
    assert shown >= 3
    await until_ended(chat)
    assert await chat.message("s", "again") == "echo again"


async def until_ended(chat: ChatClient) -> None:
    """Wait until the end of a turn that could not store it itself is the newest event."""

    async def is_stored() -> bool:
        return (await last_event(chat)).get("errorCode") == "TURN_ENDED"

    await until(is_stored)


@plain
async def test_the_end_of_a_killed_turn_is_stored_for_it(chat: ChatClient, server: RestateServer) -> None:
    gates[chat.user] = asyncio.Event()
    killed = await running(chat, "s", f"wait {chat.user}")
    await chat.http.patch(f"{server.admin_url}/invocations/{TurnId.parse(killed).invocation_id}/kill")
    assert await chat.message("s", "hello") == "echo hello"
    events = await chat.call("get_history", "s")
    said = [(event["author"], event.get("errorCode")) for event in events]
    assert said == [("user", None), ("scripted", "TURN_ENDED"), ("user", None), ("scripted", None)]
    assert TurnId.parse(killed).owns(events[1])

    waiting = asyncio.create_task(chat.send("message", {"message": f"wait {chat.user}", "session_id": "s"}))
    runs = await until_running(chat, server)
    await chat.http.patch(f"{server.admin_url}/invocations/{runs}/kill")
    answer = await waiting
    assert (answer.status_code >= 400, "was killed in Restate" in answer.text) == (True, True), answer.text
    await until_ended(chat)


@plain
@pytest.mark.parametrize("by", ["the next message", "who cancels it"])
async def test_calls_that_a_killed_turn_has_left_open_are_answered(
    chat: ChatClient, server: RestateServer, by: str
) -> None:
    name = unique("gate")
    gates[name] = asyncio.Event()
    turn_id = TurnId.parse((await chat.call("post", {"message": f"gated {name}", "session_id": "s"}))["turn_id"])

    async def called() -> bool:
        return "functionCall" in (await chat.send("get_history", "s")).text

    await until(called)
    await chat.http.patch(f"{server.admin_url}/invocations/{turn_id.invocation_id}/kill")
    if by == "the next message":
        assert await chat.message("s", "hello") == "echo hello"
    else:
        await chat.call("cancel", {"session_id": "s"})
        await until_ended(chat)
    call, answer, end = (await chat.call("get_history", "s"))[1:4]
    (asked,), (answered,) = call["content"]["parts"], answer["content"]["parts"]
    assert asked["functionCall"]["id"] == answered["functionResponse"]["id"]
    assert [answer["errorCode"], end["errorCode"]] == ["INVOCATION_ABORTED", "TURN_ENDED"]
    assert turn_id.owns(answer)


@plain
@pytest.mark.parametrize(
    "where",
    [(TurnSessions, "add"), (TurnAttempt, "_run_agent")],
    ids=["before it is stored", "afterwards"],
)
async def test_the_end_of_each_of_several_killed_turns_is_stored_once(
    chat: ChatClient, server: RestateServer, monkeypatch: pytest.MonkeyPatch, where: tuple[type, str]
) -> None:
    gates[chat.user] = asyncio.Event()
    begun = asyncio.Event()

    async def stays(*_: object) -> None:
        """The second one is killed where it stores that the first one was."""
        begun.set()
        await asyncio.Event().wait()

    async def kill(turn_id: str) -> None:
        await chat.http.patch(f"{server.admin_url}/invocations/{TurnId.parse(turn_id).invocation_id}/kill")

    first = await running(chat, "s", f"wait {chat.user}")
    second = (await chat.call("post", {"message": "second", "session_id": "s"}))["turn_id"]
    with monkeypatch.context() as patched:
        patched.setattr(*where, stays)
        await kill(first)
        await begun.wait()
        if where[1] == "_run_agent":
            await until_ended(chat)
        await kill(second)
        assert await ended(chat, second) != 200
    assert await chat.message("s", "hello") == "echo hello"
    events = await chat.call("get_history", "s")
    assert [event.get("errorCode") for event in events] == [None, "TURN_ENDED", "TURN_ENDED", None, None]
    assert len({event["id"] for event in events}) == len(events)


@plain
async def test_a_turn_that_is_refused_leaves_the_end_of_a_killed_one_to_the_next(
    chat: ChatClient, server: RestateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates[chat.user] = asyncio.Event()
    killed = await running(chat, "s", f"wait {chat.user}")
    refused = (await chat.call("post", {"message": "second", "session_id": "s"}))["turn_id"]
    with monkeypatch.context() as patched:
        patched.setattr(TurnAttempt, "_found", AsyncMock(side_effect=restate.TerminalError("on purpose", 409)))
        await chat.http.patch(f"{server.admin_url}/invocations/{TurnId.parse(killed).invocation_id}/kill")
        assert await ended(chat, refused) == 409
    assert await chat.message("s", "hello") == "echo hello"
    events = await chat.call("get_history", "s")
    assert [event.get("errorCode") for event in events] == [None, "TURN_ENDED", None, None]
    assert TurnId.parse(killed).owns(events[1])


async def until_running(chat: ChatClient, server: RestateServer) -> str:
    """Wait until a turn of the user is at its gate. Returns its Restate invocation."""
    sql = (
        "SELECT id FROM sys_invocation WHERE target_handler_name = 'run' AND status = 'running' "
        f"AND target_service_key LIKE '{chat.user}/%'"
    )
    rows: list[dict[str, Any]] = []

    async def runs() -> bool:
        nonlocal rows
        rows = await query(server, sql)
        return bool(rows) and (await chat.texts("s"))[-1].startswith("wait")

    await until(runs)
    return str(rows[0]["id"])


@plain
@pytest.mark.parametrize("what", ["a lock", "a thread", "time", "deaf ears"])
async def test_whatever_an_agent_waits_for_a_cancellation_ends_it(chat: ChatClient, what: str) -> None:
    where = {"session_id": "s", "app_name": "stubborn"}
    released.clear()
    freed.clear()
    async with taken:
        turn_id = (await chat.call("post", {"message": what, **where}))["turn_id"]

        async def waits() -> bool:
            events = await chat.send("get_history", where)
            return events.is_success and len(events.json()) == 2

        await until(waits)
        async with asyncio.timeout(END_SECONDS):
            assert await chat.call("cancel", where) is True
            assert await ended(chat, turn_id) == 409
    assert (await last_event(chat, app_name="stubborn"))["errorCode"] == "INVOCATION_ABORTED"
    assert await chat.message("s", "anything", app_name="stubborn") == "I am asked for anything"
    released.set()
    freed.set()


@plain
async def test_a_turn_that_waits_to_ask_the_model_again_is_cancelled(
    chat: ChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RetryPolicy, "pause", lambda *_: timedelta(minutes=10))
    asked = f"busy {chat.user}"
    turn_id = (await chat.call("post", {"message": asked, "session_id": "s"}))["turn_id"]

    async def failed() -> bool:
        return calls[asked] > 0

    await until(failed)
    async with asyncio.timeout(END_SECONDS):
        assert await chat.call("cancel", {"session_id": "s"}) is True
        assert await ended(chat, turn_id) == 409
    assert await chat.message("s", "hello") == "echo hello"


@plain
async def test_code_that_runs_beside_the_next_attempt_is_named(
    chat: ChatClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_END_SECONDS", 0.1)
    where = {"session_id": "s", "app_name": "stubborn"}
    released.clear()
    waiting = asyncio.create_task(chat.send("message", {"message": "deaf ears", **where}))

    async def running() -> list[Journal]:
        found = [one for one in gc.get_objects() if isinstance(one, restate.ObjectContext)]
        journals = [vars(one).get("adk_chat_journal") for one in found if one.key().startswith(f"{chat.user}/")]
        return [journal for journal in journals if journal is not None]

    async def said() -> bool:
        events = await chat.send("get_history", where)
        return events.is_success and len(events.json()) == 2

    await until(said)
    for journal in await running():
        journal.pump.break_off(RuntimeError("on purpose"))
    answer = await waiting
    assert (answer.status_code, "Stubborn" in answer.text or "run" in answer.text) == (500, True), answer.text
    assert "is still running although it was cancelled" in answer.text
    released.set()
    assert await chat.message("s", "anything", app_name="stubborn") == "I am asked for anything"


@plain
async def test_a_process_that_stood_still_begins_nothing_that_was_given_up(
    chat: ChatClient, server: RestateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standstill, "_LONG_SECONDS", 0.2)
    ids = f"SELECT id FROM sys_invocation WHERE target_service_key LIKE '{chat.user}/%' AND status != 'completed'"
    sent = Pump.sent

    def stand_still(invocation_id: str) -> None:
        """The process blocks, and its attempt is given up."""
        with httpx.Client(base_url=server.admin_url, headers={"accept": "application/json"}) as admin:
            if invocation_id in {row["id"] for row in admin.post("/query", json={"query": ids}).json()["rows"]}:
                admin.patch(f"/invocations/{invocation_id}/kill")
                time.sleep(0.3)

    async def late(pump: Pump) -> None:
        await sent(pump)
        stand_still(pump._id)

    with monkeypatch.context() as patched:
        patched.setattr(Pump, "sent", late)
        answer = await chat.send("message", {"message": f"hello {chat.user}", "session_id": "s"})
    assert (answer.status_code, "was killed in Restate" in answer.text) == (409, True), answer.text
    assert calls[f"model: hello {chat.user}"] == 0


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt of a turn that is told "stuck" fails, and the next retry is far away."""
    run = TurnAttempt._run_agent

    async def failing(self: TurnAttempt, *args: Any) -> Any:
        if (self._request.content or {})["parts"][0]["text"] == "stuck":
            raise RetryableError("again and again", retry_after=timedelta(minutes=10))
        return await run(self, *args)

    monkeypatch.setattr(TurnAttempt, "_run_agent", failing)


async def until_stuck(chat: ChatClient, server: RestateServer) -> str:
    """A turn that is retried in a while."""
    turn_id: str = (await chat.call("post", {"message": "stuck", "session_id": "s"}))["turn_id"]
    inv = TurnId.parse(turn_id).invocation_id
    found = f"SELECT id FROM sys_invocation WHERE status = 'backing-off' AND id = '{inv}'"

    async def backs_off() -> bool:
        return bool(await query(server, found))

    await until(backs_off)
    return turn_id


@plain
@pytest.mark.usefixtures("stuck")
async def test_what_cannot_hear_a_cancellation_is_killed(chat: ChatClient, server: RestateServer) -> None:
    await chat.message("s", "hello")
    turn_id = await until_stuck(chat, server)
    async with asyncio.timeout(END_SECONDS):
        assert await chat.call("cancel", {"session_id": "s"}) is True
        await until_ended(chat)
    assert await ended(chat, turn_id) != 200
    assert await chat.call("cancel", {"session_id": "s"}) is False
    for strategy in ("interrupt", "rollback"):
        await until_stuck(chat, server)
        async with asyncio.timeout(END_SECONDS):
            said = await chat.call("message", {"message": "now", "session_id": "s", "multitask_strategy": strategy})
        assert said == "echo now"
    codes = [event.get("errorCode") for event in await chat.call("get_history", "s")]
    assert codes.count("TURN_ENDED") == 3


@pytest_asyncio.fixture(scope="module")
async def knows_no_admin(binary: Path, settings: Settings) -> AsyncIterator[RestateServer]:
    """A server whose service does not know the admin API, and has lost an app."""
    nobody = settings.model_copy(update={"admin_url": "http://127.0.0.1:9"})
    service = ChatService(scripted_app("scripted"), scripted_app("gone"), settings=nobody)
    objects = service.objects
    del service.apps["gone"]
    async with hosting(binary, objects) as running:
        yield running


@pytest.mark.usefixtures("stuck")
async def test_cancel_says_what_it_cannot_do(knows_no_admin: RestateServer) -> None:
    async with httpx.AsyncClient(base_url=knows_no_admin.ingress_url, timeout=60) as http:
        chat = ChatClient(http, unique("user"), "scripted")
        turn_id = await until_stuck(chat, knows_no_admin)
        answer = await chat.send("cancel", {"session_id": "s"})
        assert (answer.status_code, "with: adk-chat turns kill" in answer.text) == (503, True), answer.text
        invocation_id = TurnId.parse(turn_id).invocation_id
        await http.patch(f"{knows_no_admin.admin_url}/invocations/{invocation_id}/kill")


async def test_an_app_that_is_gone_is_an_answer(knows_no_admin: RestateServer) -> None:
    async with httpx.AsyncClient(base_url=knows_no_admin.ingress_url, timeout=60) as http:
        chat = ChatClient(http, unique("user"))
        answer = await chat.send("message", {"message": "hello", "session_id": "s", "app_name": "gone"})
        assert (answer.status_code, "The app gone no longer exists" in answer.text) == (404, True), answer.text
        events = await chat.call("get_history", {"session_id": "s", "app_name": "gone"})
        assert [event.get("errorCode") for event in events] == [None, "AppNotFoundError"]
        assert events[0]["content"]["parts"] == [{"text": "hello"}]
