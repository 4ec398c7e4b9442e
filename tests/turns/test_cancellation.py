"""A turn that is cancelled while its process dies is stored like one whose process lives."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.parallel_agent import ParallelAgent
from google.adk.apps.app import App
from google.adk.events.event import Event
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.genai import types
from restate.exceptions import RetryableError

from adk_chat import ChatService
from adk_chat.durable import Journal
from adk_chat.durable.journal.cancel_point import CancelPoint
from adk_chat.durable.journal.pump import Pump
from adk_chat.protocol.turn_id import TurnId
from adk_chat.sessions.store import SessionStore
from adk_chat.settings import Settings
from adk_chat.turns.history import SessionCache
from adk_chat.turns.outbox import Outbox
from tests.conftest import free_port, hosting
from tests.support import ChatClient, Json, ScriptedModel, function_call, gated, gates, note, reply, unique, until
from tests.turns.test_turn import ended

SLOW_SECONDS = 0.2
"""How long the agent's own code takes before each model call, in a replay too."""


async def steps(request: LlmRequest) -> list[LlmResponse]:
    """A tool; then two at once, one of which waits for the test; then words. "hello" is answered with words at once."""
    parts = [part for content in request.contents for part in content.parts or []]
    answers = sum(part.function_response is not None for part in parts)
    name = [part.text for part in parts if part.text][-1]
    if name == "hello":
        return [reply("hello")]
    if not answers:
        return [reply(function_call("note", text="first"))]
    return [reply(function_call("gated", name=name), function_call("note", text="second"))]


async def slow(**_: Any) -> None:
    """A callback before each model call."""
    await asyncio.sleep(SLOW_SECONDS)


async def busy(**_: Any) -> None:
    """A callback after each tool, with work that needs nothing from outside."""
    for _round in range(20):
        await asyncio.sleep(0)


def agent(name: str) -> LlmAgent:
    """An agent that calls tools until it is cancelled."""
    model = ScriptedModel(script=steps)
    callbacks: dict[str, Any] = {"before_model_callback": slow, "after_tool_callback": busy}
    return LlmAgent(name=name, model=model, tools=[note, gated], **callbacks)


class Fickle(BaseAgent):
    """Says something, and in the next attempt something of another kind instead."""

    attempts: int = 0

    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        self.attempts += 1
        if self.attempts > 1:
            yield Event(invocation_id=ctx.invocation_id, author=self.name, error_code="OTHER")
            return
        content = types.Content(role="model", parts=[types.Part(text="one")])
        yield Event(invocation_id=ctx.invocation_id, author=self.name, content=content)
        journal = Journal.current()
        assert journal is not None
        while journal.pump.over is None:  # until that is sent
            await asyncio.sleep(0.2)
            dies(journal.pump)


