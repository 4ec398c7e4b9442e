"""A program of `restate.ext.adk` runs here by changing the import."""

import asyncio
import gc

import restate
from restate.vm import VMWrapper

from adk_chat.durable.journal import seams
from tests.support import ChatClient, calls, gates, unique, until


async def test_the_program_runs_and_its_sessions_are_in_chat(chat: ChatClient) -> None:
    text = unique("note")
    said = [
        (await chat.http.post(f"/Program/{chat.user}/run", json=message)).json()
        for message in ("hello", f"tool {text}", "count")
    ]
    assert said == ["echo hello", f"got {{'noted': '{text}'}}", "7"]
    assert calls[f"tool: {text}"] == calls[f"model: tool {text}"] == 1
    session = await chat.call("get_session", {"app_name": "program", "session_id": "session"})
    assert session["state"] == {f"note {text}": True}
    assert len(session["events"]) == 8
    assert len({event["id"] for event in session["events"]}) == 8
    assert len({event["invocationId"] for event in session["events"]}) == 3


async def test_a_failing_model_ends_the_program_with_its_error(chat: ChatClient) -> None:
    answer = await chat.http.post(f"/Program/{chat.user}/run", json="refused by policy")
    assert (answer.status_code, answer.json()["message"]) == (451, "not with me")
    assert (await chat.http.post(f"/Program/{chat.user}/run", json="next")).json() == "echo next"


async def test_nothing_is_left_of_a_turn_in_memory(chat: ChatClient) -> None:
    def left() -> set[str]:
        contexts = [one for one in gc.get_objects() if isinstance(one, restate.ObjectContext)]
        return {of.key() for of in contexts if of.key().split("/")[0] == chat.user}

    async def all_gone() -> bool:
        return not left()

    # What is in a reference cycle stays until the next garbage collection, and makes that expensive.
    gc.disable()
    try:
        for number in range(5):
            await chat.message("s", f"tool {unique('note')}")
            await chat.call("post", {"message": f"tool {unique('note')}", "session_id": "posted"})
            await chat.http.post(f"/Program/{chat.user}/run", json=f"hello {number}")
            await chat.send("message", {"message": "hello", "session_id": "none", "create": False})
            await chat.send("message", {"message": "hello", "session_id": "s", "app_name": "none"})
        await until(all_gone)
    finally:
        gc.enable()


async def test_live_conversations_are_refused(chat: ChatClient) -> None:
    answer = await chat.http.post(f"/Program/{chat.user}/talk", json="hello")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("run_live was called in a Restate handler, where it cannot be durable")


async def test_only_the_beginning_of_a_journal_is_kept(chat: ChatClient) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    turn = asyncio.create_task(chat.message("s", f"gated {gate}"))

    async def asked() -> bool:
        answer = await chat.send("get_history", "s")
        return answer.is_success and len(answer.json()) == 2

    await until(asked)
    # By now each state machine has received more than its handler's input.
    machines = [vars(one) for one in gc.get_objects() if isinstance(one, VMWrapper)]
    begun = [machine for machine in machines if seams._BEFORE in machine]
    assert begun
    assert not [machine for machine in begun if seams._RECEIVED in machine]
    gates[gate].set()
    assert gate in await turn
