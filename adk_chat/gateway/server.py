"""ADK's own server on the service: its endpoints, with another session service and another Runner."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI, HTTPException
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from google.adk.apps.app import App
from google.adk.artifacts.base_artifact_service import BaseArtifactService
from google.adk.artifacts.in_memory_artifact_service import InMemoryArtifactService
from google.adk.cli.api_server import ApiServer
from google.adk.cli.dev_server import DevServer
from google.adk.errors.input_validation_error import InputValidationError
from google.adk.memory.base_memory_service import BaseMemoryService
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from adk_chat.gateway import seams
from adk_chat.gateway.agui.routes import agui_routes
from adk_chat.gateway.agui.runs import Runs
from adk_chat.gateway.agui.thread import Threads
from adk_chat.gateway.app_loader import Apps
from adk_chat.gateway.artifacts import GatewayArtifacts
from adk_chat.gateway.auth.tickets import Tickets
from adk_chat.gateway.bodies import JsonBodies
from adk_chat.gateway.dev_ui import dev_ui_routes
from adk_chat.gateway.runner import TurnRunner
from adk_chat.gateway.session_import import import_whole
from adk_chat.gateway.sessions import GatewaySessions
from adk_chat.gateway.streams.reader import TurnReader
from adk_chat.gateway.streams.routes import ready_route, turn_routes
from adk_chat.gateway.streams.run_request import Exchanges
from adk_chat.gateway.streams.sse import EventStreams
from adk_chat.gateway.trace_context import TraceContext
from adk_chat.gateway.traces import keep_newest
from adk_chat.gateway.turns import Turns, public_sentence
from adk_chat.process.readiness import Readiness
from adk_chat.protocol.errors import RETRY_AFTER, STATUS, AnswerError, NoAnswerError, status_of
from adk_chat.restate_api import AdminApi, Ingress
from adk_chat.sessions.client import IngressClient
from adk_chat.streaming import Broker

_NOT_OFFERED = {"/run_live", "/agent-identity/finalize"}
"""Routes that would run outside the service: live audio, and a browser's consent for tools of this process."""

_OFFERED_FOR_DEVELOPMENT = (
    "/dev/apps/{app_name}/debug/",
    "/dev/apps/{app_name}/build_graph",
    "/dev/apps/{app_name}/graph",
    "/dev/apps/{app_name}/users/",
)
"""Routes of the dev UI that are served: traces and graphs. The agent builder, deployment, tests and evaluations are
not."""


@dataclass(frozen=True)
class GatewayConfig:
    """The parts of the gateway.

    Args:
        apps: the apps that it shows. Their agents do not run here, but ADK's server needs them.
        ingress_url: Restate's ingress, or several separated by commas.
        admin_url: Restate's admin API, for turns in a queue.
        artifact_service: the artifact service of the agents.
        memory_service: their memory service.
        broker: the broker of live streams. Without one, a turn is shown when it has ended.
        headers: sent to Restate with every request.
        ui: whether to serve the dev UI.
        agui: whether to serve AG-UI.
        allow_origins: the origins whose pages may use it, as in ADK's option.
        ping_seconds: how often a stream without news sends a sign of life.
        tickets: issues tickets for streams.
        host: the address of the server. If it is loopback, requests for another host are refused.
        aliases: aliases of apps.
    """

    apps: Mapping[str, App]
    ingress_url: str
    admin_url: str | None
    artifact_service: BaseArtifactService
    memory_service: BaseMemoryService
    broker: Broker | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    ui: bool = True
    agui: bool = True
    allow_origins: Sequence[str] = ()
    ping_seconds: float = 15
    tickets: Tickets = field(default_factory=Tickets)
    host: str = "127.0.0.1"
    aliases: Mapping[str, str] = field(default_factory=dict)


