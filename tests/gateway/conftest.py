"""A gateway over the server under test, and ADK's own server beside it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest_asyncio
from google.adk.artifacts.in_memory_artifact_service import InMemoryArtifactService
from google.adk.auth.credential_service.in_memory_credential_service import InMemoryCredentialService
from google.adk.cli.api_server import ApiServer
from google.adk.memory.in_memory_memory_service import InMemoryMemoryService
from google.adk.sessions.base_session_service import BaseSessionService
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from playwright.async_api import Browser, async_playwright, expect
from starlette.types import ASGIApp

from adk_chat.dev.server import RestateServer
from adk_chat.endpoint import listen
from adk_chat.gateway.app_loader import Apps
from adk_chat.gateway.server import GatewayConfig, gateway_app
from adk_chat.gateway.serving import serve_gateway
from adk_chat.streaming import Broker, MemoryBroker
from tests.durable.workshop import workshop
from tests.programs import find_chromium
from tests.support import choir, scripted_app

PATIENCE_MS = 45_000
# The browser resolves no names: ADK's page asks for fonts that it does not need.
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
APPS = {app.name: app for app in (scripted_app("scripted"), scripted_app("second"), workshop(), choir())}


@asynccontextmanager
async def served(
    app: ASGIApp, port: int | None = None, *, send_buffer: int | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app that is served on that port, or on its own, with that much memory."""
    stop = asyncio.Event()
    listening = listen("127.0.0.1", port or 0)
    if send_buffer is not None:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    port = listening.getsockname()[1]
    serving = asyncio.create_task(serve_gateway(app, listening, stop))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    stop.set()
    await serving


def gateway_config(server: RestateServer, broker: Broker | None = None) -> GatewayConfig:
    return GatewayConfig(
        apps=APPS,
        ingress_url=server.ingress_url,
        admin_url=server.admin_url,
        artifact_service=InMemoryArtifactService(),
        memory_service=InMemoryMemoryService(),
        broker=broker,
        ui=False,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium."""
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=find_chromium(print), args=["--no-sandbox", OFFLINE])


@pytest_asyncio.fixture(scope="session")
async def gateway(server: RestateServer, broker: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
    """The gateway, as a client sees it."""
    async with served(gateway_app(gateway_config(server, broker))) as client:
        yield client


@asynccontextmanager
async def adk_server(sessions: BaseSessionService) -> AsyncIterator[httpx.AsyncClient]:
    """ADK's own server with a session service of its own and the same apps."""
    own = ApiServer(
        agent_loader=Apps(APPS),
        session_service=sessions,
        memory_service=InMemoryMemoryService(),
        artifact_service=InMemoryArtifactService(),
        credential_service=InMemoryCredentialService(),
        eval_sets_manager=None,
        eval_set_results_manager=None,
        agents_dir="",
    )
    async with served(own.get_fast_api_app(bind_host="127.0.0.1")) as client:
        yield client


@pytest_asyncio.fixture(scope="session")
async def adk(server: RestateServer) -> AsyncIterator[httpx.AsyncClient]:
    """ADK's own server with its in-memory session service."""
    async with adk_server(InMemorySessionService()) as client:
        yield client