@pytest_asyncio.fixture(scope="module")
async def cancelled(binary: Path, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The ingress of a service with an agent alone, and one of two at once."""
    duo = ParallelAgent(name="duo", sub_agents=[agent("left"), agent("right")])
    roots: list[BaseAgent] = [agent("solo"), duo, Fickle(name="fickle")]
    port = free_port()
    reached = settings.model_copy(update={"admin_url": f"http://localhost:{port}"})
    service = ChatService(*(App(name=root.name, root_agent=root) for root in roots), settings=reached)
    async with (
        hosting(binary, service.objects, admin_port=port) as running,
        httpx.AsyncClient(base_url=running.ingress_url, timeout=30) as http,
    ):
        yield http


def dies(pump: Pump) -> None:
    """The attempt ends as if its process had died."""
    pump.break_off(RuntimeError("on purpose"))


def before_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = Pump._cancel
    monkeypatch.setattr(Pump, "_cancel", once(dies, cancel))


def when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = Pump._cancel

    def told(pump: Pump) -> None:
        cancel(pump)
        asyncio.get_running_loop().call_later(0.01, dies, pump)

    monkeypatch.setattr(Pump, "_cancel", once(told, cancel))


def when_all_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Outbox.store

    async def sent(outbox: Outbox, _reply: object) -> None:
        outbox.flush()
        await asyncio.sleep(0.1)
        raise RetryableError("on purpose")

    monkeypatch.setattr(Outbox, "store", once(sent, store))


def while_adk_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process does not die, but ADK does not get to append what ends an invocation."""

    async def never(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(Runner, "_synthesize_abort_events_if_needed", never)


def once(first: Callable[..., Any], later: Callable[..., Any]) -> Callable[..., Any]:
    """A method that does something else the first time."""
    todo = [first]
    return lambda *args: (todo.pop() if todo else later)(*args)


async def end_of(chat: ChatClient, turn_id: str) -> tuple[int, str]:
    """The answer of a failed turn."""
    answer = await chat.http.get(f"/restate/invocation/{TurnId.parse(turn_id).invocation_id}/attach")
    return answer.status_code, answer.json()["message"]


async def cancel_one(
    http: httpx.AsyncClient, app: str, first: Callable[[], None] | None = None, *, second: bool = False
) -> list[Json]:
    """Cancel a turn in the middle of its tools. Returns what is stored then.

    Args:
        http: the ingress.
        app: whose turn.
        first: called right before that.
        second: whether the session has had a turn before.
    """
    name, chat, where = unique("gate"), ChatClient(http, unique("user")), {"session_id": "s", "app_name": app}
    if second:
        await chat.call("message", {"message": "hello", **where})
    gates[name] = asyncio.Event()
    turn_id = (await chat.call("post", {"message": name, **where}))["turn_id"]

    async def waits() -> bool:
        history = (await chat.send("get_history", where)).text
        return history.count("functionCall") == (6 if app == "duo" else 3)

    await until(waits)
    if first is not None:
        first()
    assert await chat.call("cancel", where) is True
    assert await end_of(chat, turn_id) == (409, "The turn was cancelled.")
    events: list[Json] = await chat.call("get_history", where)
    return events


def audit(events: list[Json]) -> list[Any]:
    """What is the same however a turn is cancelled. An id belongs to one event, and each call has an answer."""
    parts = [part for event in events for part in event.get("content", {}).get("parts", [])]
    asked = sorted(part["functionCall"]["id"] for part in parts if "functionCall" in part)
    answered = sorted(part["functionResponse"]["id"] for part in parts if "functionResponse" in part)
    assert answered == asked
    assert len({event["id"] for event in events}) == len(events)
    said = [
        (event["author"], event.get("errorCode"), sorted(key for part in event["content"]["parts"] for key in part))
        if "content" in event
        else event["errorCode"]
        for event in events
    ]
    return sorted(said, key=str)


_calm: dict[tuple[str, bool], list[Any]] = {}


async def calmly(http: httpx.AsyncClient, app: str, *, second: bool = False) -> list[Any]:
    """What is stored if nothing dies; of a session's first turn, or of the second."""
    if (app, second) not in _calm:
        _calm[app, second] = audit(await cancel_one(http, app, second=second))
    return _calm[app, second]


@pytest.mark.parametrize("app", ["solo", "duo"])
@pytest.mark.parametrize("death", [before_it_is_told, when_it_is_told, when_all_is_sent, while_adk_ends_it])
async def test_a_turn_whose_process_dies_when_it_is_cancelled_is_stored_as_ever(
    cancelled: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, app: str, death: Callable[[pytest.MonkeyPatch], None]
) -> None:
    calm = await calmly(cancelled, app)
    with monkeypatch.context() as patched:
        death(patched)
        assert audit(await cancel_one(cancelled, app)) == calm


@pytest.fixture
def pumps(monkeypatch: pytest.MonkeyPatch) -> list[Pump]:
    """The pumps of all attempts from now on."""
    known: list[Pump] = []
    run = Pump._run

    async def noted(pump: Pump) -> None:
        known.append(pump)
        await run(pump)

    monkeypatch.setattr(Pump, "_run", noted)
    return known


@pytest.mark.parametrize("app", ["solo", "duo"])
async def test_a_turn_that_is_cancelled_while_it_is_begun_again_has_got_to_where_it_was(
    cancelled: httpx.AsyncClient, pumps: list[Pump], app: str
) -> None:
    calm = await calmly(cancelled, app)
    assert audit(await cancel_one(cancelled, app, lambda: dies(pumps[-1]))) == calm


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on no session is cached, as in another process."""
    return lambda: monkeypatch.setattr(SessionCache, "get", lambda *_: None)


@pytest.mark.parametrize("death", [before_it_is_told, when_it_is_told, when_all_is_sent])
async def test_a_cancelled_turn_goes_on_in_a_process_that_has_not_got_its_session(
    cancelled: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    death: Callable[[pytest.MonkeyPatch], None],
    forget: Callable[[], None],
) -> None:
    calm = await calmly(cancelled, "duo", second=True)
    death(monkeypatch)
    assert audit(await cancel_one(cancelled, "duo", forget, second=True)) == calm


async def knows(pumps: list[Pump]) -> bool:
    """Whether the last attempt knows that it is cancelled."""
    return pumps[-1]._cancelled or bool(pumps[-1].cancel_point.name)


@pytest.mark.parametrize("begun", [True, False])
async def test_a_turn_that_is_cancelled_while_it_reads_its_session_has_all_of_it(
    chat: ChatClient, monkeypatch: pytest.MonkeyPatch, pumps: list[Pump], forget: Callable[[], None], begun: bool
) -> None:
    """If it has started already, it does so in another process."""
    await chat.message("s", "hello")
    asked, go, belongs = asyncio.Event(), asyncio.Event(), SessionStore.belongs

    async def held(store: SessionStore, *args: Any) -> bool:
        asked.set()
        await go.wait()
        await store.read("another")  # where it hears that it is cancelled with the turn
        return await belongs(store, *args)

    async def calls() -> bool:
        return "functionCall" in (await chat.send("get_history", "s")).text

    def hold() -> None:
        forget()
        monkeypatch.setattr(SessionStore, "belongs", held)

    name = unique("gate")
    gates[name] = asyncio.Event()
    if not begun:
        hold()
    turn_id = (await chat.call("post", {"message": f"gated {name}", "session_id": "s"}))["turn_id"]
    if begun:
        await until(calls)
        hold()
        dies(pumps[-1])
    await asked.wait()
    cancelling = asyncio.create_task(chat.call("cancel", {"session_id": "s"}))
    await until(partial(knows, pumps))
    go.set()
    assert await cancelling is True
    assert await end_of(chat, turn_id) == (409, "The turn was cancelled.")
    events = [(event["author"], event.get("errorCode")) for event in await chat.call("get_history", "s")]
    ends = [("scripted", None), ("scripted", "INVOCATION_ABORTED")] if begun else [("scripted", "INVOCATION_ABORTED")]
    assert events == [("user", None), ("scripted", None), ("user", None), *ends]


async def test_what_code_was_given_before_it_was_told_has_its_effect(
    cancelled: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, pumps: list[Pump]
) -> None:
    """A tool ends at the same time as its turn is cancelled."""
    hand_out = Pump._hand_out
    opening: list[asyncio.Task[None]] = []

    async def handed_out(pump: Pump) -> bool:
        given = await hand_out(pump)
        pump.tells = pump.tells or given
        return given

    async def open_gates() -> None:
        await until(partial(knows, pumps))
        for gate in gates.values():
            gate.set()

    def first() -> None:
        pumps[-1].tells = False
        monkeypatch.setattr(Pump, "_hand_out", handed_out)
        opening.append(asyncio.create_task(open_gates()))

    answers = json.dumps(await cancel_one(cancelled, "solo", first))
    assert '{"passed": "gate-' in answers


async def test_a_call_has_the_answer_that_was_sent(
    cancelled: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool ends as its turn is told of a cancellation. The next attempt has its result, and is told afterwards."""
    may_cancel = Pump._may_cancel

    async def ends(pump: Pump) -> bool:
        may = await may_cancel(pump)
        while may and pump.actions:
            for gate in gates.values():
                gate.set()
            await asyncio.sleep(0)
        return may

    monkeypatch.setattr(Pump, "_may_cancel", ends)
    monkeypatch.setattr(CancelPoint, "is_before", lambda *_: True)
    when_all_is_sent(monkeypatch)
    audit(await cancel_one(cancelled, "solo"))


async def test_an_id_that_was_sent_is_that_of_no_other_event(cancelled: httpx.AsyncClient) -> None:
    chat, where = ChatClient(cancelled, unique("user")), {"session_id": "s", "app_name": "fickle"}
    turn_id = (await chat.call("post", {"message": "hello", **where}))["turn_id"]
    await ended(chat, turn_id)
    events = await chat.call("get_history", where)
    assert [event.get("errorCode", "said") for event in events] == ["said", "said", "OTHER"]
    assert len({event["id"] for event in events}) == 3
