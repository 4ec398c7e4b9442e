"""A service as in production: a Restate, a Redis, endpoints behind one address, gateways. Each can be killed."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import httpx

from adk_chat.dev.server import RestateServer
from tests.balancer import Balancer
from tests.cluster import Cluster
from tests.conftest import free_port, unfinished
from tests.killable import Killable
from tests.redis_server import RedisServer

AGENT = "tests.crash_agent:app"


class Process(Killable):
    """A command of adk-chat that serves on a port."""

    def __init__(
        self, environment: dict[str, str], *arguments: str, log: Path | None = None, begins: bytes = b"Serving"
    ) -> None:
        self.arguments = arguments
        self._begins = begins
        self._environment = environment
        self._log = log

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "adk_chat", *self.arguments),
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=None if self._log is None else self._log.open("a"),
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        assert line.startswith(self._begins), line


class Town:
    """A service with two endpoints and two gateways.

    Args:
        binary: the restate-server.
        directory: an empty one for all that is written; `open` creates files in it that the agents wait for.
        agent: what endpoints and gateways serve.
        variable: the environment variable that tells the agents the directory.
        log: where endpoints and gateways write what they log; by default to stderr.
        cluster: the Restate to use; by default it is one server.
        web: more arguments of the gateways.
    """

    def __init__(
        self,
        binary: Path,
        directory: Path,
        agent: str = AGENT,
        variable: str = "CRASH_DIR",
        log: Path | None = None,
        cluster: Cluster | None = None,
        web: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        (directory / "redis").mkdir()
        (directory / "restate").mkdir()
        self.redis = RedisServer(directory / "redis")
        self.server = cluster or RestateServer(binary, directory / "restate", free_port(), free_port())
        environment = {"REDIS_URL": self.redis.url, variable: str(directory)}
        ports = [free_port(), free_port()]
        self.balancer = Balancer(ports)
        reached = {**environment, "ADK_CHAT_INGRESS_URL": self.server.ingress_url}
        reached |= {"ADK_CHAT_ADMIN_URL": self.server.admin_url}
        self.endpoints = [Process(reached, "serve", agent, "--endpoint-port", str(port), log=log) for port in ports]
        self.endpoint_urls = [f"http://127.0.0.1:{port}" for port in ports]
        web_ports = [free_port(), free_port()]
        ingress = cluster.ingress_urls if cluster else self.server.ingress_url
        over = ("--ingress-url", ingress, "--admin-url", self.server.admin_url)
        self.gateways = [
            Process(environment, "web", agent, "--no-ui", "--port", str(port), *over, *web, log=log)
            for port in web_ports
        ]
        self.clients = [httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) for port in web_ports]

    async def __aenter__(self) -> "Town":
        await self.redis.start()
        await self.server.__aenter__()
        await self.balancer.start()
        await asyncio.gather(*(process.start() for process in (*self.endpoints, *self.gateways)))
        await self.server.register(f"http://127.0.0.1:{self.balancer.port}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = []
        try:
            if not error:
                left = await unfinished(self.server)
        finally:
            for client in self.clients:
                await client.aclose()
            for process in (*self.gateways, *self.endpoints):
                await process.kill()
            self.balancer.stop()
            await self.server.__aexit__(None, None, None)
            await self.redis.kill()
        assert not left, f"left behind: {left}"

    async def mended(self) -> None:
        """Restart what was killed."""
        if self.redis.dead:
            await self.redis.start()
        for process in (*self.gateways, *self.endpoints):
            if process.dead:
                await process.start()

    def open(self, name: str) -> None:
        """Let an agent continue that waits for `name`."""
        (self.directory / name).touch()
