"""Real processes, killed with SIGKILL: nothing acknowledged is lost, and nothing finished is repeated."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from click.testing import CliRunner

from adk_chat.cli.main import main
from adk_chat.dev.server import RestateServer
from tests.conftest import free_port, unfinished
from tests.support import ChatClient, unique, until


class Machine:
    """A restate-server and an endpoint, each a process that can be killed and restarted in place."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self.directory = directory
        self.ingress, self.admin, self.endpoint_port = free_port(), free_port(), free_port()
        self._binary = binary
        self._endpoint: asyncio.subprocess.Process | None = None
        self.version = ""
        self.server = self._server()

    def _server(self) -> RestateServer:
        return RestateServer(self._binary, self.directory, self.ingress, self.admin)

    async def start_endpoint(self, version: str = "1", http: str = "hypercorn") -> None:
        """Start `adk-chat serve` with a version of the agent, on an HTTP server, and wait until it serves."""
        self.version = version
        arguments = ("tests.crash_agent:app", "--endpoint-port", str(self.endpoint_port))
        self._endpoint = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adk_chat", "serve", *arguments),
            *("--register", self.server.admin_url, "--force", "--server", http),
            env={**os.environ, "CRASH_DIR": str(self.directory), "CRASH_VERSION": version, "PYTHONUNBUFFERED": "1"},
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._endpoint.stdout is not None
        line = await asyncio.wait_for(self._endpoint.stdout.readline(), 60)
        assert line.startswith(b"Serving"), line

    async def kill_endpoint(self) -> None:
        """SIGKILL, unless it is dead already."""
        assert self._endpoint is not None
        if self._endpoint.returncode is None:
            self._endpoint.kill()
        await self._endpoint.wait()

    async def endpoint_is_dead(self) -> None:
        """Wait until the endpoint has died by itself."""
        assert self._endpoint is not None
        assert await asyncio.wait_for(self._endpoint.wait(), 30) == -signal.SIGKILL

    async def restart_server(self) -> None:
        """SIGKILL restate-server and restart it on the same data."""
        os.kill(self.server.pid, signal.SIGKILL)
        await self.server.__aexit__(None, None, None)
        self.server = self._server()
        await self.server.__aenter__()

    def log(self, about: str) -> list[str]:
        """What the agent recorded about a message."""
        file = self.directory / "log"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line.removesuffix(about).strip() for line in lines if line.endswith(about)]

    async def noted(self, line: str) -> None:
        """Wait until the agent has recorded something."""

        async def there() -> bool:
            file = self.directory / "log"
            return file.exists() and line in file.read_text().splitlines()

        await until(there)

    def open(self, name: str) -> None:
        """Let the agent continue that waits for `name`."""
        (self.directory / name).touch()


@asynccontextmanager
async def running(machine: Machine) -> AsyncIterator[Machine]:
    await machine.server.__aenter__()
    try:
        await machine.start_endpoint()
        yield machine
        left = await unfinished(machine.server)
    finally:
        await machine.kill_endpoint()
        await machine.server.__aexit__(None, None, None)
    assert not left, f"left behind: {left}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def machine(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Machine]:
    async with running(Machine(binary, tmp_path_factory.mktemp("machine"))) as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def user(machine: Machine) -> AsyncIterator[ChatClient]:
    async with httpx.AsyncClient(base_url=machine.server.ingress_url, timeout=60) as http:
        yield ChatClient(http, unique("user"))


@pytest.mark.parametrize(
    ("verb", "killed_at", "noted"),
    [
        ("model", "begin model", ["begin model", "begin model", "end model"]),
        ("tool", "begin tool", ["begin model", "end model", "begin tool", "begin tool", "end tool"]),
    ],
)
async def test_the_endpoint_is_killed_during_a_call(
    machine: Machine, user: ChatClient, verb: str, killed_at: str, noted: list[str]
) -> None:
    name = unique("gate")
    text = f"{verb} {name}"
    turn = asyncio.create_task(user.message("s", text))
    await machine.noted(f"{killed_at} {text}")
    await machine.kill_endpoint()
    machine.open(name)
    # It continues with another model, instruction, tool and callback: what was done stays done.
    await machine.start_endpoint("1" if machine.version == "2" else "2")
    assert await turn == f"echo {text if verb == 'model' else 'work'}"
    assert machine.log(text) == noted
    assert len(await user.call("get_history", "s")) == (2 if verb == "model" else 4)


