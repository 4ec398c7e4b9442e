"""Several processes on one port, real ones, killed with SIGKILL."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from adk_chat.process import guard
from tests.conftest import free_port
from tests.loud_agent import LOUD
from tests.support import until


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def is_up(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


@asynccontextmanager
async def started(*arguments: str, log_format: str = "text") -> AsyncIterator[asyncio.subprocess.Process]:
    """`adk-chat`, running meanwhile."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adk_chat", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=2 * len(LOUD),
        env={**os.environ, "PYTHONUNBUFFERED": "1", "ADK_CHAT_LOG_FORMAT": log_format},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def read_until(process: asyncio.subprocess.Process, text: str) -> str:
    """The output of a process, up to the line with that text."""
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(60):
        while text not in said:
            line = (await process.stdout.readline()).decode()
            assert line, said
            said += line
    return said


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
async def test_one_that_dies_is_begun_again_and_all_end_together() -> None:
    port = free_port()

    def workers() -> list[int]:
        return [worker for guard in children(process.pid) for worker in children(guard)]

    async def both_run() -> bool:
        return len(workers()) == 2

    async with (
        started(
            *("serve", "tests.loud_agent:app", "--endpoint-port", str(port), "--workers=2"), log_format="json"
        ) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as anybody,
    ):
        # Everything that each of them prints comes out, whole.
        said = await read_until(process, LOUD + "1")
        assert (said.count("Serving"), said.count(LOUD + "0\n")) == (1, 1)
        first, *_ = [json.loads(line) for line in said.splitlines() if not line.startswith(LOUD)]
        assert (first["level"], first["message"].split()[0]) == ("INFO", "Serving")
        await until(both_run)
        before = workers()
        os.kill(before[1], signal.SIGKILL)
        await read_until(process, "Process 2 of 2 ended with code")
        assert (await anybody.get("/health")).status_code == 200
        await until(both_run)
        now = workers()
        assert now[0] == before[0]
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
        assert not any(map(is_up, now))


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
async def test_what_cannot_serve_says_so_once() -> None:
    command = ("web", "tests.nothing:app", "--port", str(free_port()), "--workers", "2")
    async with started(*command, log_format="json") as process:
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1
        lines = [json.loads(line) for line in said.splitlines()]
        assert {line["level"] for line in lines} == {"ERROR"}
        assert said.decode().count("cannot be loaded") == 1


STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


async def test_what_is_busy_does_not_outlive_who_was_killed() -> None:
    command = (sys.executable, guard.__file__, "--grace", "60", "--orphaned", "0", sys.executable, "-c", STUBBORN)
    orphan = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert orphan.stdout is not None
    assert orphan.stdin is not None
    await orphan.stdout.readline()
    orphan.stdin.close()
    assert await asyncio.wait_for(orphan.wait(), 20) != 0
