"""One run: a service of real processes, users, faults, and then the audit."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

import httpx

from tests.chaos.audit import audit
from tests.chaos.faults import Faults
from tests.chaos.load import User
from tests.chaos.observed import Run, Stored
from tests.cluster import Cluster
from tests.conftest import unfinished
from tests.gateway.town import Town
from tests.support import ChatClient

AGENTS = "tests/chaos/agents"
APPS = ("chaos", "duo")
_LOOKS = 9
"""How many times, ten seconds each, to check that all turns have ended once nothing is killed any more."""


@dataclass
class Found:
    """The result of a run."""

    counts: dict[str, dict[str, int]]
    wrong: list[str]


async def chaos(
    binary: Path, directory: Path, seed: int, seconds: float, users: int, *, cluster: bool = False
) -> Found:
    """Let users talk while processes are killed, and compare what they saw with what is stored.

    Args:
        binary: the restate-server.
        directory: an empty one, for everything that is written.
        seed: decides what users do and what is killed.
        seconds: how long.
        users: how many.
        cluster: whether Restate is three nodes, killed one at a time, or one server.
    """
    run = Run()
    log = directory / "log"
    nodes = Cluster(binary, directory) if cluster else None
    async with Town(binary, directory, AGENTS, "CHAOS_DIR", log, nodes) as town:
        talking = [User(f"user-{seed}-{n}", town, run, Random(f"{seed} {n}")) for n in range(users)]
        for user in talking:
            run.stored |= {(user.name, app, session): Stored() for app in APPS for session in "ab"}
        faults = Faults(town, Random(seed))
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(faults.go_on(end))
            for user in talking:
                tasks.create_task(user.talk(end))
        for _ in range(_LOOKS):
            run.unfinished = await unfinished(town.server)
            if not run.unfinished:
                break
        # Every session accepts another message.
        await asyncio.gather(*(user.send(*where, last=True) for user in talking for where in product(APPS, "ab")))
        async with httpx.AsyncClient(base_url=town.server.ingress_url, timeout=60) as http:
            for (name, app, session), stored in run.stored.items():
                found = await ChatClient(http, name).call("get_session", {"session_id": session, "app_name": app})
                stored.events, stored.state = found["events"], found["state"]
        for user in talking:
            await user.close()
    run.effects = [json.loads(line) for line in (directory / "effects").read_text().splitlines()]
    counts = {
        "faults": dict(faults.made),
        "sent": dict(Counter(f"{sent.way} {sent.strategy}" for sent in run.sent)),
        "answered": dict(Counter(f"{sent.way} {sent.status}" for sent in run.sent)),
        "other": {
            "events": sum(len(stored.events) for stored in run.stored.values()),
            "appends": len(run.appended),
            "deletions": sum(stored.life.done for stored in run.stored.values()),
            "calls of tools": len(run.effects) // 2,
        },
    }
    return Found(counts, audit(run))
