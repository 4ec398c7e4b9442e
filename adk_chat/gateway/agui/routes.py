"""The routes of AG-UI, and those that a CopilotKit page expects of its runtime."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from importlib.metadata import version
from typing import Annotated, Any

from ag_ui.core import AgentCapabilities
from ag_ui.core.capabilities import (
    HumanInTheLoopCapabilities,
    IdentityCapabilities,
    MultimodalCapabilities,
    MultimodalInputCapabilities,
    ReasoningCapabilities,
    StateCapabilities,
    ToolsCapabilities,
    TransportCapabilities,
)
from ag_ui.encoder import EventEncoder
from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from google.adk.apps.app import App
from pydantic import BaseModel

from adk_chat.gateway.agui.run_input import USER, RunInput
from adk_chat.gateway.agui.runs import Run, Runs
from adk_chat.gateway.auth.access import SUBJECT, note_user
from adk_chat.gateway.serving import STOP
from adk_chat.gateway.streams.run_request import TURN_ID
from adk_chat.gateway.turns import RefusedError
from adk_chat.protocol.json import Json
from adk_chat.protocol.turn_id import TurnKey

JsonBody = Annotated[Any, Body()]
_USER_HEADER = "x-user-id"
"""Names the user where no token does. CopilotKit sends nothing but its headers with all of its requests."""
_ENCODER = EventEncoder()


class Envelope(BaseModel):
    """A request to CopilotKit's runtime at one address."""

    method: str
    params: dict[str, str] = {}
    body: Any = None


def agui_routes(runs: Runs, apps: Mapping[str, App], aliases: Mapping[str, str]) -> APIRouter:
    """Returns the routes.

    Args:
        runs: starts and shows runs.
        apps: the apps, which are the agents of AG-UI.
        aliases: aliases of apps.
    """
    door = _Door(runs, apps, aliases)
    router = APIRouter(tags=["AG-UI"])

    @router.post("/agui/{app_name}")
    @router.post("/copilotkit/agent/{app_name}/run")
    async def run(app_name: str, request: Request, body: JsonBody, user_id: str | None = None) -> StreamingResponse:
        """A run of AG-UI: posts what is new in its messages, and streams the turn."""
        return await door.run(request, app_name, body, user_id)

    @router.post("/agui/{app_name}/connect")
    @router.post("/copilotkit/agent/{app_name}/connect")
    async def connect(app_name: str, request: Request, body: JsonBody, user_id: str | None = None) -> StreamingResponse:
        """The messages of a thread, and the turns that are running, as a run of AG-UI."""
        return await door.connect(request, app_name, body, user_id)

    @router.post("/agui/{app_name}/threads/{thread_id}/stop")
    @router.post("/copilotkit/agent/{app_name}/stop/{thread_id}")
    async def stop(app_name: str, thread_id: str, request: Request, user_id: str | None = None) -> dict[str, bool]:
        """Cancel the turn that runs in a thread. Answers whether one was running."""
        return await door.stop(request, app_name, thread_id, user_id)

    @router.get("/agui/{app_name}/threads/{thread_id}")
    async def thread(app_name: str, thread_id: str, request: Request, user_id: str | None = None) -> JSONResponse:
        """The messages of a thread, its state, and what it waits for."""
        return JSONResponse(await runs.thread(door.key(request, app_name, thread_id, user_id)))

    @router.get("/agui/{app_name}/capabilities")
    async def capabilities(app_name: str) -> JSONResponse:
        """What an agent can do, as AG-UI's AgentCapabilities."""
        return JSONResponse(door.capabilities(app_name))

    @router.get("/copilotkit/info")
    async def info() -> JSONResponse:
        """The agents, as CopilotKit's runtime lists them."""
        return JSONResponse(door.info())

    @router.post("/copilotkit", response_model=None)
    async def single(request: Request, envelope: Envelope, user_id: str | None = None) -> Response:
        """All of CopilotKit's runtime at one address, for its option useSingleEndpoint."""
        app_name, thread_id = envelope.params.get("agentId", ""), envelope.params.get("threadId", "")
        if envelope.method == "agent/run":
            return await door.run(request, app_name, envelope.body, user_id)
        if envelope.method == "agent/connect":
            return await door.connect(request, app_name, envelope.body, user_id)
        if envelope.method == "agent/stop":
            return JSONResponse(await door.stop(request, app_name, thread_id, user_id))
        if envelope.method == "info":
            return JSONResponse(door.info())
        raise RefusedError(404, f"method: there is no {envelope.method!r}.")

    return router