async def test_a_turn_whose_endpoint_is_gone_is_resumed_at_the_newest(machine: Machine, user: ChatClient) -> None:
    name = unique("gate")
    text = f"tool {name}"
    turn = (await user.call("post", {"message": text, "session_id": "s"}))["turn_id"]
    await machine.noted(f"begin tool {text}")
    await machine.kill_endpoint()
    machine.endpoint_port = free_port()
    machine.open(name)
    await machine.start_endpoint()
    resume = ["turns", "--admin-url", machine.server.admin_url, "resume", turn]
    result = await asyncio.to_thread(CliRunner().invoke, main, [*resume, "--newest"])
    assert (result.exit_code, result.output) == (0, "Resumed.\n")

    async def answered() -> bool:
        history = await user.send("get_history", "s")
        return history.is_success and "echo work" in history.text

    await until(answered)
    assert machine.log(text) == ["begin model", "end model", "begin tool", "begin tool", "end tool"]
    result = await asyncio.to_thread(CliRunner().invoke, main, resume)
    assert (result.exit_code, result.output) == (1, "Error: The turn has already ended.\n")


async def test_the_endpoint_is_killed_between_model_and_tool(machine: Machine, user: ChatClient) -> None:
    text = f"between {unique()}"
    turn = asyncio.create_task(user.message("s", text))
    await machine.endpoint_is_dead()
    await machine.start_endpoint()
    assert await turn == "echo work"
    assert machine.log(text) == ["begin model", "end model", "begin tool", "end tool"]
    assert len(await user.call("get_history", "s")) == 4


@pytest.mark.parametrize("verb", ["model", "tool"])
async def test_restate_server_is_killed_during_a_turn(machine: Machine, user: ChatClient, verb: str) -> None:
    name = unique("gate")
    text = f"{verb} {name}"
    key = {"idempotency-key": name}
    asked = {"message": text, "session_id": "s"}
    turn = asyncio.create_task(user.send("message", asked, **key))
    await machine.noted(f"begin {verb} {text}")
    await machine.restart_server()
    with pytest.raises(httpx.TransportError):
        await turn
    machine.open(name)
    # The turn needs no client. A repeated request with the same key gets its answer.
    await machine.noted(f"end {verb} {text}")
    answers = [await user.call("message", asked, **key) for _ in range(2)]
    assert answers == [f"echo {text if verb == 'model' else 'work'}"] * 2
    assert machine.log(text).count("end model") == 1
    assert len(await user.call("get_history", "s")) == (2 if verb == "model" else 4)


async def test_posts_keep_their_order_across_a_kill(machine: Machine, user: ChatClient) -> None:
    name = unique("gate")
    texts = [f"model {name}", *(f"say {number}" for number in range(6))]
    for text in texts[:4]:
        await user.call("post", {"message": text, "session_id": "s"})
    await machine.noted(f"begin model {texts[0]}")
    await machine.kill_endpoint()
    posting = [
        asyncio.create_task(user.send("post", {"message": text, "session_id": "s"}, **{"idempotency-key": text + name}))
        for text in texts[4:5]
    ]
    await machine.start_endpoint()
    await asyncio.gather(*posting)
    for text in texts[5:]:
        await user.call("post", {"message": text, "session_id": "s"})
    machine.open(name)

    async def all_there() -> bool:
        history = await user.send("get_history", "s")
        return history.is_success and len(history.json()) == 2 * len(texts)

    await until(all_there, 30)
    assert await user.texts("s") == [said for text in texts for said in (text, f"echo {text}")]


@pytest.mark.parametrize("http", ["hypercorn", "granian"])
async def test_sigterm_drains_and_restate_goes_on_elsewhere(machine: Machine, user: ChatClient, http: str) -> None:
    name = unique("gate")
    if http != "hypercorn":
        await machine.kill_endpoint()
        await machine.start_endpoint(http=http)
    turn = asyncio.create_task(user.message("s", f"model {name}"))
    await machine.noted(f"begin model model {name}")
    assert machine._endpoint is not None
    machine._endpoint.terminate()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{machine.endpoint_port}") as anybody:

        async def drains() -> bool:
            return (await anybody.get("/discover")).status_code == 503

        await until(drains)
    assert machine._endpoint.returncode is None, "it lets running handlers end"
    machine.open(name)
    await asyncio.wait_for(machine._endpoint.wait(), 10)
    await machine.start_endpoint()
    assert await turn == f"echo model {name}"
    assert machine.log(f"model {name}") == ["begin model", "end model"]
