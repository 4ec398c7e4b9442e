"""Three nodes of Restate with replicated logs, an endpoint, and a gateway that knows all of them."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import httpx

from tests.chaos.agent import TAG
from tests.conftest import free_port
from tests.gateway.town import Process
from tests.support import until


class Node:
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
        self._process: asyncio.subprocess.Process | None = None

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

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Cluster:
    """The three, and a service on them."""

    def __init__(self, binary: Path, directory: Path, agents: str) -> None:
        fabric = [free_port() for _ in range(3)]
        self.nodes = [Node(binary, directory, number, fabric) for number in range(3)]
        environment = {"CHAOS_DIR": str(directory)}
        log = directory / "log"
        self._port, web_port = free_port(), free_port()
        ingresses = ",".join(f"http://127.0.0.1:{node.ingress}" for node in self.nodes)
        over = ("--ingress-url", ingresses, "--admin-url", f"http://127.0.0.1:{self.nodes[0].admin}")
        self._endpoint = Process(environment, "serve", agents, "--endpoint-port", str(self._port), log=log)
        self._gateway = Process(environment, "web", agents, "--no-ui", "--port", str(web_port), *over, log=log)
        self.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{web_port}", timeout=60)

    async def __aenter__(self) -> "Cluster":
        await asyncio.gather(*(node.start() for node in self.nodes), self._endpoint.start(), self._gateway.start())
        async with httpx.AsyncClient(timeout=30) as http:
            url = f"http://127.0.0.1:{self.nodes[0].admin}/deployments"
            (await http.post(url, json={"uri": f"http://127.0.0.1:{self._port}"})).raise_for_status()
            for node in self.nodes:
                # Each has to hear of what one of them was told.
                async def knows(port: int = node.ingress) -> bool:
                    body = {"session_id": "s", "message": f"{TAG}0 say 1"}
                    return (await http.post(f"http://127.0.0.1:{port}/Chat/warm/message", json=body)).is_success

                await until(knows, 60)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        await asyncio.gather(self._gateway.kill(), self._endpoint.kill(), *(node.kill() for node in self.nodes))
