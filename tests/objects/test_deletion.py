"""A turn belongs to the session that existed when its message was accepted, whatever is deleted and created since."""

import asyncio
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from google.adk.agents.llm_agent import LlmAgent
from google.adk.artifacts.file_artifact_service import FileArtifactService
from google.adk.tools.tool_context import ToolContext
from google.genai import types

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.protocol.turn_id import event_id_prefix
from adk_chat.settings import Settings
from tests.conftest import hosting, plain, query, unfinished
from tests.support import ChatClient, Json, ScriptedModel, calls, gates, obey, unique, until

SESSION = {"session_id": "s"}


async def ended(chat: ChatClient, turn_id: str) -> httpx.Response:
    """How a posted turn ended."""
    return await chat.http.get(f"/restate/invocation/{turn_id.partition('.')[0]}/attach", timeout=30)


def gate() -> str:
    """A closed gate."""
    name = unique("gate")
    gates[name] = asyncio.Event()
    return name


async def waits(chat: ChatClient, name: str) -> None:
    """Wait until the call of the gated tool is stored."""

    async def stored() -> bool:
        history = await chat.send("get_history", "s")
        return history.is_success and name in history.text and "functionCall" in history.text

    await until(stored)


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("existed", [True, False])
async def test_a_queued_turn_of_a_deleted_session_ends_with_404(
    chat: ChatClient, server: RestateServer, *, again: bool, existed: bool
) -> None:
    name, new = gate(), gate()
    if existed:
        await chat.call("create_session", SESSION)
    first = (await chat.call("post", {"message": f"gated {name}", **SESSION}))["turn_id"]
    queued = [(await chat.call("post", {"message": f"queued {n}", **SESSION}))["turn_id"] for n in range(2)]
    waiting = asyncio.create_task(chat.send("message", {"message": "queued 2", **SESSION}))
    await waits(chat, name)
    turns = (
        f"SELECT id FROM sys_invocation WHERE target_handler_name = 'run' AND target_service_key LIKE '{chat.user}/%'"
    )

    async def posted() -> bool:
        return len(await query(server, turns)) == 4

    await until(posted)
    await chat.call("delete_session", SESSION)
    if again:
        await chat.call("create_session", {**SESSION, "state": {"life": 2}})
        next_turn = asyncio.create_task(chat.message("s", f"gated {new}"))
        gates[new].set()
    gates[name].set()
    for turn_id in (first, *queued):
        answer = await ended(chat, turn_id)
        assert (answer.status_code, "was deleted" in answer.text) == (404, True), answer.text
    refused = await waiting
    assert (refused.status_code, "was deleted" in refused.text) == (404, True), refused.text
    if again:
        assert new in await next_turn
        assert (await chat.texts("s"))[0] == f"gated {new}"
        assert [len(event["content"]["parts"]) for event in await chat.call("get_history", "s")] == [1, 1, 1, 1]
        assert (await chat.call("get_session", SESSION))["state"] == {"life": 2}
    else:
        assert (await chat.send("get_history", "s")).status_code == 404


@plain
async def test_a_first_message_is_not_taken_for_deleted_because_another_session_was(chat: ChatClient) -> None:
    name = gate()
    await chat.call("create_session", {"session_id": "other"})
    first = asyncio.create_task(chat.message("s", f"gated {name}"))
    queued = asyncio.create_task(chat.message("s", "queued"))
    await waits(chat, name)
    await chat.call("delete_session", {"session_id": "other"})
    gates[name].set()
    assert name in await first
    assert await queued == "echo queued"
    assert len(await chat.call("get_history", "s")) == 6


@dataclass
class Sent:
    """A message and its answer."""

    tag: str
    began: int
    """How many deletions had been requested before it was sent."""
    done: int
    """How many of them had been answered by then."""
    accepted: int | None = None
    """How many had been requested when it was known to be accepted."""
    status: int = 0
    turn_id: str | None = None


