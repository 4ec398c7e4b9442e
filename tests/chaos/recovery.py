"""How long a kill is noticed by users: `python -m tests.chaos.recovery` writes docs/recovery.md."""

import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import httpx

from adk_chat.dev.binary import find_restate_server
from tests.chaos.agent import TAG
from tests.chaos.faults import Faults
from tests.chaos.run import AGENTS
from tests.cluster import Cluster
from tests.gateway.town import Town

PAGE = Path(__file__).parents[2] / "docs" / "recovery.md"
TIMES = 20
_AGAIN_SECONDS = 0.02
_HEAD = """# Recovery

How much longer a message takes to be answered if something is killed with SIGKILL in the middle of it. If the client
gets no answer or a 503, it sends the message again with the same `idempotency-key`; if its gateway is gone, it uses the
other one.
Of {times} kills each; {where}; written by `{command}`.

| killed | median | worst |
| --- | --- | --- |
"""


class Clients:
    """Sends requests to whichever gateway answers."""

    def __init__(self, clients: list[httpx.AsyncClient]) -> None:
        self._clients = clients
        self._asked = 0

    async def ask(self) -> float:
        """Send a message to a new session. Returns the seconds to the complete answer."""
        self._asked += 1
        user, began = f"user-{id(self)}-{self._asked}", time.monotonic()
        message = {"parts": [{"text": f"{TAG}{self._asked} work 0.3; say 3"}]}
        run = {"appName": "chaos", "userId": user, "sessionId": "s", "newMessage": message}
        await self._post(f"/apps/chaos/users/{user}/sessions", {"sessionId": "s"})
        answer = await self._post("/run", run, {"idempotency-key": user})
        assert f"{TAG}{self._asked} by solo" in answer.text, answer.text
        return time.monotonic() - began

    async def _post(self, path: str, body: object, headers: dict[str, str] | None = None) -> httpx.Response:
        while True:
            try:
                answer = await self._clients[0].post(path, json=body, headers=headers)
                if answer.status_code != 503:
                    return answer
            except httpx.TransportError:
                self._clients = [*self._clients[1:], self._clients[0]]
            await asyncio.sleep(_AGAIN_SECONDS)


async def measured(
    clients: Clients, kill: Callable[[], Awaitable[object]], mend: Callable[[], Awaitable[object]]
) -> list[float]:
    """How many seconds longer than usual a message takes around each kill."""
    for _ in range(3):
        await clients.ask()
    usual = statistics.median([await clients.ask() for _ in range(5)])
    found = []
    for number in range(TIMES):
        asking = asyncio.create_task(clients.ask())
        await asyncio.sleep(0.15 + 0.25 * number / TIMES)  # at another point of its tool call each time
        killing = asyncio.create_task(_in_turn(kill, mend))
        found.append(max(0.0, await asking - usual))
        await killing
        await clients.ask()
    return found


async def _in_turn(*actions: Callable[[], Awaitable[object]]) -> None:
    for action in actions:
        await action()


async def nothing() -> None:
    """Do nothing."""


async def all_of_them(binary: Path) -> dict[str, list[float]]:
    """Each kind of kill."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        async with Town(binary, Path(directory), AGENTS, "CHAOS_DIR", Path(directory, "log")) as town:
            faults, clients = Faults(town, Random(1)), Clients(town.clients)

            async def kill_the_one_at_work() -> None:
                last = (Path(directory) / "effects").read_text().splitlines()[-1]
                process = json.loads(last)["process"]
                await next(one for one in town.endpoints if one.pid == process).kill()

            found["the one of two endpoints that runs the turn"] = await measured(
                clients, kill_the_one_at_work, town.mended
            )
            found["one gateway of two"] = await measured(clients, faults.kill_gateway, town.mended)
            found["Redis"] = await measured(clients, faults.kill_redis, town.mended)
            found["restate-server, started again at once"] = await measured(clients, faults.kill_server, nothing)
            await town.endpoints[1].kill()

            async def kill_the_only_one() -> None:
                await town.endpoints[0].kill()

            found["the only endpoint, started again at once"] = await measured(
                clients, kill_the_only_one, town.endpoints[0].start
            )
            await town.mended()
    return found | await of_nodes(binary)


async def of_nodes(binary: Path) -> dict[str, list[float]]:
    """Kills of one node after the other."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(binary, Path(directory))
        async with Town(binary, Path(directory), AGENTS, "CHAOS_DIR", Path(directory, "log"), cluster=cluster) as town:
            nodes = [cluster.nodes[number % 3] for number in range(TIMES)]
            left = iter(nodes)

            async def kill_a_node() -> None:
                await next(left).kill()

            back = iter(nodes)
            found["one node of three"] = await measured(Clients(town.clients), kill_a_node, lambda: next(back).start())
    return found


def main() -> None:
    """Measure, and write the page."""
    found = asyncio.run(all_of_them(find_restate_server(print)))
    where = f"{platform.machine()}, Python {platform.python_version()}"
    command = "python -m tests.chaos.recovery"
    rows = [f"| {what} | {statistics.median(times):.2f} s | {max(times):.2f} s |" for what, times in found.items()]
    PAGE.write_text(_HEAD.format(times=TIMES, where=where, command=command) + "\n".join(rows) + "\n")
    sys.stdout.write(PAGE.read_text())


if __name__ == "__main__":
    main()
