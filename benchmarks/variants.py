"""What the service is compared with, each in a process of its own: `python -m benchmarks.variants NAME PORT`."""

import asyncio
import logging
import sys
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

from adk_chat.gateway.apps import Apps
from benchmarks.instant import NAME, root_agent

SERVING = "Serving"

bare = restate.Service("Bare")
example = restate.VirtualObject("Example")
_runner = Runner(
    app=App(name=NAME, root_agent=root_agent, plugins=[RestatePlugin()]), session_service=RestateSessionService()
)


@bare.handler()
async def message(ctx: restate.Context, text: str) -> str:
    """The least that a durable handler does: one step."""

    async def step() -> str:
        return text

    return await ctx.run_typed("step", step)


@example.handler("message")
async def example_message(ctx: restate.ObjectContext, request: dict[str, str]) -> str | None:
    """The chat of `restate.ext.adk` as its documentation shows it: sessions in the K/V of one object."""
    content = types.Content(role="user", parts=[types.Part(text=request["message"])])
    reply = None
    async for event in _runner.run_async(user_id=ctx.key(), session_id=request["session_id"], new_message=content):
        if event.is_final_response() and event.content and event.content.parts:
            reply = event.content.parts[0].text
    return reply


async def endpoint(port: int) -> None:
    """`Bare` and `Example`, on the server that Restate's own examples use."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_max_requests = sys.maxsize  # by default the engine's connections break at the 1,000th
    config.h2_max_concurrent_streams = 256
    serving = asyncio.create_task(hypercorn.asyncio.serve(restate.app([bare, example]), config))
    print(SERVING)
    await serving


async def api_server(port: int, sessions: BaseSessionService) -> None:
    """`adk api_server`."""
    server = ApiServer(
        agent_loader=Apps({NAME: App(name=NAME, root_agent=root_agent)}),
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
    print(SERVING)
    await task


def main(variant: str, port: str, *directory: str) -> None:
    """Serve one of them."""
    if variant == "endpoint":
        uvloop.run(endpoint(int(port)))
    elif variant == "sqlite":
        uvloop.run(api_server(int(port), SqliteSessionService(str(Path(*directory) / "sessions.db"))))
    else:
        uvloop.run(api_server(int(port), InMemorySessionService()))


if __name__ == "__main__":
    main(*sys.argv[1:])
