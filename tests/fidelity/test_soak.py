"""Randomly composed agents whose attempts break off and which are cancelled: every turn ends, and nothing is left."""

import asyncio
import gc
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import httpx

from adk_chat.dev.server import RestateServer
from adk_chat.durable.journal import locks
from adk_chat.durable.journal.attempt import Attempt
from tests.conftest import free_port, query, unfinished
from tests.fidelity import run
from tests.fidelity.comparison import plain
from tests.fidelity.harness import Service
from tests.fidelity.scenarios.composed import COMPOSED, SEED
from tests.support import ChatClient, unique

SECONDS = 5
USERS = 4
KILLS = 4
"""Restate waits longer before each retry: with four in a row, four seconds in all."""
END_SECONDS = 20


@plain
async def test_whatever_is_composed_ends(service: Service) -> None:
    await soak(service.http)
    left = await query(service.server, "SELECT id, status FROM sys_invocation WHERE status != 'completed'")
    assert not left
    gc.collect()
    attempts = [one for one in gc.get_objects() if isinstance(one, Attempt)]
    assert not [task for attempt in attempts for task in attempt.tasks if not task.done()]
    assert not locks._holders


async def test_whatever_is_composed_ends_whose_process_is_killed(binary: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with (
            RestateServer(binary, Path(directory), free_port(), free_port()) as server,
            httpx.AsyncClient(base_url=server.ingress_url, timeout=60) as http,
            killed_again_and_again(server),
        ):
            await soak(http)
            assert not await unfinished(server)


@asynccontextmanager
async def killed_again_and_again(server: RestateServer) -> AsyncIterator[None]:
    """An endpoint, SIGKILLed now and then."""
    port = free_port()
    mortal = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fidelity.mortal", str(port), server.admin_url),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    said = mortal.stdout
    assert said is not None
    process = int(await said.readline())

    async def kill() -> None:
        nonlocal process
        random = Random(SEED)
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.3, 1.5))
            os.kill(process, signal.SIGKILL)
            process = int(await said.readline())

    try:
        await server.register(f"http://127.0.0.1:{port}")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(kill())
            yield
    finally:
        os.killpg(mortal.pid, signal.SIGKILL)
        await mortal.wait()


async def soak(http: httpx.AsyncClient) -> None:
    """Let some users talk for a while."""
    print(f"the seed is {SEED}; set SOAK_SEED to it to run the same agents")  # noqa: T201  pytest shows it on failure
    end = time.monotonic() + SECONDS
    await asyncio.gather(*(talk(http, Random(f"{SEED} {number}"), end) for number in range(USERS)))


async def talk(http: httpx.AsyncClient, random: Random, end: float) -> None:
    """Send messages to one agent after the other, and cancel some."""
    attach = "/restate/invocation/{}/attach"
    while time.monotonic() < end:
        user, scenario = unique("user"), random.choice(COMPOSED)
        breaks = run.Breaks(random.randint(1, 20), random.randint(6, 20)) if random.random() < 0.6 else None
        run.runs[user] = run.Run(breaks=breaks)
        chat, where = ChatClient(http, user), {"session_id": "s", "app_name": scenario.app.name}
        for cancelled in (random.random() < 0.5, False):
            turn_id = (await chat.call("post", {"message": "go", **where}))["turn_id"]
            if cancelled:
                await asyncio.sleep(random.random() * 0.3)
                answer = await chat.send("cancel", where)
                assert answer.is_success, f"{turn_id}: {answer.text}"
            async with asyncio.timeout(END_SECONDS):
                # What was posted a moment ago may be on its way.
                while (answer := await http.get(attach.format(turn_id.partition(".")[0]))).status_code == 404:
                    await asyncio.sleep(0.1)
            assert answer.status_code in ({200, 409} if cancelled else {200}), f"{scenario.name}: {answer.text}"
        del run.runs[user]