class _Door:
    """What the routes have in common."""

    def __init__(self, runs: Runs, apps: Mapping[str, App], aliases: Mapping[str, str]) -> None:
        self._runs = runs
        self._apps = apps
        self._aliases = aliases

    async def run(self, request: Request, app_name: str, body: Any, user_id: str | None) -> StreamingResponse:
        given = RunInput.parse(body)
        key = self.key(request, app_name, given.thread_id, user_id, given.user_id)
        return self._stream(request, await self._runs.start(key, given))

    async def connect(self, request: Request, app_name: str, body: Any, user_id: str | None) -> StreamingResponse:
        given = RunInput.parse(body)
        key = self.key(request, app_name, given.thread_id, user_id, given.user_id)
        return self._stream(request, await self._runs.connect(key, given))

    async def stop(self, request: Request, app_name: str, thread_id: str, user_id: str | None) -> dict[str, bool]:
        return {"stopped": await self._runs.stop(self.key(request, app_name, thread_id, user_id))}

    def key(self, request: Request, app_name: str, thread_id: str, *user_ids: str | None) -> TurnKey:
        """Returns the session of a request.

        Its user is that of the token; without access control the one that the request names, or `USER`.

        Args:
            request: the request.
            app_name: the app, or an alias.
            thread_id: the thread.
            user_ids: the user in each place, beside a header, where the request may name one.

        Raises:
            RefusedError: if the token is another user's, or there is no such app.
        """
        subject: str | None = request.scope.get(SUBJECT)
        named = [user for user in (request.headers.get(_USER_HEADER), *user_ids) if user]
        if subject is not None and set(named) - {subject}:
            raise RefusedError(403, "The token belongs to another user.")
        user = subject or next(iter(named), USER)
        note_user(request.scope, user)
        return TurnKey(user_id=user, app_name=self._app(app_name)[0], session_id=thread_id)

    def capabilities(self, app_name: str) -> Json:
        """Returns what an agent can do."""
        name, app = self._app(app_name)
        description = getattr(app.root_agent, "description", "") or None
        return AgentCapabilities(
            identity=IdentityCapabilities(name=name, type="adk", description=description),
            transport=TransportCapabilities(streaming=True),
            tools=ToolsCapabilities(supported=True, client_provided=True),
            state=StateCapabilities(snapshots=True, deltas=True, persistent_state=True),
            reasoning=ReasoningCapabilities(supported=True, streaming=True),
            multimodal=MultimodalCapabilities(
                input=MultimodalInputCapabilities(image=True, audio=True, video=True, pdf=True, file=True)
            ),
            human_in_the_loop=HumanInTheLoopCapabilities(supported=True, approvals=True, interrupts=True),
        ).model_dump(mode="json", by_alias=True)

    def info(self) -> Json:
        """Returns CopilotKit's description of a runtime."""
        names = {**{name: name for name in self._apps}, **self._aliases}
        return {
            "version": version("adk-chat"),
            "mode": "sse",
            "audioFileTranscriptionEnabled": False,
            "agents": {
                name: {
                    "name": name,
                    "className": "HttpAgent",
                    "description": getattr(self._apps[app].root_agent, "description", "") or "",
                    "capabilities": self.capabilities(app),
                }
                for name, app in names.items()
            },
        }

    def _app(self, app_name: str) -> tuple[str, App]:
        name = self._aliases.get(app_name, app_name)
        if name not in self._apps:
            known = ", ".join(self._apps)
            raise RefusedError(404, f"There is no agent {app_name}. The agents are: {known}.")
        return name, self._apps[name]

    def _stream(self, request: Request, run: Run) -> StreamingResponse:
        stop: asyncio.Event | None = request.scope.get(STOP)
        headers = {TURN_ID: str(run.turn_ids[-1])} if run.turn_ids else None
        return StreamingResponse(_encoded(self._runs, run, stop), media_type="text/event-stream", headers=headers)


async def _encoded(runs: Runs, run: Run, stop: asyncio.Event | None) -> AsyncGenerator[str, None]:
    async with aclosing(runs.show(run, stop)) as events:
        async for event in events:
            yield _ENCODER.encode(event)
