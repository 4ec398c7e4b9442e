"""`ChatService`: puts the parts together."""

import asyncio
import contextlib
import logging
import os
import warnings
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import NoReturn

import restate
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.run_config import RunConfig
from google.adk.apps.app import App
from google.adk.artifacts.base_artifact_service import BaseArtifactService
from google.adk.artifacts.in_memory_artifact_service import InMemoryArtifactService
from google.adk.auth.credential_service.base_credential_service import BaseCredentialService
from google.adk.auth.credential_service.in_memory_credential_service import InMemoryCredentialService
from google.adk.cli.service_registry import get_service_registry
from google.adk.memory.base_memory_service import BaseMemoryService
from google.adk.memory.in_memory_memory_service import InMemoryMemoryService
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import InMemoryRunner, Runner
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.adk.workflow import BaseNode
from google.genai import types
from pydantic import SecretStr
from starlette.types import ASGIApp

from adk_chat.durable import RetryPolicy, install
from adk_chat.durable.adk.credentials import UserCredentials
from adk_chat.durable.adk.sealed import Seal
from adk_chat.gateway.auth.control import guarded
from adk_chat.gateway.auth.origins import checked_origins, cross_origin
from adk_chat.gateway.auth.tickets import Tickets
from adk_chat.gateway.auth.tokens import AuthError, verifier
from adk_chat.gateway.bodies import BoundedBodies
from adk_chat.gateway.server import GatewayConfig, gateway_app
from adk_chat.objects.app_state import AppStates, app_state_object
from adk_chat.objects.chat import OUTAGE, ChatConfig, chat_object
from adk_chat.restate_api import AdminApi
from adk_chat.sessions import RestateSessionService
from adk_chat.settings import Settings, check_names, is_loopback
from adk_chat.streaming import Broker, open_broker
from adk_chat.turns.attempt import TurnConfig
from adk_chat.turns.history import SessionCache
from adk_chat.turns.turn import turn_object

logger = logging.getLogger(__name__)

_INACTIVITY = timedelta(hours=1)
_WAITING = timedelta(seconds=1)
"""How long a handler that only waits keeps its slot in the engine."""
_CLOSE_SECONDS = 10


class ServiceUriError(ValueError):
    """A service URI is invalid."""


