"""A real restate-server, plain and replaying at every await, with the handlers under test served from here."""

import asyncio
import contextlib
import functools
import gc
import inspect
import itertools
import json
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import httpx
import pytest
import pytest_asyncio
import restate
import uvloop
from google.adk.apps.app import App
from pydantic import SecretStr

from adk_chat import ChatService
from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.server import RestateServer
from adk_chat.endpoint import PortTakenError, listen, serve
from adk_chat.settings import ServerName, Settings
from adk_chat.streaming import MemoryBroker
from tests.gemini import gemini_app, unreachable_app
from tests.support import ChatClient, Stubborn, choir, scripted_app, unique

_TEST_SECONDS = 120
_LONGEST = ("chaos", "deploy", "dev", "process")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test a timeout, and put the longest files first: at the end nobody waits for one of them.

    Plugins for timeouts use a signal, which would not interrupt uvloop.
    """
    items.sort(key=lambda item: item.path.parent.name not in _LONGEST)
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _limited(item.obj)


_fidelity: dict[str, bool] = {}
"""Which tests of tests/fidelity passed, by their names."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record the outcome of a test."""
    if report.when == "call" and report.nodeid.startswith("tests/fidelity/"):
        _fidelity[report.nodeid.partition("::")[2]] = report.passed


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page of the docs, in the process that hears of all tests."""
    if _fidelity and not hasattr(session.config, "workerinput"):
        from tests.fidelity import page

        page.write(_fidelity)


def pytest_collection_finish() -> None:
    """Exclude ADK and the tests themselves from garbage collections."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _limited(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def limited(*args: Any, **kwargs: Any) -> None:
        async with asyncio.timeout(_TEST_SECONDS):
            await test(*args, **kwargs)

    return limited


# Below the ports that the system gives to connections, which might take one before the test listens.
_ports = itertools.count(10_000 + os.getpid() % 200 * 100)


def free_port() -> int:
    """A port that nobody uses, and that is not given out again here."""
    while True:
        port = next(_ports)
        with contextlib.suppress(PortTakenError), listen("127.0.0.1", port):
            return port


@pytest.fixture(scope="session")
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """The event loop that `adk-chat` runs on."""
    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


@pytest.fixture(autouse=True)
def _forget_what_was_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """pytest keeps all records to the end, and with their exceptions everything that the failing code held."""
    yield
    caplog.get_records("call").clear()


