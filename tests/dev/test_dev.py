"""`adk-chat dev`, as seen at a terminal."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from adk_chat.cli.commands import DEV_DRAIN_SECONDS
from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.npm import InstallError
from adk_chat.dev.server import RestateServer
from adk_chat.endpoint import listen
from tests.conftest import free_port
from tests.support import ChatClient, until

ROOT = Path(__file__).parents[2]
NO_PROXY_THERE = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:9")
"""Nothing answers there. What runs on this machine needs no proxy."""
AGENT = """
from google.adk.agents.llm_agent import LlmAgent
from tests.support import ScriptedModel, obey

root_agent = LlmAgent(name="mine", model=ScriptedModel(script=obey))
"""
SLOW_AGENT = """
import os
import tempfile
import time
from pathlib import Path

from google.adk.agents.llm_agent import LlmAgent
from tests.support import ScriptedModel, obey

HERE = Path(__file__).parent
os.chdir(tempfile.mkdtemp(dir=HERE))


def block() -> str:
    (HERE / "began").touch()
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return "unblocked"


root_agent = LlmAgent(name="slow", model=ScriptedModel(script=obey), tools=[block])
"""


class Dev:
    """A running `adk-chat dev`."""

    def __init__(self, process: asyncio.subprocess.Process, ingress: int, port: int) -> None:
        self.process = process
        self.ingress = ingress
        self.port = port
        self.said = ""

    async def read_until(self, text: str) -> None:
        """Read its output until it contains `text`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(90):
            while text not in self.said:
                line = await self.process.stdout.readline()
                assert line, self.said
                self.said += line.decode()

    async def server_is_gone(self) -> None:
        """Wait until the ingress does not answer any more."""

        async def gone() -> bool:
            try:
                listen("127.0.0.1", self.ingress).close()
            except Exception:
                return False
            return True

        await until(gone, 10)


@asynccontextmanager
async def dev(
    directory: Path, *arguments: str, cwd: Path | None = None, endpoint: int | None = None
) -> AsyncIterator[Dev]:
    ingress, port = free_port(), free_port()
    given = {"ingress": ingress, "": port, "admin": free_port(), "endpoint": endpoint or free_port()}
    ports = [said for name, number in given.items() for said in (f"--{name}-port".replace("---", "--"), str(number))]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adk_chat", "dev", *ports, "--data-dir", str(directory), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **NO_PROXY_THERE, "PYTHONUNBUFFERED": "1", "GOOGLE_API_KEY": "", "PYTHONPATH": str(ROOT)},
        cwd=cwd,
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


async def talk_badly(running: Dev, text: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.ingress}", timeout=30) as http:
        answer = await ChatClient(http, "user123").send("message", {"message": text, "session_id": "session-123"})
        assert answer.status_code == 500


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
        assert third.process.stdout is not None
        said = await asyncio.wait_for(third.process.stdout.read(), 10)
        assert await third.process.wait() == 0, said.decode()


async def test_it_stops_in_time_whatever_runs_and_goes_on_at_the_next_start(binary: Path, tmp_path: Path) -> None:
    agent = tmp_path / "slow"
    agent.mkdir()
    (agent / "agent.py").write_text(SLOW_AGENT)
    # Running turns continue at the URL where they began.
    start = partial(dev, Path("data"), str(agent), cwd=tmp_path, endpoint=free_port())

    async def began() -> bool:
        return (agent / "began").exists()

    async with start() as first:
        await first.read_until("Ctrl-C stops it")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{first.ingress}", timeout=30) as http:
            await ChatClient(http, "user123").call("post", {"message": "call block {}", "session_id": "s"})
        await until(began)
        stopping = time.monotonic()
        first.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.process.wait(), 20) == 0
        assert time.monotonic() - stopping < DEV_DRAIN_SECONDS + 2  # one to end in, and one for a busy machine
        await first.server_is_gone()
    (agent / "began").unlink()
    async with start() as second:
        await second.read_until("Ctrl-C stops it")
        await until(began)
        second.process.send_signal(signal.SIGINT)
        await second.read_until("Stopping")
        second.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(second.process.wait(), 1) == 128 + signal.SIGINT
        await second.server_is_gone()
    (agent / "go").touch()
    async with start() as third:
        await third.read_until("Ctrl-C stops it")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{third.ingress}", timeout=30) as http:
            chat = ChatClient(http, "user123")

            async def answered() -> bool:
                return "got {'result': 'unblocked'}" in await chat.texts("s")

            await until(answered)
        await talk_badly(third, "error")
        await third.read_until("ValueError: the model is out of order")
        assert third.said.count("Traceback") == 1
        assert "google/adk" not in third.said


