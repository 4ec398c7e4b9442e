"""A cluster of Restate: three nodes with replicated logs, each of which can be killed and frozen."""

import asyncio
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType

import httpx

from adk_chat.dev.server import register
from tests.balancer import Balancer
from tests.conftest import free_port
from tests.killable import Killable
from tests.support import until


class Node(Killable):
    """A restate-server that is a node of a cluster."""

    def __init__(self, binary: Path, directory: Path, number: int, fabric: list[int]) -> None:
        self.ingress, self.admin = free_port(), free_port()
        self._binary = binary
        self._log = directory / f"node-{number}.log"
        others = ",".join(f'"http://127.0.0.1:{port}"' for port in fabric)
        settings = {
            "BASE_DIR": str(directory / f"node-{number}"),
            "NODE_NAME": f"n{number}",
            "CLUSTER_NAME": "chaos",
            "AUTO_PROVISION": "true" if number == 0 else "false",
            "METADATA_CLIENT__ADDRESSES": f"[{others}]",
            "DEFAULT_REPLICATION": "2",
            "DEFAULT_NUM_PARTITIONS": "4",
            "BIND_ADDRESS": f"127.0.0.1:{fabric[number]}",
            "ADVERTISED_ADDRESS": f"http://127.0.0.1:{fabric[number]}",
            "INGRESS__BIND_ADDRESS": f"127.0.0.1:{self.ingress}",
            "ADMIN__BIND_ADDRESS": f"127.0.0.1:{self.admin}",
            "LISTEN_MODE": "tcp",
            "DISABLE_TELEMETRY": "true",
            "ROCKSDB_TOTAL_MEMORY_SIZE": "192 MB",
            "LOG_FILTER": "warn",
        }
        self._environment = {**os.environ, **{f"RESTATE_{name}": value for name, value in settings.items()}}

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(str(self._binary), "--no-logo"), stdout=log, stderr=log, env=self._environment
            )
        async with httpx.AsyncClient(timeout=2) as http:

            async def answers() -> bool:
                with suppress(httpx.TransportError):
                    urls = (f"http://127.0.0.1:{self.admin}/health", f"http://127.0.0.1:{self.ingress}/restate/health")
                    return all([(await http.get(url)).is_success for url in urls])
                return False

            await until(answers, 60)


class Cluster:
    """Three Restate nodes: each partition and each log has a second copy on another node.

    Attributes:
        nodes: the three.
        ingress_url, admin_url: the address of a balancer in front of the nodes.
        ingress_urls: the nodes' own ingresses, separated by commas, for a gateway that knows all of them.
    """

    def __init__(self, binary: Path, directory: Path) -> None:
        fabric = [free_port() for _ in range(3)]
        self.nodes = [Node(binary, directory, number, fabric) for number in range(3)]
        self._ingress = Balancer([node.ingress for node in self.nodes])
        self._admin = Balancer([node.admin for node in self.nodes])
        self.ingress_url, self.admin_url = (f"http://127.0.0.1:{one.port}" for one in (self._ingress, self._admin))
        self.ingress_urls = ",".join(f"http://127.0.0.1:{node.ingress}" for node in self.nodes)

    async def __aenter__(self) -> "Cluster":
        try:
            await asyncio.gather(self._ingress.start(), self._admin.start(), *(node.start() for node in self.nodes))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ingress.stop()
        self._admin.stop()
        await asyncio.gather(*(node.kill() for node in self.nodes))

    async def register(self, endpoint_url: str) -> None:
        """Register the handlers at one node, and wait until each node knows them."""
        await register(self.admin_url, endpoint_url)
        async with httpx.AsyncClient(timeout=30) as http:

            async def knows(node: Node) -> bool:
                url = f"http://127.0.0.1:{node.ingress}/Chat/nobody/list_sessions"
                return (await http.post(url, json={})).is_success

            for node in self.nodes:
                await until(partial(knows, node), 60)