def gateway_app(config: GatewayConfig) -> FastAPI:
    """Returns the gateway as an ASGI app. Access control and CORS go around it."""
    readiness = Readiness(config.ingress_url, config.admin_url, config.headers, config.broker, config.apps)
    ingress = Ingress(config.ingress_url, config.headers, readiness.diagnosis)
    admin = AdminApi(config.admin_url, config.headers) if config.admin_url else None
    chat = IngressClient(ingress)
    turns = Turns(ingress, chat, admin)
    reader = TurnReader(turns, config.broker)
    known = {*config.apps, *config.aliases}
    artifacts = GatewayArtifacts(config.artifact_service, config.aliases)
    in_memory = isinstance(config.artifact_service, InMemoryArtifactService)
    sessions = GatewaySessions(known, chat, admin, own_artifacts=artifacts if in_memory else None)
    kind = _Dev if config.ui else _Api
    server = kind(
        agent_loader=Apps(config.apps, config.aliases),
        session_service=sessions,
        memory_service=config.memory_service,
        artifact_service=artifacts,
        # The agents that need it do not run here.
        credential_service=cast(Any, None),
        # Evaluations are not served.
        eval_sets_manager=cast(Any, None),
        eval_set_results_manager=cast(Any, None),
        agents_dir="",
    )
    server.turns, server.reader = turns, reader

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        watching = asyncio.create_task(readiness.watch())
        yield
        watching.cancel()
        await sessions.close()
        await readiness.close()

    app = server.get_fast_api_app(
        lifespan=lifespan,
        allow_origins=[*config.allow_origins],
        web_assets_dir=str(seams.DEV_UI) if config.ui else None,
        bind_host=config.host,
    )
    keep_newest(server)
    own = dev_ui_routes() if config.ui else []
    app.router.routes[:] = [*own, *(route for route in app.router.routes if _offered(route))]
    import_whole(app, sessions)
    app.include_router(ready_route(readiness))
    app.include_router(turn_routes(turns, reader, config.tickets, config.aliases))
    if config.agui:
        app.include_router(agui_routes(Runs(turns, reader, Threads(chat)), config.apps, config.aliases))
    app.add_middleware(Exchanges)
    app.add_middleware(TraceContext)
    app.add_middleware(EventStreams, ping_seconds=config.ping_seconds)
    app.add_middleware(JsonBodies)
    app.add_exception_handler(RequestValidationError, _invalid)
    for error in (*STATUS, AnswerError, NoAnswerError, InputValidationError):
        app.add_exception_handler(error, _refused)
    return app


async def _invalid(_: Request, error: Exception) -> Response:
    """Returns FastAPI's answer, even if what was sent has no JSON form."""
    assert isinstance(error, RequestValidationError)
    data = to_json({"detail": jsonable_encoder(error.errors())}, inf_nan_mode="strings")
    return Response(data, 422, media_type="application/json")


async def _refused(_: Request, error: Exception) -> JSONResponse:
    status = 400 if isinstance(error, InputValidationError) else status_of(error)
    headers = RETRY_AFTER if isinstance(error, NoAnswerError) else None
    return JSONResponse({"detail": public_sentence(error)}, status or 500, headers)


def _offered(route: BaseRoute) -> bool:
    path: str = getattr(route, "path", "")
    return path not in _NOT_OFFERED and (not path.startswith("/dev/") or path.startswith(_OFFERED_FOR_DEVELOPMENT))


class _Turns(ApiServer):
    _allow_special_agents = False
    turns: Turns
    reader: TurnReader

    def _create_runner(self, agentic_app: App, app_name: str) -> Runner:
        return TurnRunner(
            turns=self.turns,
            reader=self.reader,
            app=agentic_app,
            app_name=agentic_app.name,  # the requested name may be an alias
            session_service=self.session_service,
            artifact_service=self.artifact_service,
            memory_service=self.memory_service,
            credential_service=self.credential_service,
        )

    async def _create_session(self, **arguments: Any) -> Session:
        # ADK's server answers 500 to any exception of a session service but ValueError.
        try:
            return await super()._create_session(**arguments)
        except HTTPException as answer:
            cause = answer.__cause__
            if isinstance(cause, Exception) and status_of(cause) not in (None, answer.status_code):
                raise cause from None
            raise


class _Api(_Turns):
    """ADK's API alone."""


class _Dev(_Turns, DevServer):
    """ADK's API, and what the dev UI needs."""
