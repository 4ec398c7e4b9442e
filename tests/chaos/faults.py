"""Faults, one after the other: processes are killed, stopped and restarted."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from redis.asyncio import Redis

from adk_chat.dev.server import RestateServer
from tests.cluster import Cluster, Node
from tests.gateway.town import Process, Town


class Faults:
    """Causes faults in a service. Each is mended before the next.

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
            "redis killed": (2, self.kill_redis),
            "redis emptied": (1, self.empty_redis),
            "endpoint frozen": (2, self.freeze_endpoint),
            "connections dropped": (2, self.drop_connections),
        }
        if isinstance(town.server, Cluster):
            self._kinds |= {"node killed": (6, self.kill_node), "node frozen": (2, self.freeze_node)}
        else:
            self._kinds["restate killed"] = (2, self.kill_server)

    async def go_on(self, end: float) -> None:
        """Cause one every few seconds until that time."""
        names, weights = list(self._kinds), [weight for weight, _ in self._kinds.values()]
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._random.uniform(0.5, 4)))
            (name,) = self._random.choices(names, weights)
            self.made[name] += 1
            await self._kinds[name][1]()
            await self._town.mended()

    async def kill_endpoint(self) -> None:
        """SIGKILL an endpoint that runs turns."""
        await self._one(self._town.endpoints).kill()

    async def kill_gateway(self) -> None:
        """SIGKILL a gateway that clients are connected to."""
        await self._one(self._town.gateways).kill()

    async def kill_server(self) -> None:
        """SIGKILL restate-server and restart it on its data."""
        server = self._town.server
        assert isinstance(server, RestateServer)
        os.kill(server.pid, signal.SIGKILL)
        await server.__aexit__(None, None, None)
        await server.__aenter__()

    async def kill_node(self) -> None:
        """SIGKILL a node, which comes back at once, or after the others have taken over."""
        node = self._node()
        await node.kill()
        await asyncio.sleep(self._random.choice((0, 2, 8, 20)))
        await node.start()

    async def freeze_node(self) -> None:
        """SIGSTOP a node."""
        await self._node().freeze(self._random.choice((0.5, 3, 15)))

    async def kill_redis(self) -> None:
        """SIGKILL Redis, which is empty when it is back."""
        await self._town.redis.kill()

    async def empty_redis(self) -> None:
        """Delete all streams."""
        async with Redis.from_url(self._town.redis.url) as redis:
            await redis.flushall()

    async def freeze_endpoint(self) -> None:
        """SIGSTOP an endpoint, for a shorter or longer time than the server waits for it."""
        await self._one(self._town.endpoints).freeze(self._random.choice((0.5, 3, 25)))

    async def drop_connections(self) -> None:
        """As a balancer does."""
        self._town.balancer.drop()

    def _node(self) -> Node:
        assert isinstance(self._town.server, Cluster)
        return self._random.choice(self._town.server.nodes)

    def _one(self, processes: list[Process]) -> Process:
        return self._random.choice(processes)
