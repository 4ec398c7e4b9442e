"""Brokers under test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from adk_chat.streaming import Broker, open_broker
from tests.redis_server import RedisServer


@pytest_asyncio.fixture(scope="session")
async def redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """A Redis that nobody kills."""
    async with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest_asyncio.fixture(params=["memory", "redis"])
async def broker(request: pytest.FixtureRequest, redis: RedisServer) -> AsyncIterator[Broker]:
    """A broker of each kind."""
    opened = open_broker(redis.url if request.param == "redis" else None)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def mortal(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis to be killed; it forgets everything."""
    async with RedisServer(tmp_path) as server:
        yield server
