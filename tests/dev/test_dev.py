"""`adk-chat dev`, as somebody at a terminal sees it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from adk_chat.cli import main
from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.npm import InstallError
from adk_chat.endpoint import listen
from tests.conftest import free_port
from tests.support import ChatClient, until

AGENT = """
from google.adk.agents.llm_agent import LlmAgent
from tests.support import ScriptedModel, obey

root_agent = LlmAgent(name="mine", model=ScriptedModel(script=obey))
"""


class Dev:
    """A running `adk-chat dev`."""

    def __init__(self, process: asyncio.subprocess.Process, ingress: int, port: int) -> None:
        self.process = process
        self.ingress = ingress
        self.port = port
        self.said = ""

    async def read_until(self, text: str) -> None:
        """Read what it says until it says `text`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            while text not in self.said:
                line = await self.process.stdout.readline()
                assert line, self.said
                self.said += line.decode()

    async def server_is_gone(self) -> None:
        """Wait until nobody answers at the ingress."""

        async def gone() -> bool:
            try:
                listen("127.0.0.1", self.ingress).close()
            except Exception:
                return False
            return True

        await until(gone, 10)


@asynccontextmanager
async def dev(directory: Path, *arguments: str) -> AsyncIterator[Dev]:
    ingress, port = free_port(), free_port()
    others = ("--admin-port", "--endpoint-port")
    ports = (
        "--ingress-port",
        str(ingress),
        "--port",
        str(port),
        *(said for name in others for said in (name, str(free_port()))),
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adk_chat.cli", "dev", *ports, "--data-dir", str(directory), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "GOOGLE_API_KEY": ""},
    )
    started = Dev(process, ingress, port)
    try:
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await started.server_is_gone()


async def talk(running: Dev, *texts: str) -> list[str]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.ingress}", timeout=30) as http:
        return [await ChatClient(http, "user123").message("session-123", text) for text in texts]


async def test_a_conversation_survives_restarts_of_any_kind(binary: Path, tmp_path: Path) -> None:
    async with dev(tmp_path) as first:
        await first.read_until("Ctrl-C stops it")
        assert "the offline demo model" in first.said
        assert f"curl localhost:{first.ingress}/Chat/user123/message --json" in first.said
        poem, short = await talk(first, "Make a poem about durable execution.", "Shorten it to 2 lines.")
        assert short.splitlines() == poem.splitlines()[:2]
        first.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(first.process.wait(), 10) == 0
        await first.server_is_gone()
    async with dev(tmp_path) as second:
        await second.read_until("Ctrl-C stops it")
        (again,) = await talk(second, "Shorten it to 2 lines.")
        assert again == short
        second.process.kill()
        await second.process.wait()
        await second.server_is_gone()
    async with dev(tmp_path) as third:
        await third.read_until("Ctrl-C stops it")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{third.ingress}", timeout=30) as http:
            assert len(await ChatClient(http, "user123").call("get_history", "session-123")) == 6
        third.process.terminate()
        assert await asyncio.wait_for(third.process.wait(), 10) == 0


async def test_an_agent_of_ones_own_and_a_second_copy(binary: Path, tmp_path: Path) -> None:
    agent = tmp_path / "mine"
    agent.mkdir()
    (agent / "agent.py").write_text(AGENT)
    async with dev(tmp_path / "data", str(agent), "--replay-always") as first:
        await first.read_until("Ctrl-C stops it")
        assert "adk_chat is ready: mine with" in first.said
        assert await talk(first, "hello") == ["echo hello"]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{first.port}", timeout=30) as web:
            assert (await web.get("/list-apps")).json() == ["mine"]
            page = await web.get("/", follow_redirects=True)
            assert (page.is_success, page.url.path) == (True, "/dev-ui/")
            assert "<app-root" in page.text
            events = (await web.get("/apps/mine/users/user123/sessions/session-123")).json()["events"]
            assert [event["content"]["parts"][0]["text"] for event in events] == ["hello", "echo hello"]
        async with dev(tmp_path / "data") as second:
            assert await second.process.wait() == 1
            await second.read_until(f"is in use by another adk-chat (process {first.process.pid})")


async def test_a_taken_port_is_said_clearly(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        async with dev(tmp_path, "--admin-port", str(taken.getsockname()[1])) as refused:
            assert await refused.process.wait() == 1
            await refused.read_until("choose another with --admin-port.")
            assert len(refused.said.strip().splitlines()) == 1


async def test_an_agent_that_cannot_be_used_is_said_in_a_line(tmp_path: Path) -> None:
    async with dev(tmp_path, "nowhere") as refused:
        assert await refused.process.wait() == 1
        await refused.read_until("nowhere is neither a directory nor package.module:attribute.")
        assert len(refused.said.strip().splitlines()) == 1, refused.said


@pytest.mark.parametrize(
    ("agent", "said"),
    [
        ("no.such.module:app", "no.such.module:app cannot be loaded: ModuleNotFoundError: No module named 'no'"),
        ("json:nothing", "json has no nothing."),
        ("json:dumps", "dumps is a function; it must be an agent or an App of ADK."),
        (".", ". has no agent.py."),
        ("tests.dev.test_dev:unknown_model", "cannot be loaded: ValueError: Model no-such-model not found."),
    ],
)
def test_what_is_wrong_with_an_agent_is_said_clearly(agent: str, said: str) -> None:
    refused = CliRunner().invoke(main, ["dev", agent])
    assert refused.exit_code == 1
    assert said in refused.output
    assert len(refused.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("npm", "sentence"),
    [
        (
            "echo 'npm error code E1\nnpm error request failed\nnpm error log: x' >&2; exit 1",
            r"\(request failed\)\. Check",
        ),
        (
            'while [ "$1" != --pack-destination ]; do shift; done; echo other > "$2/package.tgz"',
            "is not what it was: its",
        ),
    ],
    ids=["no network", "another content"],
)
def test_what_cannot_be_installed_is_said_clearly_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npm: str, sentence: str
) -> None:
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{npm}\n")
    program.chmod(0o755)
    monkeypatch.delenv("RESTATE_SERVER_BIN", raising=False)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said: list[str] = []
    with pytest.raises(InstallError, match=sentence):
        find_restate_server(said.append)
    assert said[0].startswith("Installing restate-server")
    assert list((tmp_path / "adk-chat").iterdir()) == []


def test_the_binary_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "my-restate"
    monkeypatch.setenv("RESTATE_SERVER_BIN", str(named))
    with pytest.raises(InstallError, match="not an executable file"):
        find_restate_server(print)
    named.touch(0o755)
    assert find_restate_server(print) == named


def __getattr__(name: str) -> object:
    if name == "unknown_model":
        from google.adk.agents.llm_agent import LlmAgent

        return LlmAgent(name="unknown", model="no-such-model")
    raise AttributeError(name)
