"""An ASGI app behind a real HTTP server, in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from adk_chat.endpoint import listen
from tests.support import until


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The URL at which the app is served meanwhile."""
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    serving = asyncio.create_task(server.serve([listening]))

    async def started() -> bool:
        return server.started or serving.done()

    await until(started)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving
        listening.close()
