"""Watching turns: live, from the last position, after the end, and when something is lost."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.gateway.server import gateway_app
from adk_chat.gateway.streams import reader
from adk_chat.gateway.streams.run_request import TURN_ID
from adk_chat.protocol.events import MODEL_RETRY
from adk_chat.protocol.stream import Partial, Start, dump, parse
from adk_chat.protocol.turn_id import TurnId
from adk_chat.settings import Settings
from adk_chat.streaming import MemoryBroker
from tests.conftest import hosting, plain
from tests.gateway.conftest import gateway_config, served
from tests.gateway.sse import Screen, screen, watching
from tests.gemini import unreachable_app
from tests.streaming.reading import take
from tests.support import ChatClient, Json, calls, gates, scripted_app, text_of, unique, until


def body(user: str, text: str, **more: Any) -> Json:
    message = {"role": "user", "parts": [{"text": text}]}
    return {"appName": "scripted", "userId": user, "sessionId": "s", "newMessage": message, "streaming": True, **more}


@pytest.fixture
async def user(gateway: httpx.AsyncClient) -> str:
    name = unique("user")
    await gateway.post(f"/apps/scripted/users/{name}/sessions", json={"sessionId": "s"})
    return name


async def history(gateway: httpx.AsyncClient, user: str) -> list[Json]:
    events: list[Json] = (await gateway.get(f"/apps/scripted/users/{user}/sessions/s")).json()["events"]
    return events


async def pending(gateway: httpx.AsyncClient, user: str) -> list[Json]:
    turns: list[Json] = (await gateway.get(f"/apps/scripted/users/{user}/sessions/s/turns")).json()
    return turns


@plain
async def test_partial_text_appears_while_the_model_speaks(gateway: httpx.AsyncClient, user: str) -> None:
    gate = gates[user] = asyncio.Event()
    shown = Screen()
    async with watching(gateway, "POST", "/run_sse", json=body(user, f"stream once upon @{user} a time")) as (
        response,
        events,
    ):
        assert TurnId.parse(response.headers[TURN_ID]).key.user_id == user
        while shown.partial_text != "once upon ":
            shown.show(await anext(events))
        assert shown.complete == []
        gate.set()
        async for event in events:
            assert event.id
            shown.show(event)
    assert shown.partial_text == text_of(shown.complete[0]) == "once upon a time "
    assert shown.complete == (await history(gateway, user))[1:]


@plain
async def test_a_complete_event_is_shown_when_it_is_stored_and_before_what_follows(
    gateway: httpx.AsyncClient, user: str
) -> None:
    name = unique("gate")
    gate = gates[name] = asyncio.Event()
    async with watching(gateway, "POST", "/run_sse", json=body(user, f"gated {name}")) as (_, events):
        shown = Screen()
        call = shown.show(await anext(events))
        assert call == (await history(gateway, user))[-1]
        assert call is not None
        assert call["content"]["parts"][0]["functionCall"]["name"] == "gated"
        gate.set()
        async for event in events:
            shown.show(event)
    assert shown.complete == (await history(gateway, user))[1:]


@plain
async def test_who_leaves_can_come_back_to_any_copy(
    gateway: httpx.AsyncClient, server: RestateServer, broker: MemoryBroker, user: str
) -> None:
    gate = gates[user] = asyncio.Event()
    shown = Screen()
    async with watching(gateway, "POST", "/run_sse", json=body(user, f"stream once upon @{user} a time")) as (
        response,
        events,
    ):
        turn_id = response.headers[TURN_ID]
        while shown.partial_text != "once upon ":
            shown.show(await anext(events))
    assert [turn["turnId"] for turn in await pending(gateway, user)] == [turn_id]
    async with served(gateway_app(gateway_config(server, broker))) as other:
        path = f"/turns/{turn_id}/events"
        async with watching(other, "GET", path, headers={"last-event-id": shown.last_id}) as (_, events):
            gate.set()
            async for event in events:
                shown.show(event)
        assert shown.partial_text == text_of(shown.complete[0]) == "once upon a time "
        # And from the beginning, now that everything is over.
        again = screen((await other.get(path)).text)
        assert (again.partial_text, again.complete) == ("once upon a time ", shown.complete)
        assert (await other.get(path, params={"after": shown.last_id})).text == ""


async def test_without_a_broker_the_store_has_it_all(
    gateway: httpx.AsyncClient, server: RestateServer, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_GRACE", 0.1)
    answer = await gateway.post("/run_sse", json=body(user, "tool a,b"))
    turn_id = answer.headers[TURN_ID]
    seen = screen(answer.text).complete
    for broker in (None, MemoryBroker()):  # no id, and one that knows nothing of the turn
        async with served(gateway_app(gateway_config(server, broker))) as other:
            assert screen((await other.get(f"/turns/{turn_id}/events")).text).complete == seen
            assert screen((await other.get(f"/turns/{turn_id}/events?after=1.-")).text).complete == seen[1:]
            live = await other.post("/run_sse", json=body(user, f"stream {unique()}"))
            assert text_of(screen(live.text).complete[0]) in [text_of(event) for event in await history(other, user)]


async def test_errors_are_shown_as_adks_server_shows_them(gateway: httpx.AsyncClient, user: str) -> None:
    answer = await gateway.post("/run_sse", json=body(user, "error"))
    (event, error) = screen(answer.text).all
    assert event["errorCode"] == "ValueError"
    assert error["error"] == "ValueError: the model is out of order"
    again = screen((await gateway.get(f"/turns/{answer.headers[TURN_ID]}/events")).text).all
    assert again == [event, {"error": "ValueError: the model is out of order"}]


@plain
async def test_a_turn_is_cancelled_running_or_queued(gateway: httpx.AsyncClient, user: str) -> None:
    gates[user] = asyncio.Event()
    async with watching(gateway, "POST", "/run_sse", json=body(user, f"stream once upon @{user} a time")) as (
        first,
        events,
    ):
        shown = Screen()
        while shown.partial_text != "once upon ":
            shown.show(await anext(events))
        queued = asyncio.create_task(gateway.post("/run_sse", json=body(user, "hello")))

        async def both() -> bool:
            return [turn["status"] for turn in await pending(gateway, user)] == ["running", "queued"]

        await until(both)
        for turn in (await pending(gateway, user))[::-1]:
            answer = await gateway.post(f"/turns/{turn['turnId']}/cancel")
            assert answer.json() == {"cancelled": True}
        async for event in events:
            shown.show(event)
    assert [text_of(event) if "content" in event else event["errorCode"] for event in shown.complete] == [
        "once upon ",
        "INVOCATION_ABORTED",
    ]
    assert shown.complete[0]["interrupted"] is True
    assert shown.complete == (await history(gateway, user))[1:]
    assert screen((await queued).text).all[0]["error"] == "RefusedError: The turn was cancelled before it began."
    assert (await gateway.post(f"/turns/{first.headers[TURN_ID]}/cancel")).json() == {"cancelled": False}
    assert await pending(gateway, user) == []


@plain
async def test_strategies_are_heeded_by_run_and_run_sse(gateway: httpx.AsyncClient, user: str) -> None:
    gates[user] = asyncio.Event()
    async with watching(gateway, "POST", "/run_sse", json=body(user, f"stream once @{user} more")) as (_, events):
        await anext(events)
        for path in ("/run", "/run_sse"):
            refused = await gateway.post(path, json=body(user, "two", multitaskStrategy="reject"))
            assert (refused.status_code, "A turn is running" in refused.json()["detail"]) == (409, True)
            wrong = await gateway.post(path, json=body(user, "two", multitask_strategy="shout"))
            assert (wrong.status_code, "multitask_strategy" in wrong.json()["detail"]) == (400, True)
        answer = await gateway.post("/run", json=body(user, "count", multitask_strategy="rollback"))
        assert text_of(answer.json()[0]) == "1"
    alone = await gateway.post("/run_sse", json=body(user, "hello", multitask_strategy="reject"))
    assert (alone.status_code, TURN_ID in alone.headers) == (200, True)
    # A turn that ran and failed before it said anything was not rejected.
    await gateway.post(f"/apps/choir/users/{user}/sessions", json={"sessionId": "s"})
    failing = {**body(user, "error", multitask_strategy="reject"), "appName": "choir"}
    failed = await gateway.post("/run_sse", json=failing)
    assert (failed.status_code, TURN_ID in failed.headers, screen(failed.text).ended) == (200, True, True)


@plain
async def test_a_model_that_is_asked_again_is_said_to_who_watches_and_logged(
    server: RestateServer, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_API_KEY", "none")
    caplog.set_level("WARNING", "adk_chat.durable.adk.model")
    name, app = unique("user"), unreachable_app()
    asked = body(name, "hello", appName="unreachable")
    async with served(gateway_app(replace(gateway_config(server, broker), apps={app.name: app}))) as client:
        await client.post(f"/apps/unreachable/users/{name}/sessions", json={"sessionId": "s"})
        shown = screen((await client.post("/run_sse", json=asked)).text)
        whole = await client.post("/run", json=asked)
        stored = (await client.get(f"/apps/unreachable/users/{name}/sessions/s")).text
    retries = [event["customMetadata"][MODEL_RETRY] for event in shown.all if MODEL_RETRY in str(event)]
    assert [(retry["model"], retry["attempt"], retry["max_attempts"]) for retry in retries] == [
        ("gemini-2.5-flash", 2, 3),
        ("gemini-2.5-flash", 3, 3),
    ]
    assert "ClientConnectorError: Cannot connect" in retries[0]["error"]
    assert MODEL_RETRY not in whole.text + stored
    logged = [record.getMessage() for record in caplog.records if "Retrying in" in record.getMessage()]
    assert len(logged) == 4
    assert logged[0].startswith("gemini-2.5-flash of unreachable failed: ClientConnectorError: Cannot connect")


@plain
async def test_a_client_that_leaves_does_not_end_the_turn(gateway: httpx.AsyncClient, user: str) -> None:
    gate = gates[user] = asyncio.Event()
    text = f"wait {user}"
    for path in ("/run", "/run_sse"):
        with pytest.raises(httpx.ReadTimeout):
            async with watching(gateway, "POST", path, json=body(user, text), timeout=0.3) as (_, events):
                await anext(events)
    gate.set()

    async def both() -> bool:
        return len(await history(gateway, user)) == 4

    await until(both)
    assert calls[f"model: {text}"] == 2


async def test_a_key_is_of_one_message_to_one_session(gateway: httpx.AsyncClient, user: str) -> None:
    await gateway.post(f"/apps/scripted/users/{user}/sessions", json={"sessionId": "other"})
    key = {"idempotency-key": "k"}

    async def said(text: str, session: str = "s", route: str = "/run", **more: Any) -> tuple[str | None, str]:
        more = {"sessionId": session, "streaming": False, **more}
        answer = await gateway.post(route, json=body(user, text, **more), headers=key)
        return answer.headers.get(TURN_ID), answer.text

    first, again, other, streamed = [
        await said("hello"),
        await said("hello"),
        await said("hello", session="other"),
        await said("hello", route="/run_sse", streaming=True),
    ]
    assert first == again
    assert (streamed[0], "echo hello" in streamed[1]) == (first[0], True)
    assert other[0] != first[0]
    turn, text = await said("something else")
    assert (turn, "idempotency-key: k was sent before with another message to session s" in text) == (None, True), text
    answer = await gateway.post("/run", json=body(user, "something else", streaming=False), headers=key)
    assert answer.status_code == 422
    texts = [text_of(event) for event in await history(gateway, user)]
    assert texts == ["hello", "echo hello"]


async def test_a_refusal_is_not_kept_under_its_key(gateway: httpx.AsyncClient, user: str) -> None:
    text = f"late {user}"

    async def send(_: int = 0) -> httpx.Response:
        return await gateway.post("/run", json=body(user, text, sessionId="late"), headers={"idempotency-key": "k"})

    assert [(await send()).status_code for _ in range(3)] == [404] * 3
    await gateway.post(f"/apps/scripted/users/{user}/sessions/late")
    answers = await asyncio.gather(*map(send, range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8, [answer.text for answer in answers]
    assert len({answer.headers[TURN_ID] for answer in answers} | {(await send()).headers[TURN_ID]}) == 1
    assert calls[f"model: {text}"] == 1


async def test_marks_of_ours_mean_nothing_from_a_client(gateway: httpx.AsyncClient, user: str) -> None:
    marks = {"adk_chat_appended": True, "adk_chat_turn_failed": True, "of": "mine"}
    answer = await gateway.post("/run_sse", json=body(user, "hello", customMetadata=marks))
    (event,) = screen(answer.text).complete
    assert (text_of(event), event["customMetadata"]) == ("echo hello", {"of": "mine"})


@plain
async def test_what_another_attempt_says_as_well_stays(
    gateway: httpx.AsyncClient, user: str, broker: MemoryBroker
) -> None:
    gate = gates[user] = asyncio.Event()
    shown = Screen()
    async with watching(gateway, "POST", "/run_sse", json=body(user, f"stream a b @{user} c")) as (response, events):
        turn_id = response.headers[TURN_ID]
        while shown.partial_text != "a b ":
            shown.show(await anext(events))
        (first,) = [
            entry.event
            for entry in [parse(published.data) for published in await take(broker, turn_id, 2)]
            if isinstance(entry, Partial)
        ]

        def attempt(name: str, *words: str) -> None:
            broker.publish(turn_id, dump(Start(attempt=name)))
            for word in words:
                event = {**first, "id": name, "content": {"role": "model", "parts": [{"text": word}]}}
                broker.publish(turn_id, dump(Partial(attempt=name, after=0, event=event)))

        attempt("same", "a ", "b ", "and ")
        while shown.partial_text != "a b and ":
            shown.show(await anext(events))
        assert shown.resets == 0
        attempt("other", "a ", "c ")
        while shown.partial_text != "a c ":
            shown.show(await anext(events))
        assert shown.resets == 1
        gate.set()
        async for event in events:
            shown.show(event)
    assert (text_of(shown.complete[0]), shown.resets) == ("a b c ", 1)


@plain
async def test_who_waits_for_one_answer_gets_no_text_that_is_void(
    gateway: httpx.AsyncClient, user: str, broker: MemoryBroker
) -> None:
    gate = gates[user] = asyncio.Event()
    answering = asyncio.create_task(gateway.post("/run", json=body(user, f"gated {user}", streaming=False)))

    async def begun() -> str | None:
        turns = (await gateway.get(f"/apps/scripted/users/{user}/sessions/s/turns")).json()
        return turns[0]["turnId"] if turns and await take(broker, turns[0]["turnId"], 2) else None

    await until(begun)
    turn_id = await begun()
    assert turn_id is not None
    for attempt, words in (("one", ["a ", "b "]), ("other", ["a ", "c "])):
        broker.publish(turn_id, dump(Start(attempt=attempt)))
        for word in words:
            content = {"role": "model", "parts": [{"text": word}]}
            event = {"author": "scripted", "partial": True, "id": attempt, "timestamp": 1.0, "content": content}
            broker.publish(turn_id, dump(Partial(attempt=attempt, after=1, event=event)))
    gate.set()
    texts = [text_of(event) for event in (await answering).json()]
    assert texts == ["", "a ", "c ", "", f"got {{'passed': '{user}'}}"]


async def test_a_client_that_does_not_read_lags_alone(binary: Path, settings: Settings) -> None:
    chunks = [[f"{number:04d}{'x' * 3000}" for number in range(first, first + 10)] for first in range(0, 400, 10)]
    text = " ".join(["stream", *(" ".join([f"@{number}", *chunk]) for number, chunk in enumerate(chunks))])
    gates.update({str(number): asyncio.Event() for number in range(len(chunks))})
    words = [f"{word} " for chunk in chunks for word in chunk]
    user = unique("user")
    broker = MemoryBroker(max_entries=30)  # three chunks
    service = ChatService(scripted_app("scripted"), settings=settings, broker=broker)
    async with (
        hosting(binary, service.objects) as server,
        served(gateway_app(gateway_config(server, broker)), send_buffer=65536) as gateway,
        httpx.AsyncClient(base_url=gateway.base_url, timeout=60) as other,
    ):
        await gateway.post(f"/apps/scripted/users/{user}/sessions", json={"sessionId": "s"})
        async with watching(other, "POST", "/run_sse", json=body(user, text)) as (response, unread):
            # The model says a chunk once this client has seen the earlier ones, and waits for nobody else.
            path = f"/turns/{response.headers[TURN_ID]}/events"
            shown, late = Screen(), Screen()
            async with watching(gateway, "GET", path) as (_, events):
                for number, chunk in enumerate(chunks):
                    gates[str(number)].set()
                    for _ in chunk:
                        shown.show(await asyncio.wait_for(anext(events), 20))
                async for event in events:
                    shown.show(event)
            assert shown.partial_text == text_of(shown.complete[0]) == "".join(words)
            assert shown.resets == 0
            assert shown.complete == (await history(gateway, user))[1:]
            # Now that client reads on: what it missed is no longer kept, but what counts is.
            seen = [late.show(event) async for event in unread]
    assert (late.resets, late.complete) == (1, shown.complete)
    assert len(seen) < len(words)


async def test_the_id_of_another_ones_turn_reaches_nothing(gateway: httpx.AsyncClient, user: str) -> None:
    turn_id = TurnId.parse((await gateway.post("/run_sse", json=body(user, "hello"))).headers[TURN_ID])
    stranger = turn_id.key.model_copy(update={"user_id": unique("stranger")})
    await gateway.post(f"/apps/scripted/users/{stranger.user_id}/sessions", json={"sessionId": "s"})
    forged = turn_id.model_copy(update={"key": stranger})
    for wrong in (forged, "inv_x", f"{turn_id.invocation_id}.!", "x" * 1000):
        assert (await gateway.get(f"/turns/{wrong}/events")).status_code == 404
        assert (await gateway.post(f"/turns/{wrong}/cancel")).status_code == 404
    bad = await gateway.get(f"/turns/{turn_id}/events", headers={"last-event-id": "yesterday"})
    assert (bad.status_code, "'yesterday' is not an event id" in bad.json()["detail"]) == (400, True)


async def test_a_state_edit_merges_with_a_turn(gateway: httpx.AsyncClient, chat: ChatClient) -> None:
    await chat.call("create_session", {"session_id": "s"})
    path = f"/apps/scripted/users/{chat.user}/sessions/s"
    edits = [gateway.patch(path, json={"stateDelta": {f"k{number}": number}}) for number in range(4)]
    answers = await asyncio.gather(*edits, chat.message("s", "tool x"))
    assert [answer.status_code for answer in answers[:-1] if isinstance(answer, httpx.Response)] == [200] * 4
    state = (await gateway.get(path)).json()["state"]
    own = {key: value for key, value in state.items() if not key.startswith("app:")}
    assert own == {**{f"k{number}": number for number in range(4)}, "note x": True}
