"""A real restate-server with an endpoint that knows all scenarios, and fails where it is told to."""

import asyncio
import logging
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import hypercorn.asyncio
import pytest
import pytest_asyncio
import restate
from hypercorn.config import Config

from adk_chat import ChatService
from adk_chat.dev.server import RestateServer
from adk_chat.endpoint import listen
from adk_chat.settings import Settings
from tests.conftest import Started, free_port
from tests.fidelity.failing import Failing
from tests.fidelity.harness import Service, Streams
from tests.fidelity.scenarios import SCENARIOS
from tests.fidelity.scenarios.composed import COMPOSED
from tests.fidelity.scenarios.meeting import MEETINGS


@pytest_asyncio.fixture(scope="session")
async def services(binary: Path, settings: Settings) -> AsyncIterator[Started[Service]]:
    """Services with all scenarios."""
    async with AsyncExitStack() as stack:
        yield Started(stack, lambda kind: _serving(binary, settings, replay=kind == "replay"))


@pytest_asyncio.fixture(scope="session", params=["plain", "replay"])
async def service(request: pytest.FixtureRequest, services: Started[Service]) -> Service:
    """A service with all scenarios."""
    return await services.get(request.param)


@asynccontextmanager
async def _serving(binary: Path, settings: Settings, *, replay: bool) -> AsyncIterator[Service]:
    streams = Streams()
    admin_port, ingress_port = free_port(), free_port()
    urls = {"admin_url": f"http://localhost:{admin_port}", "ingress_url": f"http://localhost:{ingress_port}"}
    settings = settings.model_copy(update={"replay_always": replay, **urls})
    scenarios = [*SCENARIOS, *MEETINGS, *COMPOSED]
    chat = ChatService(*(scenario.app for scenario in scenarios), settings=settings, broker=streams)
    config = Config()
    config.h2_max_concurrent_streams = 256
    config.keep_alive_max_requests = sys.maxsize
    config.errorlog = logging.getLogger("hypercorn.error")
    with tempfile.TemporaryDirectory() as directory, listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        config.bind = [f"fd://{listening.detach()}"]
        stop = asyncio.Event()
        async with (
            RestateServer(binary, Path(directory), ingress_port, admin_port, replay_always=replay) as server,
            httpx.AsyncClient(base_url=server.ingress_url, timeout=60) as client,
        ):
            app = Failing(restate.app(chat.objects))
            serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))
            await server.register(f"http://127.0.0.1:{port}")
            yield Service(client, streams, server)
        stop.set()
        await serving
