"""`adk-chat turns`, on the real admin API."""

import asyncio
from functools import partial
from pathlib import Path

import httpx
import pytest
import restate
from click.testing import CliRunner

from adk_chat import ChatService
from adk_chat.cli.main import main
from adk_chat.dev.server import RestateServer
from adk_chat.endpoint import listen, serve
from adk_chat.settings import Settings
from tests.conftest import hosting, plain
from tests.support import ChatClient, gates, scripted_app, unique, until


async def asked(server: RestateServer, *arguments: str) -> tuple[int, str]:
    """The output of the command."""
    command = ["turns", "--admin-url", server.admin_url, *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, main, command)
    return result.exit_code, result.output


@plain
async def test_turns_are_listed_shown_cancelled_and_killed(
    chat: ChatClient, server: RestateServer, gateway: httpx.AsyncClient
) -> None:
    gate = unique("gate")
    gates[gate] = asyncio.Event()
    sent = [await chat.call("post", {"message": f"gated {gate}", "session_id": "a b"}) for _ in range(3)]
    ids = [turn["turn_id"].partition(".")[0] for turn in sent]

    async def listed() -> bool:
        code, said = await asked(server, "list", "--user", chat.user)
        lines = said.splitlines()
        return (code, [line.split()[:2] for line in lines]) == (
            0,
            [[ids[0], "running"], [ids[1], "queued"], [ids[2], "queued"]],
        )

    await until(listed)
    # No wildcards: a name that matches the user's as a pattern is another user's.
    assert (await asked(server, "list", "--user", chat.user.replace("-", "_")))[1] == "No turn is running or waiting.\n"
    _, said = await asked(server, "list", "--user", chat.user)
    assert f"scripted, user {chat.user}, session a b, at http://127.0.0.1:" in said.splitlines()[0]
    path = f"/apps/scripted/users/{chat.user}/sessions/a b/turns"
    rows = (await gateway.get(path)).json()
    assert [(row["status"], row["attempts"]) for row in rows] == [("running", 1), ("queued", 1), ("queued", 1)]

    async def tool_began() -> bool:
        return "tool gated  (not done)" in (await asked(server, "show", sent[0]["turn_id"]))[1]

    await until(tool_began)
    assert await asked(server, "kill", ids[2]) == (0, "Killed.\n")
    assert (await asked(server, "cancel", sent[1]["turn_id"]))[0] == 0
    assert (await asked(server, "cancel", ids[0]))[0] == 0

    async def none() -> bool:
        return await asked(server, "list", "--user", chat.user) == (0, "No turn is running or waiting.\n")

    await until(none)
    code, said = await asked(server, "kill", ids[0])
    assert (code, said) == (1, "Error: The turn has already ended.\n")
    code, said = await asked(server, "show", "nonsense' OR 1=1 --")
    assert (code, "No such turn" in said) == (1, True)


@plain
async def test_attempts_of_a_model_are_shown_by_any_id_of_the_turn(
    chat: ChatClient, server: RestateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_API_KEY", "none")
    body = {"message": "hello", "session_id": "s", "app_name": "unreachable"}
    sent = (await chat.call("message/send", body))["invocationId"]

    async def ended() -> bool:
        return "ended with: [502]" in (await asked(server, "show", sent))[1]

    await until(ended)
    _, said = await asked(server, "show", sent)
    models = [line.strip().partition("  (failed: ") for line in said.splitlines() if "  model " in line]
    assert [model[0] for model in models] == [
        "model unreachable (gemini-2.5-flash)",
        "model unreachable (gemini-2.5-flash), attempt 2",
        "model unreachable (gemini-2.5-flash), attempt 3",
    ]
    assert all(model[2].startswith("ClientConnectorError: Cannot connect to host 127.0.0.1:1") for model in models)


async def test_an_old_version_is_drained_and_taken_away(binary: Path, settings: Settings) -> None:
    def version() -> list[restate.VirtualObject]:
        return ChatService(scripted_app("scripted"), settings=settings).objects

    stop = asyncio.Event()
    async with hosting(binary, version()) as server, httpx.AsyncClient(base_url=server.ingress_url) as http:
        chat, gate = ChatClient(http, unique("user")), unique("gate")
        gates[gate] = asyncio.Event()
        await chat.call("post", {"message": f"gated {gate}", "session_id": "s"})

        async def deployments(*arguments: str) -> tuple[int, str]:
            command = ["deployments", *arguments, "--admin-url", server.admin_url]
            result = await asyncio.to_thread(CliRunner().invoke, main, command)
            return result.exit_code, result.output

        async def runs(given: str) -> bool:
            # Its handlers that store something come and go.
            return f"{given}; 1 turn not ended" in (await deployments("list"))[1]

        await until(partial(runs, "new calls of AppState, Chat, Turn"))
        _, said = await deployments("list")
        old, url = said.split()[:2]
        for command in ("drain", "remove"):
            code, said = await deployments(command, url)
            assert (code, "Register its replacement first." in said) == (1, True), said
        with listen("127.0.0.1", 0) as listening:
            serving = asyncio.create_task(serve(version(), listening, stop))
            await server.register(f"http://127.0.0.1:{listening.getsockname()[1]}")
            await until(partial(runs, "replaced"))
            assert f", at {url}\n" in (await asked(server, "list"))[1]
            code, said = await deployments("remove", old)
            assert (code, "wait with adk-chat deployments drain" in said) == (1, True), said
            code, said = await deployments("drain", url, "--timeout", "0")
            assert (code, f"1 turn not ended at {url} after 0 s" in said) == (1, True), said
            draining = asyncio.create_task(deployments("drain", url))
            gates[gate].set()
            code, said = await draining
            assert (code, said.splitlines()[-1]) == (
                0,
                f"Nothing is running at {url} any more. Its processes can be stopped.",
            )
            assert await deployments("remove", url + "/") == (0, f"{url} was removed.\n")
            assert old not in (await deployments("list"))[1]
            assert (await deployments("drain", old))[0] == 1
            stop.set()
            await serving


def test_nobody_at_the_admin_api_is_said_in_a_line() -> None:
    with listen("127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    for where in (url, "nonsense"):
        for command in (["turns", "--admin-url", where, "list"], ["turns", "list", "--admin-url", where]):
            result = CliRunner().invoke(main, command, env={"ADK_CHAT_ADMIN_URL": "http://127.0.0.1:1"})
            assert where in result.output
            assert (result.exit_code, "Use --admin-url to say where it is" in result.output) == (1, True)
