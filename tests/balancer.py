"""A load balancer in front of several endpoints or nodes."""

import asyncio
import contextlib

from tests.conftest import free_port


class Balancer:
    """One address for several servers: a connection goes to the next of them that answers."""

    def __init__(self, ports: list[int]) -> None:
        self.port = free_port()
        self.ports = ports
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    def stop(self) -> None:
        """Accept no more connections."""
        if self._server is not None:
            self._server.close()

    def drop(self) -> None:
        """Close all connections, as balancers do with idle ones."""
        for writer in self._connections:
            writer.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in self.ports:
            with contextlib.suppress(ConnectionError):
                there = await asyncio.open_connection("127.0.0.1", port)
                self.ports = [*self.ports[1:], self.ports[0]]
                self._connections.add(writer)
                await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
                self._connections.discard(writer)
                return
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