class Client:
    """Sends, deletes and creates at random; two of them share a session."""

    def __init__(self, chat: ChatClient, server: RestateServer, seed: int) -> None:
        self.chat = chat
        self.admin_url = server.admin_url
        self.chance = random.Random(seed)
        self.sent: list[Sent] = []
        self.asked = self.done = 0
        """Requested deletions, and answered ones."""

    async def run(self, steps: int) -> None:
        """Do this many things, and wait for the results."""
        waiting = []
        for _ in range(steps):
            what = self.chance.choices(("send", "delete", "create", "kill"), (6, 2, 2, 1))[0]
            if what == "send":
                waiting.append(asyncio.create_task(self.send()))
            elif what == "delete":
                self.asked += 1
                await self.chat.call("delete_session", SESSION)
                self.done += 1
            elif what == "create":
                answer = await self.chat.send("create_session", SESSION)
                assert answer.status_code in (200, 409), answer.text
            else:
                await self.kill()
            await asyncio.sleep(self.chance.choice((0, 0, 0.02, 0.1)))
        await asyncio.gather(*waiting)

    async def send(self) -> None:
        """Send a message in one of the ways, and record how it ends."""
        name = gate()
        strategy = self.chance.choice(("enqueue", "enqueue", "enqueue", "reject", "interrupt", "rollback"))
        body = {"message": f"gated {name}", "multitask_strategy": strategy, "create": self.chance.random() < 0.7}
        sent = Sent(name, self.asked, self.done)
        self.sent.append(sent)
        asyncio.get_running_loop().call_later(self.chance.choice((0, 0.05, 0.3)), gates[name].set)
        answer = await self.chat.send(self.chance.choice(("message", "post")), {**body, **SESSION})
        sent.status = answer.status_code
        if answer.is_success and isinstance(answer.json(), dict):
            sent.accepted, sent.turn_id = self.asked, answer.json()["turn_id"]
            sent.status = (await ended(self.chat, sent.turn_id)).status_code

    async def kill(self) -> None:
        """Kill one of the posted turns, as an operator would."""
        posted = [sent.turn_id for sent in self.sent if sent.turn_id and not sent.status]
        if posted:
            invocation = self.chance.choice(posted).partition(".")[0]
            async with httpx.AsyncClient() as http:
                await http.patch(f"{self.admin_url}/invocations/{invocation}/kill")

    def audit(self, history: list[Json], texts: str) -> None:
        """Compare what was answered with what is stored."""
        for sent in self.sent:
            said = sent.tag in texts
            assert sent.status in (200, 404, 409, 500), sent
            if sent.accepted is not None and sent.accepted < self.done:
                assert not said, f"{sent} belonged to a session that was deleted"
            if sent.status == 404 and sent.turn_id is not None:
                assert self.asked > sent.done, f"{sent} was refused, and nothing was deleted"
            if sent.status == 200 and sent.began == self.asked:
                of_turn = [event for event in history if self._is_of(event, sent)]
                assert said
                assert sent.turn_id is None or len(of_turn) == 4, f"{sent} is not stored whole: {of_turn}"

    def _is_of(self, event: Json, sent: Sent) -> bool:
        return sent.turn_id is not None and event["id"].startswith(event_id_prefix(sent.turn_id.partition(".")[0]))


async def test_nothing_acknowledged_is_lost_and_nothing_deleted_comes_back(
    chat: ChatClient, server: RestateServer
) -> None:
    async def user(seed: int) -> None:
        client = Client(ChatClient(chat.http, unique("user"), chat.app), server, seed)
        await asyncio.gather(client.run(10), client.run(10))
        # The session accepts the next message, behind everything that was queued.
        assert await client.chat.message("s", "last") == "echo last"
        history = await client.chat.call("get_history", "s")
        assert len({event["id"] for event in history}) == len(history)
        client.audit(history, str(history))

    await asyncio.gather(*(user(seed) for seed in range(8)))


async def test_the_artifacts_of_a_deleted_session_are_gone_and_no_others(
    binary: Path, settings: Settings, tmp_path: Path
) -> None:
    async def late(name: str, tool_context: ToolContext) -> str:
        """Save an artifact when the test says so."""
        await gates[name].wait()
        await tool_context.save_artifact("late.txt", types.Part(text="late"))
        calls[f"tool: {name}"] += 1
        return "saved"

    agent = LlmAgent(name="late", model=ScriptedModel(script=obey), tools=[late])
    artifacts = FileArtifactService(tmp_path)
    service = ChatService(agent, settings=settings, artifact_service=artifacts)

    async def names(session: str) -> list[str]:
        return await artifacts.list_artifact_keys(app_name="late", user_id=chat.user, session_id=session)

    async def save(session: str, name: str) -> None:
        await artifacts.save_artifact(
            app_name="late", user_id=chat.user, session_id=session, filename=name, artifact=types.Part(text=name)
        )

    async with hosting(binary, service.objects) as server, httpx.AsyncClient(base_url=server.ingress_url) as http:
        chat = ChatClient(http, unique("user"))
        for again in (False, True):
            name = gate()
            await chat.call("create_session", SESSION)
            for session, file in (("s", "a.txt"), ("s", "a.txt"), ("s", "user:b.txt"), ("t", "c.txt")):
                await save(session, file)
            turn = (await chat.call("post", {"message": f'call late {{"name": "{name}"}}', **SESSION}))["turn_id"]
            await waits(chat, name)
            await chat.call("delete_session", SESSION)
            assert await names("s") == ["user:b.txt"]
            if again:
                await chat.call("create_session", SESSION)
                await save("s", "new.txt")
            gates[name].set()
            assert (await ended(chat, turn)).status_code == 404
            assert calls[f"tool: {name}"] == 1
            assert await unfinished(server) == []

            async def swept(left: list[str]) -> bool:
                return await names("s") == left

            # The admin API may not have known of the sweep.
            await until(partial(swept, ["late.txt", "new.txt", "user:b.txt"] if again else ["user:b.txt"]))
            assert await names("t") == ["c.txt", "user:b.txt"]
