"""Agents put together at random, whose attempts break off and which are cancelled: every turn ends, nothing is left."""

import asyncio
import gc
import time
from random import Random

import httpx

from adk_chat.durable import locks
from adk_chat.durable.attempt import Attempt
from tests.conftest import query
from tests.fidelity import run
from tests.fidelity.comparison import plain
from tests.fidelity.conftest import COMPOSED, SEED
from tests.fidelity.harness import Service
from tests.support import ChatClient, unique

SECONDS = 8
USERS = 4
END_SECONDS = 20


@plain
async def test_whatever_is_composed_ends(service: Service) -> None:
    print(f"the seed is {SEED}; set SOAK_SEED to it to run the same agents")  # noqa: T201  pytest shows it on failure
    end = time.monotonic() + SECONDS
    await asyncio.gather(*(talk(service.http, Random(f"{SEED} {number}"), end) for number in range(USERS)))
    left = await query(service.server, "SELECT id, status FROM sys_invocation WHERE status != 'completed'")
    assert not left
    gc.collect()
    attempts = [one for one in gc.get_objects() if isinstance(one, Attempt)]
    assert not [task for attempt in attempts for task in attempt.tasks if not task.done()]
    assert not locks._holders


async def talk(http: httpx.AsyncClient, random: Random, end: float) -> None:
    """Say something to one agent after the other, and cancel some of it."""
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
                answer = await http.get(f"/restate/invocation/{turn_id.partition('.')[0]}/attach")
            assert answer.status_code in ({200, 409} if cancelled else {200}), f"{scenario.name}: {answer.text}"
        del run.runs[user]