class ChatService:
    """Durable chat with one or more ADK apps.

        app = restate.app(services=ChatService(my_app).objects)

    Args:
        apps: ADK apps, or agents or workflows, which become apps of the same name. The first is the default app.
        settings: by default read from the environment.
        artifact_service: where agents keep artifacts; by default `settings.artifact_service_uri`, or memory.
        memory_service: likewise.
        credential_service: where agents keep the credentials of users; by default the `user:` state, encrypted with
            `settings.credential_key`, or memory if there is no key.
        run_config: for every turn, unless its request overrides it.
        broker: where turns publish their progress for `gateway` to show; by default the Redis of `settings.redis_url`.
            If both run in one process, a `MemoryBroker` will do. Whoever passes one closes it.
        aliases: other names of apps, such as their directories', with the apps' names.

    Raises:
        AuthError: if the settings of access control are contradictory.
        ValueError: if a variable of the environment begins with ADK_CHAT_ and is no setting.
    """

    def __init__(
        self,
        *apps: App | BaseNode,
        settings: Settings | None = None,
        artifact_service: BaseArtifactService | None = None,
        memory_service: BaseMemoryService | None = None,
        credential_service: BaseCredentialService | None = None,
        run_config: RunConfig | None = None,
        broker: Broker | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        install()
        if not apps:
            raise ValueError("ChatService needs at least one app or agent.")
        if settings is None:
            check_names(os.environ)
        self.settings = settings or Settings()
        self._tokens = verifier(self.settings)
        self.apps = {app.name: app for app in map(_as_app, apps)}
        if len(self.apps) < len(apps):
            raise ValueError(f"Two apps have the same name: {', '.join(app.name for app in apps)}.")
        self.aliases = dict(aliases or {})
        self.artifact_service = artifact_service or _artifact_service(self.settings.artifact_service_uri)
        self.memory_service = memory_service or _memory_service(self.settings.memory_service_uri)
        self._seal = _seal(self.settings.credential_key)
        self.credential_service = credential_service or _credential_service(self._seal)
        self.run_config = run_config
        self._outside = RestateSessionService(
            self.settings.ingress_url, admin_url=self.settings.admin_url, headers=self.settings.restate_headers
        )
        self._admin = AdminApi(self.settings.admin_url, self.settings.restate_headers, seconds=2, attempts=1)
        self._opened = open_broker(self.settings.redis_url) if self.settings.redis_url and broker is None else None
        self.broker = broker or self._opened

    async def __aenter__(self) -> "ChatService":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @cached_property
    def objects(self) -> list[restate.VirtualObject]:
        """The virtual objects to bind to a Restate endpoint."""
        settings = self.settings
        retention = timedelta(seconds=settings.journal_retention_seconds)
        app_states = AppStates(timedelta(seconds=settings.app_state_max_age_seconds))
        chat = ChatConfig(
            apps=list(self.apps),
            aliases=self.aliases,
            max_id_length=settings.max_id_length,
            max_message_bytes=settings.max_message_bytes,
            app_states=app_states,
            journal_retention=retention,
            inactivity_timeout=None if settings.replay_always else _WAITING,
            admin=self._admin,
            artifact_service=self.artifact_service,
        )
        turn = TurnConfig(
            apps=self.apps,
            artifact_service=self.artifact_service,
            memory_service=self.memory_service,
            credential_service=self.credential_service,
            model_retry=RetryPolicy(
                max_attempts=settings.model_max_attempts,
                max_duration=timedelta(seconds=settings.model_max_seconds),
                initial_interval=timedelta(seconds=settings.model_retry_seconds),
            ),
            history_events=settings.history_events,
            run_config=self.run_config,
            tool_threads=settings.tool_threads,
            step_timeout=timedelta(seconds=settings.step_timeout_seconds),
            journal_retention=retention,
            retry_policy=OUTAGE,
            # If the server is set to replay at every await, that takes precedence.
            inactivity_timeout=None if settings.replay_always else _INACTIVITY,
            waiting_timeout=None if settings.replay_always else _WAITING,
            broker=self.broker,
            outside=self._outside,
            app_states=app_states,
            cache=SessionCache(settings.cached_events),
            seal=self._seal,
        )
        return [chat_object(chat), turn_object(turn), app_state_object()]

    def gateway(self, ingress_url: str, admin_url: str | None, host: str = "127.0.0.1") -> ASGIApp:
        """Returns ADK's API and, if the settings say so, its dev UI, as an ASGI app over a running Restate.

        Args:
            ingress_url: Restate's ingress.
            admin_url: Restate's admin API.
            host: what the server is bound to. If it is loopback, requests for other hosts are refused.

        Raises:
            AuthError: if other machines could reach it and the settings require no tokens.
            OriginError: if an origin in the settings is invalid.
        """
        allow_origins = checked_origins(self.settings.allow_origins)
        if self._tokens is None and not is_loopback(host):
            raise AuthError(
                f"On {host}, other machines could reach every user's sessions. Set ADK_CHAT_AUTH_JWKS_URL or "
                "ADK_CHAT_AUTH_KEY, and ADK_CHAT_AUTH_AUDIENCE, or listen on 127.0.0.1."
            )
        config = GatewayConfig(
            apps=self.apps,
            aliases=self.aliases,
            ingress_url=ingress_url,
            admin_url=admin_url,
            artifact_service=self.artifact_service,
            memory_service=self.memory_service,
            broker=self.broker,
            headers=self.settings.restate_headers,
            ui=self.settings.ui,
            agui=self.settings.agui,
            allow_origins=allow_origins,
            ping_seconds=self.settings.ping_seconds,
            tickets=Tickets(self.settings.ticket_key),
            # Tokens protect from other sites. A proxy on this machine may pass on another host's name.
            host=host if self._tokens is None else "0.0.0.0",
        )
        app = BoundedBodies(guarded(gateway_app(config), self._tokens, config.tickets))
        return cross_origin(app, config.allow_origins)

    async def warm_up(self) -> None:
        """Imports what ADK would import late. Otherwise the first turn of a process takes a second longer."""
        for app in self.apps.values():
            try:
                getattr(app.root_agent, "canonical_model", None)
            except Exception as error:  # the model is unknown, or its class needs a key; its turns will say so
                logger.debug("%s cannot answer: %s", app.name, error)
        runner = InMemoryRunner(agent=LlmAgent(name="warm_up", model=_Warm(model="warm")), app_name="warm_up")
        await runner.run_debug("Hello", quiet=True)
        await runner.close()

    async def close(self) -> None:
        """Closes each app's toolsets and plugins, and what the service opened. Call it once no turn is running."""
        for app in self.apps.values():
            with _without_advice():
                runner = Runner(app=app, session_service=InMemorySessionService())
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await runner.close()
            except Exception as error:  # a user's plugin may raise anything
                logger.warning("The resources of %s could not be closed: %r", app.name, error)
        await self._outside.close()
        await self._admin.close()
        if self._opened is not None:
            await self._opened.close()


def _artifact_service(uri: str | None) -> BaseArtifactService:
    if uri is None:
        return InMemoryArtifactService()
    with _installed("artifact", uri):
        return get_service_registry().create_artifact_service(uri, agents_dir=".") or _unknown("artifact", uri)


def _memory_service(uri: str | None) -> BaseMemoryService:
    if uri is None:
        return InMemoryMemoryService()
    with _installed("memory", uri):
        return get_service_registry().create_memory_service(uri, agents_dir=".") or _unknown("memory", uri)


@contextlib.contextmanager
def _installed(kind: str, uri: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ServiceUriError(
            f"The {kind} service of {uri!r} needs a package that is not installed: {error}. Install 'google-adk[gcp]', "
            "or that package; for gs:// it is google-cloud-storage."
        ) from error


def _seal(key: SecretStr | None) -> Seal | None:
    try:
        return None if key is None else Seal(key)
    except ValueError as error:
        raise AuthError(f"ADK_CHAT_CREDENTIAL_KEY {error}") from None


def _credential_service(seal: Seal | None) -> BaseCredentialService:
    with warnings.catch_warnings(action="ignore"):  # ADK warns that all of this is experimental
        return InMemoryCredentialService() if seal is None else UserCredentials(seal)


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Suppresses ADK's advice on how to run an app, which makes no sense for one that is being closed."""
    runners = logging.getLogger(f"google_adk.{Runner.__module__}")
    level = runners.level
    runners.setLevel(logging.ERROR)
    try:
        yield
    finally:
        runners.setLevel(level)


def _unknown(kind: str, uri: str) -> NoReturn:
    raise ServiceUriError(f"ADK knows no {kind} service for the URI {uri!r}. See --{kind}_service_uri in ADK's docs.")


class _Warm(BaseLlm):
    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=1, candidates_token_count=1)
        yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text="Hello")]), usage_metadata=usage)


def _as_app(app: App | BaseNode) -> App:
    return app if isinstance(app, App) else App(name=app.name, root_agent=app)
