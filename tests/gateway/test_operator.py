"""`adk-chat turns`, on the real admin API."""

import asyncio

import httpx
from click.testing import CliRunner

from adk_chat.cli import main
from adk_chat.dev.server import RestateServer
from adk_chat.endpoint import listen
from tests.conftest import plain
from tests.support import ChatClient, gates, unique, until


async def asked(server: RestateServer, *arguments: str) -> tuple[int, str]:
    """What the command says."""
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
    # No wildcards: one that is like the user's name is another user's.
    assert (await asked(server, "list", "--user", chat.user.replace("-", "_")))[1] == "No turn runs or waits.\n"
    _, said = await asked(server, "list", "--user", chat.user)
    assert said.splitlines()[0].endswith(f"scripted, user {chat.user}, session a b")
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
        return await asked(server, "list", "--user", chat.user) == (0, "No turn runs or waits.\n")

    await until(none)
    code, said = await asked(server, "kill", ids[0])
    assert (code, said) == (1, "Error: It has ended already.\n")
    code, said = await asked(server, "show", "nonsense' OR 1=1 --")
    assert (code, "is no turn" in said) == (1, True)


async def test_nobody_at_the_admin_api_is_said_in_a_line() -> None:
    with listen("127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    for where in (url, "nonsense"):
        result = CliRunner().invoke(main, ["turns", "--admin-url", where, "list"])
        assert (result.exit_code, "say with --admin-url where it is" in result.output) == (1, True), result.output
