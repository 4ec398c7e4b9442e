"""What is compared, each in processes of its own. `python -m benchmarks.variants NAME PORT` serves what is not ours."""

import asyncio
import logging
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import hypercorn.asyncio
import restate
import uvicorn
import uvloop
from google.adk.apps.app import App
from google.adk.artifacts.in_memory_artifact_service import InMemoryArtifactService
from google.adk.auth.credential_service.in_memory_credential_service import InMemoryCredentialService
from google.adk.cli.api_server import ApiServer
from google.adk.memory.in_memory_memory_service import InMemoryMemoryService
from google.adk.runners import Runner
from google.adk.sessions.base_session_service import BaseSessionService
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types
from hypercorn.config import Config
from restate.ext.adk import RestatePlugin, RestateSessionService

from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.server import RestateServer, register
from adk_chat.gateway.app_loader import Apps
from benchmarks.instant import NAME, app, root_agent
from benchmarks.processes import Process, free_port, started

_SERVING = "Serving"
_ADK = {"sqlite": "`adk api_server` on SQLite", "memory": "`adk api_server` in memory"}


@dataclass
class Variant:
    """One of the compared services."""

    name: str
    kind: str
    """As in `benchmarks.load.Load`."""
    url: str
    python: Process
    restate: Process | None = None


@dataclass
class Ours:
    """`adk-chat serve` with a Restate of its own."""

    server: RestateServer
    command: tuple[str, ...]
    environment: dict[str, str]
    variant: Variant
    start_seconds: float
    """From the start of the process until it serves."""


class Machine:
    """Everything that is compared, running.

    Args:
        stack: ends it.
        directory: for data.
    """

    def __init__(self, stack: AsyncExitStack, directory: Path) -> None:
        self._stack = stack
        self._directory = directory

    async def ours(self, server_name: str) -> Ours:
        """`adk-chat serve` on that HTTP server."""
        server, its = await self._restate(server_name)
        command = ("adk_chat", "serve", "benchmarks.instant:app", "--register", server.admin_url)
        options = ("--endpoint-port", str(free_port()))
        environment = {"ADK_CHAT_SERVER": server_name}
        began = time.perf_counter()
        process = await self._stack.enter_async_context(started(_SERVING, *command, *options, **environment))
        took = time.perf_counter() - began
        variant = Variant(f"adk_chat on {server_name}", "message", server.ingress_url, process, its)
        return Ours(server, (*command, *options), environment, variant, took)

    async def dev(self) -> list[Variant]:
        """`adk-chat dev`, through the ingress and through the gateway."""
        ports = {name: free_port() for name in ("port", "ingress-port", "admin-port", "endpoint-port")}
        options = [text for name, port in ports.items() for text in (f"--{name}", str(port))]
        command = ("adk_chat", "dev", "benchmarks.instant:app", "--no-ui", *options)
        data = ("--data-dir", str(self._directory / "dev"))
        process = await self._stack.enter_async_context(started("Ctrl-C stops it", *command, *data))
        (guard,) = process.children()
        (its,) = guard.children()
        ingress, web = (f"http://127.0.0.1:{ports[name]}" for name in ("ingress-port", "port"))
        return [
            Variant("`adk-chat dev`, `message`", "message", ingress, process, its),
            Variant("`adk-chat dev`, `/run`", "run", web, process, its),
        ]

    async def example(self) -> tuple[Variant, Variant]:
        """The plain example of `restate.ext.adk` and a bare handler, with a Restate of their own."""
        server, its = await self._restate("example")
        port = free_port()
        process = await self._started("endpoint", port)
        await register(server.admin_url, f"http://127.0.0.1:{port}")
        url = server.ingress_url
        return Variant("`restate.ext.adk`", "example", url, process, its), Variant("bare", "bare", url, process, its)

    async def adk(self, kind: str) -> Variant:
        """ADK's own server, on `sqlite` or in `memory`."""
        port = free_port()
        process = await self._started(kind, port, str(self._directory))
        return Variant(_ADK[kind], "run", f"http://127.0.0.1:{port}", process)

    async def _started(self, kind: str, port: int, *more: str) -> Process:
        command = ("benchmarks.variants", kind, str(port), *more)
        return await self._stack.enter_async_context(started(_SERVING, *command))

    async def _restate(self, name: str) -> tuple[RestateServer, Process]:
        directory = self._directory / name
        directory.mkdir()
        server = RestateServer(find_restate_server(print), directory, free_port(), free_port())
        await self._stack.enter_async_context(server)
        return server, Process(server.pid)


bare = restate.Service("Bare")
example = restate.VirtualObject("Example")
_runner = Runner(
    app=App(name=NAME, root_agent=root_agent, plugins=[RestatePlugin()]), session_service=RestateSessionService()
)


@bare.handler("message")
async def bare_message(ctx: restate.Context, text: str) -> str:
    """The least that a durable handler does: one step."""

    async def step() -> str:
        return text

    return await ctx.run_typed("step", step)


@example.handler("message")
async def example_message(ctx: restate.ObjectContext, request: dict[str, str]) -> str | None:
    """The chat of `restate.ext.adk` as in its documentation: sessions in the K/V of one object."""
    content = types.Content(role="user", parts=[types.Part(text=request["message"])])
    reply = None
    async for event in _runner.run_async(user_id=ctx.key(), session_id=request["session_id"], new_message=content):
        if event.is_final_response() and event.content and event.content.parts:
            reply = event.content.parts[0].text
    return reply


async def _endpoint(port: int) -> None:
    """`Bare` and `Example`, on the server that Restate's own examples use."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_max_requests = sys.maxsize  # by default Restate's connections break at the 1,000th request
    config.h2_max_concurrent_streams = 256
    serving = asyncio.create_task(hypercorn.asyncio.serve(restate.app([bare, example]), config))
    print(_SERVING)
    await serving


async def api_server(app: App, port: int, sessions: BaseSessionService) -> None:
    """Serves ADK's own server, and says so."""
    server = ApiServer(
        agent_loader=Apps({app.name: app}),
        session_service=sessions,
        memory_service=InMemoryMemoryService(),
        artifact_service=InMemoryArtifactService(),
        credential_service=InMemoryCredentialService(),
        eval_sets_manager=None,
        eval_set_results_manager=None,
        agents_dir=".",
    )
    logging.disable(logging.INFO)
    serving = uvicorn.Server(uvicorn.Config(server.get_fast_api_app(), port=port, log_level="warning"))
    task = asyncio.create_task(serving.serve())
    while not serving.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.05)
    print(_SERVING)
    await task


def main(variant: str, port: str, *directory: str) -> None:
    """Serves one of them."""
    if variant == "endpoint":
        uvloop.run(_endpoint(int(port)))
    elif variant == "sqlite":
        uvloop.run(api_server(app, int(port), SqliteSessionService(str(Path(*directory) / "sessions.db"))))
    else:
        uvloop.run(api_server(app, int(port), InMemorySessionService()))


if __name__ == "__main__":
    main(*sys.argv[1:])
