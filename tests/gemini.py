"""A small HTTP server that speaks generateContent and streamGenerateContent, for google-genai itself to talk to."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import hypercorn.asyncio
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.google_llm import Gemini
from google.genai import types
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from adk_chat.endpoint import listen

Json = dict[str, Any]


def chunk(*parts: Json, **more: Any) -> Json:
    """One response, or one chunk of a streamed one, as Gemini sends it."""
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


def error(status: int, name: str) -> tuple[int, Json]:
    """An error as Gemini sends it."""
    return status, {"error": {"code": status, "message": f"{name} as scripted", "status": name}}


class FakeGemini:
    """Answers requests in the order of `script`. An entry is a list of chunks, or an error."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: deque[list[Json] | tuple[int, Json]] = deque()
        self.requests: list[Json] = []

    async def answer(self, request: Request) -> Response:
        """Handle a request."""
        self.requests.append(await request.json())
        entry = self.script.popleft()
        if isinstance(entry, tuple):
            return JSONResponse(entry[1], entry[0])
        if "streamGenerateContent" in request.url.path:
            return StreamingResponse(
                (f"data: {json.dumps(part)}\r\n\r\n" for part in entry), media_type="text/event-stream"
            )
        return JSONResponse(entry[0])


@asynccontextmanager
async def fake_gemini() -> AsyncIterator[FakeGemini]:
    """A server on loopback."""
    listening = listen("127.0.0.1", 0)
    gemini = FakeGemini(f"http://127.0.0.1:{listening.getsockname()[1]}")
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]  # hypercorn closes it
    config.errorlog = None
    stop = asyncio.Event()
    app = Starlette(routes=[Route("/{path:path}", gemini.answer, methods=["POST"])])
    serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    try:
        yield gemini
    finally:
        stop.set()
        await serving


def gemini_app() -> App:
    """An app whose model is Gemini."""
    return App(name="gemini", root_agent=LlmAgent(name="gemini", model="gemini-2.5-flash"))


def unreachable_app() -> App:
    """Another, whose client is created when nobody listens, and does not retry by itself for up to ten seconds."""
    model = Gemini(model="gemini-2.5-flash", retry_options=types.HttpRetryOptions(attempts=1))
    return App(name="unreachable", root_agent=LlmAgent(name="unreachable", model=model))