async def test_serve_waits_for_a_restate_that_is_coming_up(binary: Path, tmp_path: Path) -> None:
    server = RestateServer(binary, tmp_path, free_port(), free_port())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adk_chat", "serve", "--endpoint-port", "0", "--register", server.admin_url),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **NO_PROXY_THERE, "PYTHONUNBUFFERED": "1", "GOOGLE_API_KEY": ""},
    )
    serving = Dev(process, int(server.ingress_url.rpartition(":")[2]), 0)
    try:
        await serving.read_until("Waiting for it ...")
        async with server:
            await serving.read_until(f" with the Restate at {server.admin_url}.")
            (poem,) = await talk(serving, "Make a poem.")
            assert "journal" in poem
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_ones_own_agent(binary: Path, tmp_path: Path) -> None:
    agent = tmp_path / "mine"
    agent.mkdir()
    (agent / "agent.py").write_text(AGENT)
    async with dev(agent / "d", str(agent), "--replay-always", "--reload") as first:
        await first.read_until("Ctrl-C stops it")
        assert "adk_chat is ready: mine with" in first.said
        assert await talk(first, "hello") == ["echo hello"]
        await first.read_until("The turn was answered")
        # Each once, however much was replayed.
        lines = first.said.splitlines()
        assert [line.partition("user123/mine/session-123]: ")[2][:16] for line in lines if "adk_chat.turn" in line] == [
            "The turn starts.",
            "The turn was ans",
        ]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{first.port}", timeout=30) as web:
            assert (await web.get("/list-apps")).json() == ["mine"]
            page = await web.get("/", follow_redirects=True)
            assert (page.is_success, page.url.path) == (True, "/dev-ui/")
            assert "<app-root" in page.text
            events = (await web.get("/apps/mine/users/user123/sessions/session-123")).json()["events"]
            assert [event["content"]["parts"][0]["text"] for event in events] == ["hello", "echo hello"]
            # Its own writes are no changes of the agent.
            artifact = {"filename": "a.txt", "artifact": {"text": "kept"}}
            path = "/apps/mine/users/user123/sessions/session-123/artifacts"
            assert (await web.post(path, json=artifact)).is_success
        async with dev(agent / "d") as second:
            assert await second.process.wait() == 1
            await second.read_until(f"is in use by another adk-chat (process {first.process.pid})")
        (agent / "agent.py").write_text("broken =")
        await first.read_until("SyntaxError")
        assert [line for line in first.said.splitlines() if "Reloading" in line] == [
            "Reloading after changes: agent.py"
        ]
        first.said = ""
        (agent / "agent.py").write_text(AGENT.replace('name="mine"', 'name="mine", instruction="Be new."'))
        await first.read_until("Ctrl-C stops it")
        assert "Be new." in (await talk(first, "instruction"))[0]
        first.process.terminate()
        assert await asyncio.wait_for(first.process.wait(), 10) == 0


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
    ("npm", "sentence"),
    [
        (
            "echo 'npm error code E1\nnpm error request failed\nnpm error log: x' >&2; exit 1",
            r"\(request failed\)\. Check",
        ),
        (
            'while [ "$1" != --pack-destination ]; do shift; done; echo other > "$2/package.tgz"',
            "does not have the expected content: its",
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


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESTATE_SERVER_BIN", raising=False)
    monkeypatch.setenv("PATH", "/bin")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InstallError, match=r"cannot be installed into .*: Not a directory. Name another"):
        find_restate_server(lambda _: None)


def test_the_binary_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "my-restate"
    monkeypatch.setenv("RESTATE_SERVER_BIN", str(named))
    with pytest.raises(InstallError, match="not an executable file"):
        find_restate_server(print)
    named.touch(0o755)
    assert find_restate_server(print) == named
