"""A real Redis on a free port, which can be killed and started again."""

import asyncio
from pathlib import Path
from types import TracebackType

from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.conftest import free_port
from tests.killable import Killable
from tests.programs import find_redis_server
from tests.support import until


class RedisServer(Killable):
    """A redis-server. If `durable`, it keeps its data across a SIGKILL."""

    def __init__(self, directory: Path, *, durable: bool = False) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._directory = directory
        self._durable = durable

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = await asyncio.create_subprocess_exec(
            *(find_redis_server(print), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)),
            *("--save", "", "--appendonly", "yes" if self._durable else "no", "--appendfsync", "always"),
            stdout=asyncio.subprocess.DEVNULL,
        )
        await until(self._answers)

    async def clients(self) -> int:
        """How many connections it has, except the one that asks."""
        async with Redis.from_url(self.url) as redis:
            return len(await redis.client_list()) - 1

    async def __aenter__(self) -> "RedisServer":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def _answers(self) -> bool:
        async with Redis.from_url(self.url) as redis:
            try:
                return bool(await redis.ping())
            except RedisConnectionError:
                return False
