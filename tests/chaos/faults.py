"""What goes wrong, one thing after the other: processes are killed, stopped, and started again."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from redis.asyncio import Redis

from adk_chat.dev.server import RestateServer
from tests.gateway.town import Process, Town


class Faults:
    """Makes faults in a service, each mended before the next one.

    Args:
        town: the service.
        random: decides.
    """

    def __init__(self, town: Town, random: Random) -> None:
        self._town = town
        self._random = random
        self.made: Counter[str] = Counter()
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "endpoint killed": (6, self.kill_endpoint),
            "gateway killed": (3, self.kill_gateway),
            "restate killed": (2, self.kill_server),
            "redis killed": (2, self.kill_redis),
            "redis emptied": (1, self.empty_redis),
            "endpoint frozen": (2, self.freeze_endpoint),
            "connections dropped": (2, self.drop_connections),
        }

    async def go_on(self, end: float) -> None:
        """Make one every few seconds until that time."""
        names, weights = list(self._kinds), [weight for weight, _ in self._kinds.values()]
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._random.uniform(0.5, 4)))
            (name,) = self._random.choices(names, weights)
            self.made[name] += 1
            await self._kinds[name][1]()
            await self._town.mended()

    async def kill_endpoint(self) -> None:
        """SIGKILL for one that runs turns."""
        await self._one(self._town.endpoints).kill()

    async def kill_gateway(self) -> None:
        """SIGKILL for one that people are connected to."""
        await self._one(self._town.gateways).kill()

    async def kill_server(self) -> None:
        """SIGKILL for restate-server, which is started again on its data."""
        before = self._town.server
        os.kill(before.pid, signal.SIGKILL)
        await before.__aexit__(None, None, None)
        ports = [int(url.rpartition(":")[2]) for url in (before.ingress_url, before.admin_url)]
        self._town.server = RestateServer(self._town.binary, self._town.directory / "restate", *ports)
        await self._town.server.__aenter__()

    async def kill_redis(self) -> None:
        """SIGKILL for Redis, which has nothing when it is back."""
        await self._town.redis.kill()

    async def empty_redis(self) -> None:
        """All streams are gone."""
        async with Redis.from_url(self._town.redis.url) as redis:
            await redis.flushall()

    async def freeze_endpoint(self) -> None:
        """SIGSTOP for one, for longer than the server waits for it or not."""
        pid = self._one(self._town.endpoints).pid
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(self._random.choice((0.5, 3, 25)))
        os.kill(pid, signal.SIGCONT)

    async def drop_connections(self) -> None:
        """As a balancer does."""
        self._town.balancer.drop()

    def _one(self, processes: list[Process]) -> Process:
        return self._random.choice(processes)