@pytest.fixture(scope="session")
def binary() -> Path:
    """The restate-server to test against."""
    return find_restate_server(logging.getLogger(__name__).warning)


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Settings of the service under test, with retries that do not delay a test."""
    return Settings(
        model_max_attempts=3,
        model_retry_seconds=0.05,
        app_state_max_age_seconds=0.5,
        credential_key=SecretStr("k" * 32),
    )


@pytest.fixture(scope="session")
def broker() -> MemoryBroker:
    """Where the turns of the service under test publish."""
    return MemoryBroker()


T = TypeVar("T")


class Started(Generic[T]):
    """Started on first use and running until the end, in whatever order tests ask for its kinds."""

    def __init__(self, stack: AsyncExitStack, start: Callable[[str], AbstractAsyncContextManager[T]]) -> None:
        self._stack = stack
        self._start = start
        self._started: dict[str, T] = {}

    async def get(self, kind: str) -> T:
        """The one of that kind."""
        if kind not in self._started:
            self._started[kind] = await self._stack.enter_async_context(self._start(kind))
        return self._started[kind]


# While a step runs under "replay", Restate does not listen. Tests that need it to are marked with `plain`.
plain = pytest.mark.parametrize("server", ["plain"], indirect=True)


@pytest_asyncio.fixture(scope="session")
async def servers(binary: Path, settings: Settings, broker: MemoryBroker) -> AsyncIterator[Started[RestateServer]]:
    """Servers that know the handlers under test."""
    from tests.durable.postman import postman
    from tests.durable.programs import programs
    from tests.durable.workshop import away, counting, workshop
    from tests.gateway.agui.apps import asking, behind, flowing
    from tests.sessions.probe import probe

    apps = [scripted_app("scripted"), scripted_app("second"), workshop(), gemini_app(), unreachable_app(), choir()]
    apps += [App(name="stubborn", root_agent=Stubborn(name="stubborn")), postman(), away(), counting()]
    apps += [asking(), behind(), flowing()]

    def start(kind: str) -> AbstractAsyncContextManager[RestateServer]:
        admin_port, ingress_port = free_port(), free_port()
        of_kind = {
            "admin_url": f"http://localhost:{admin_port}",
            "ingress_url": f"http://localhost:{ingress_port}",
            "replay_always": kind == "replay",
        }
        service = ChatService(*apps, settings=settings.model_copy(update=of_kind), broker=broker)
        handlers = [*service.objects, probe, *programs]
        ports = {"admin_port": admin_port, "ingress_port": ingress_port}
        return hosting(binary, handlers, **ports, replay_always=kind == "replay")

    async with AsyncExitStack() as stack:
        yield Started(stack, start)


@pytest_asyncio.fixture(scope="session", params=["plain", "replay"])
async def server(request: pytest.FixtureRequest, servers: Started[RestateServer]) -> RestateServer:
    """A server that knows the handlers under test."""
    return await servers.get(request.param)


@asynccontextmanager
async def hosting(
    binary: Path,
    handlers: Iterable[restate.Service | restate.VirtualObject],
    *,
    admin_port: int | None = None,
    ingress_port: int | None = None,
    replay_always: bool = False,
    slots: int | None = None,
) -> AsyncIterator[RestateServer]:
    """A server with these handlers, which are served from here."""
    with tempfile.TemporaryDirectory() as directory:
        stop = asyncio.Event()
        listening = listen("127.0.0.1", 0)
        port = listening.getsockname()[1]
        async with RestateServer(
            binary,
            Path(directory),
            ingress_port or free_port(),
            admin_port or free_port(),
            replay_always=replay_always,
            slots=slots,
        ) as running:
            # So that ADK_CHAT_SERVER=granian make test tests granian.
            server: ServerName = Settings().server
            serving = asyncio.create_task(serve([*handlers], listening, stop, server=server, drain_seconds=1))
            await running.register(f"http://127.0.0.1:{port}")
            yield running
            left = await unfinished(running)
        stop.set()
        await serving
        assert not left, f"tests left Restate invocations behind: {left}"


class Asked(Protocol):
    """A Restate with an admin API."""

    admin_url: str


async def unfinished(server: Asked) -> list[dict[str, Any]]:
    """Restate invocations that have not ended, after a moment for those that are about to."""
    rows = []
    for _ in range(100):
        with contextlib.suppress(httpx.HTTPStatusError):  # the answer of a server that has just started
            rows = await query(
                server,
                "SELECT id, target, status, last_failure FROM sys_invocation WHERE status NOT IN "
                "('completed', 'scheduled')",
            )
            if not rows:
                return []
        await asyncio.sleep(0.1)
    assert rows, "the admin API does not answer"
    return rows


async def query(server: Asked, sql: str) -> list[dict[str, Any]]:
    """Query the admin API."""
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"{server.admin_url}/query", json={"query": sql}, headers={"accept": "application/json"}
        )
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows


async def stored(server: RestateServer, user: str) -> dict[str, Any]:
    """The contents of a user's Chat, as the Restate UI shows them."""
    rows = await query(
        server, f"SELECT key, value_utf8 FROM state WHERE service_name = 'Chat' AND service_key = '{user}'"
    )
    return {row["key"]: json.loads(row["value_utf8"]) for row in rows}


@pytest_asyncio.fixture(loop_scope="session")
async def chat(server: RestateServer) -> AsyncIterator[ChatClient]:
    """A new user."""
    async with httpx.AsyncClient(base_url=server.ingress_url, timeout=60) as http:
        yield ChatClient(http, unique("user"), "scripted")
