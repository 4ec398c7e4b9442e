"""The package in an environment of its own, outside the checkout, and the production stack that it runs."""

import asyncio
import json
import os
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from adk_chat.endpoint import PortTakenError, listen
from tests.deploy.prometheus import Prometheus
from tests.programs import find_redis_server
from tests.support import until

ROOT = Path(__file__).parents[2]
AGENT = """
from adk_chat.agents.assistant import assistant

root_agent = assistant("demo").root_agent
"""
JOB = {"session_id": "job", "message": "Do a slow job with 2 steps."}
"""A message whose turn takes four seconds."""
PORTS = (5122, 6379, 8000, 8001, 8080, 9070, 9080, 9081, *range(9464, 9478))


async def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command that has to succeed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return said


@pytest.fixture(scope="module")
async def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `make dist` builds."""
    directory = tmp_path_factory.mktemp("dist")
    await run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory, cwd=ROOT)
    (wheel,) = directory.iterdir()
    return wheel


@pytest.fixture(scope="module")
async def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the commands of an environment with the wheel. What it depends on is taken from the tests'."""
    home = tmp_path_factory.mktemp("home")
    await run(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    bin_ = home / "venv" / "bin"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", bin_ / "python")
    await run(*pip, "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=home)
    (site,) = (home / "venv").rglob("site-packages")
    (site / "tests.pth").write_text(sysconfig.get_path("purelib"))
    return bin_


def test_the_wheel_has_every_file_and_all_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
        (metadata,) = (packed.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    files = (path for path in (ROOT / "adk_chat").rglob("*") if path.is_file() and path.suffix != ".pyc")
    assert {str(path.relative_to(ROOT)) for path in files} == {name for name in names if name.startswith("adk_chat/")}
    for extra in ("otel", "granian", "prometheus", "a2a"):
        assert f"Provides-Extra: {extra}\n" in metadata


class Stack:
    """`deploy/stack.py`, run from a directory outside the checkout."""

    def __init__(self, commands: Path, home: Path) -> None:
        self._home = home
        self._python = commands / "python"
        self._offset = next(offset for offset in range(20_000, 40_000, 50) if _free(port + offset for port in PORTS))
        redis = find_redis_server(lambda _: None)
        (home / "bin").mkdir()
        (home / "bin" / "redis-server").symlink_to(redis)
        self.prometheus = Prometheus(home, self._offset)
        self.ingress = self._client(8080)
        self.gateways = [self._client(8000), self._client(8001)]

    def _client(self, port: int) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port + self._offset}", timeout=30)

    async def __call__(self, *arguments: str) -> str:
        script, offset = ROOT / "deploy" / "stack.py", str(self._offset)
        path = f"{self._home / 'bin'}:{os.environ['PATH']}"
        return await run(self._python, script, "--offset", offset, *arguments, cwd=self._home, PATH=path)

    async def events(self, session: str) -> list[dict[str, Any]]:
        """The stored events of a session of Ada's."""
        answer = await self.ingress.post("/Chat/ada/get_history", json=session)
        found: list[dict[str, Any]] = answer.json() if answer.is_success else []
        return found


def _free(ports: Iterable[int]) -> bool:
    try:
        for port in ports:
            listen("127.0.0.1", port).close()
    except PortTakenError:
        return False
    return True


async def test_a_stack_is_upgraded_and_restored_and_its_turns_go_on(installed: Path, tmp_path: Path) -> None:
    stack = Stack(installed, tmp_path)
    (tmp_path / "my_agent").mkdir()
    (tmp_path / "my_agent" / "agent.py").write_text(AGENT)
    where = await run(installed / "python", "-c", "import adk_chat; print(adk_chat.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(installed.parent)
    try:
        await stack("up", "my_agent")
        await stack.prometheus.start()
        token = (await stack("token", "ada")).strip()
        for gateway in stack.gateways:
            assert (await gateway.get("/list-apps")).status_code == 401
            gateway.headers["authorization"] = f"Bearer {token}"
            assert (await gateway.get("/apps/my_agent/users/bob/sessions")).status_code == 403
        said = await say(stack, "short", "hello")
        assert await stack.prometheus.unanswered() == []

        await stack.ingress.post("/Chat/ada/message/send", json=JOB)
        await until(lambda: began(stack))
        await stack("backup", "copy")
        assert "can be stopped" in await stack("upgrade", "my_agent")
        assert await done(stack), "the old endpoints are stopped when their turns have ended"

        await say(stack, "short", "said after the backup")
        await stack("down")
        shutil.rmtree(tmp_path / "stack")
        await stack("restore", "copy")
        await stack("up")
        assert await stack.events("short") == said
        await until(lambda: done(stack), 30)
        assert json.dumps(await stack.events("job")).count("functionCall") == 1
    finally:
        await stack.prometheus.kill()
        await stack("down")


async def say(stack: Stack, session: str, text: str) -> list[dict[str, Any]]:
    """The events of a session after another turn, through a gateway."""
    await stack.gateways[0].post(f"/apps/my_agent/users/ada/sessions/{session}")
    message = {"appName": "my_agent", "userId": "ada", "sessionId": session, "newMessage": {"parts": [{"text": text}]}}
    (await stack.gateways[1].post("/run", json=message)).raise_for_status()
    return await stack.events(session)


async def began(stack: Stack) -> bool:
    return len(await stack.events("job")) >= 2


async def done(stack: Stack) -> bool:
    return "Done, 2 steps" in json.dumps(await stack.events("job"))
