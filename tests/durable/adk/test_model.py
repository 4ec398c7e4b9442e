"""Model calls through google-genai to a local server that speaks Gemini's protocol."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gemini import FakeGemini, chunk, error, fake_gemini
from tests.support import ChatClient


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gemini_server() -> AsyncIterator[FakeGemini]:
    with pytest.MonkeyPatch.context() as patch:
        async with fake_gemini() as gemini:
            patch.setenv("GOOGLE_GEMINI_BASE_URL", gemini.url)
            patch.setenv("GOOGLE_API_KEY", "no key is needed here")
            yield gemini


@pytest.fixture
def gemini(gemini_server: FakeGemini) -> FakeGemini:
    gemini_server.script.clear()
    gemini_server.requests.clear()
    return gemini_server


def body(text: str) -> dict[str, str]:
    return {"message": text, "session_id": "s", "app_name": "gemini"}


async def test_a_reply(chat: ChatClient, gemini: FakeGemini) -> None:
    gemini.script.append([chunk({"text": "Hello."}, finishReason="STOP")])
    assert await chat.call("message", body("Hi")) == "Hello."
    (request,) = gemini.requests
    assert request["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]
    assert not gemini.script


@pytest.mark.parametrize(
    "name", [(408, "DEADLINE"), (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (503, "UNAVAILABLE")]
)
async def test_what_may_pass_is_tried_again(chat: ChatClient, gemini: FakeGemini, name: tuple[int, str]) -> None:
    gemini.script += [error(*name), error(*name), [chunk({"text": "At last."})]]
    assert await chat.call("message", body("Hi")) == "At last."
    assert len(await chat.call("get_history", {"session_id": "s", "app_name": "gemini"})) == 2


async def test_what_does_not_pass_is_given_up(chat: ChatClient, gemini: FakeGemini) -> None:
    gemini.script += [error(503, "UNAVAILABLE")] * 5
    answer = await chat.send("message", body("Hi"))
    assert (answer.status_code, "UNAVAILABLE as scripted" in answer.text) == (502, True), answer.text
    assert len(gemini.script) == 2, "three attempts, as the setting says"
    events = await chat.call("get_history", {"session_id": "s", "app_name": "gemini"})
    assert [event.get("errorCode") for event in events] == [None, "UNAVAILABLE"]
    gemini.script.clear()
    gemini.script.append([chunk({"text": "Back."})])
    assert await chat.call("message", body("Again")) == "Back."


@pytest.mark.parametrize("name", [(400, "INVALID_ARGUMENT"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND")])
async def test_what_cannot_pass_is_final_at_once(chat: ChatClient, gemini: FakeGemini, name: tuple[int, str]) -> None:
    gemini.script += [error(*name)] * 2
    answer = await chat.send("message", body("Hi"))
    assert (answer.status_code, f"{name[1]} as scripted" in answer.text) == (502, True), answer.text
    assert len(gemini.requests) == 1
    events = await chat.call("get_history", {"session_id": "s", "app_name": "gemini"})
    assert [event.get("errorCode") for event in events] == [None, name[1]]


async def test_nobody_listening_is_given_up_as_well(chat: ChatClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_API_KEY", "none")
    answer = await chat.send("message", {**body("Hi"), "app_name": "unreachable"})
    assert (answer.status_code, "Cannot connect" in answer.text) == (502, True), answer.text


async def test_a_safety_block_is_told(chat: ChatClient, gemini: FakeGemini) -> None:
    gemini.script.append([{"candidates": [{"finishReason": "SAFETY"}]}])
    answer = await chat.send("message", body("Hi"))
    assert (answer.status_code, "without an answer: SAFETY" in answer.text) == (502, True), answer.text
