"""The commands `dev`, `serve` and `web`."""

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Any

import click
import uvloop
from google.adk.artifacts.file_artifact_service import FileArtifactService
from pydantic import SecretStr

from adk_chat.agents.demo_model import DemoModel
from adk_chat.agents.loader import AgentError, Loaded, load
from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.npm import InstallError
from adk_chat.dev.reload import directory_of, reloading
from adk_chat.dev.server import AwayError, DataDir, RestateServer, ServerError, register
from adk_chat.endpoint import (
    FEW_STREAMS,
    STREAMS,
    IdentityKeyError,
    PortTakenError,
    ServerMissingError,
    check_server,
    listen,
    stop_event,
)
from adk_chat.endpoint import serve as serve_objects
from adk_chat.gateway.access_log import AccessLog
from adk_chat.gateway.auth.origins import OriginError
from adk_chat.gateway.auth.tokens import AuthError
from adk_chat.gateway.serving import serve_gateway
from adk_chat.process import garbage, telemetry
from adk_chat.process.blocked import BlockedWatch
from adk_chat.process.exit import ProcessEnd
from adk_chat.process.logs import say
from adk_chat.process.readiness import Readiness
from adk_chat.process.slots import watch_slots
from adk_chat.process.workers import WorkerError, Workers, is_first_worker
from adk_chat.service import ChatService, ServiceUriError
from adk_chat.settings import Settings, is_loopback
from adk_chat.streaming import BrokerError, open_broker

DEV_DRAIN_SECONDS = 3
"""How long running steps may continue when `dev` stops."""
_UNAUTHORIZED = "401 Unauthorized"
_REGISTER_SECONDS = 120
_WORKER_SECONDS = 3.0
"""How long a worker process may take to end, beyond its time to drain."""
_PORT_SECONDS = 1.0
"""How long to wait for a port. A process that was killed a moment ago may still hold it."""
_PAUSE_SECONDS = 0.5
_ERRORS = (
    AgentError,
    AuthError,
    BrokerError,
    IdentityKeyError,
    InstallError,
    PortTakenError,
    ServerError,
    ServerMissingError,
    ServiceUriError,
    OriginError,
    WorkerError,
    telemetry.TelemetryError,
)
"""Errors shown without a traceback."""


class _StartError(click.ClickException):
    """An error that kept a command from starting, in the format of its log."""

    def show(self, file: IO[Any] | None = None) -> None:
        say(self.message, level="ERROR")


def run(command: Callable[..., Coroutine[Any, Any, None]], settings: Settings, **more: Any) -> None:
    """Runs one of the commands below, for the agent in the settings.

    Raises:
        ClickException: if it ended with one of `_ERRORS`.
    """
    ending = ProcessEnd()
    try:
        telemetry.check(settings.metrics_port)
        check_server(settings.server)
        (uvloop.run if sys.platform != "win32" else asyncio.run)(ending.of(_loaded(command, settings, more)))
    except _ERRORS as error:
        said = str(error)
        if "MAKELEVEL" in os.environ and " --" in said:
            said += ' From make, options go into ARGS, as in: make run ARGS="--port 8001".'
        raise _StartError(said) from error
    finally:
        ending.leave()


async def _loaded(command: Callable[..., Coroutine[Any, Any, None]], settings: Settings, more: dict[str, Any]) -> None:
    # These run the agent in other processes.
    starts_others = command in (reload, serve_workers, web_workers)
    loaded = [] if starts_others else [await load(settings.agent, settings.model)]
    await command(*loaded, settings, **more)


async def serve(
    loaded: Loaded, settings: Settings, *, admin_url: str | None, url: str | None, force: bool, fd: int | None
) -> None:
    """Serves the handlers, and registers them if `admin_url` is given."""
    telemetry.expose(settings.endpoint_host, settings.metrics_port)
    listening = _endpoint_socket(settings) if fd is None else socket.socket(fileno=fd)
    port = listening.getsockname()[1]
    if admin_url is not None:
        settings = settings.model_copy(update={"admin_url": admin_url})
    service = ChatService(*loaded.apps, aliases=loaded.aliases, settings=settings)
    await service.warm_up()
    telemetry.start(beside_adk=False)
    stop = stop_event()
    serving = asyncio.create_task(
        serve_objects(
            service.objects,
            listening,
            stop,
            server=settings.server,
            streams=STREAMS if fd is None else FEW_STREAMS,
            identity_keys=settings.identity_keys,
            drain_seconds=settings.drain_seconds,
            readiness=Readiness(None, admin_url, settings.restate_headers, service.broker),
        )
    )
    at = url or f"http://{settings.endpoint_host}:{port}"
    if admin_url is not None:
        registering = asyncio.create_task(_register(admin_url, at, force, settings))
        await asyncio.wait([serving, registering], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():  # by an error, or because it is stopping, and nobody would answer Restate
            registering.cancel()
            await serving
            return
        try:
            await registering
        except ServerError:
            stop.set()
            await serving
            raise
    watching = None if admin_url is None else asyncio.create_task(watch_slots(admin_url, settings.restate_headers))
    garbage.settle()
    blocked = BlockedWatch()
    blocked.start()
    registered = f", registered as {at} with the Restate at {admin_url}" if admin_url else ""
    say(f"Serving {_names(loaded)} on http://{settings.endpoint_host}:{port}{registered}.")
    _say_what_is_not_shared(settings)
    if (warning := warning_of_open_port(settings)) is not None and is_first_worker():
        say(warning, level="WARNING")
    await serving
    blocked.stop()
    if watching is not None:
        watching.cancel()
    await service.close()


async def _register(admin_url: str, endpoint_url: str, force: bool, settings: Settings) -> None:
    """Registers with a Restate that may still be starting."""
    end = time.monotonic() + _REGISTER_SECONDS
    waiting = False
    while True:
        try:
            await register(admin_url, endpoint_url, force=force, headers=settings.restate_headers)
        except AwayError as error:
            if time.monotonic() > end:
                raise
            if not waiting:
                say(f"{error} Waiting for it ...")
            waiting = True
            await asyncio.sleep(_PAUSE_SECONDS)
        except ServerError as error:
            if settings.identity_keys and _UNAUTHORIZED in str(error):
                raise ServerError(
                    f"The Restate at {admin_url} does not sign its requests with a key of ADK_CHAT_IDENTITY_KEYS, so "
                    "its requests are refused. It logs its public key when it starts."
                ) from error
            raise
        else:
            return


async def serve_workers(
    settings: Settings, *, arguments: Sequence[str], first: Sequence[str], admin_url: str | None
) -> None:
    """Runs `serve` in several processes. The first one registers them."""
    # Only the first one is told where to register.
    known = {"ADK_CHAT_ADMIN_URL": admin_url} if admin_url is not None else {}
    with _endpoint_socket(settings) as listening:
        grace = settings.drain_seconds + _WORKER_SECONDS
        workers = Workers(
            listening,
            settings.workers,
            arguments,
            first=first,
            environment=known,
            grace_seconds=grace,
            say=say,
        )
        await workers.run(stop_event())


async def web_workers(settings: Settings, *, arguments: Sequence[str]) -> None:
    """Runs `web` in several processes."""
    # A ticket that one process issues must be valid in all.
    key = settings.ticket_key.get_secret_value() if settings.ticket_key else secrets.token_hex()
    shared = {"ADK_CHAT_TICKET_KEY": key}
    with _listen(settings.host, settings.port, "--port") as listening:
        workers = Workers(
            listening,
            settings.workers,
            arguments,
            environment=shared,
            grace_seconds=_WORKER_SECONDS,
            say=say,
        )
        await workers.run(stop_event())


async def web(loaded: Loaded, settings: Settings, *, fd: int | None) -> None:
    """Serves ADK's API and dev UI."""
    telemetry.expose(settings.host, settings.metrics_port)
    service = ChatService(*loaded.apps, aliases=loaded.aliases, settings=settings)
    gateway = service.gateway(settings.ingress_url, settings.admin_url, settings.host)
    telemetry.start(beside_adk=True)
    telemetry.measure_turns(settings.admin_url, settings.restate_headers)
    watching = asyncio.create_task(watch_slots(settings.admin_url, settings.restate_headers))
    listening = _listen(settings.host, settings.port, "--port") if fd is None else socket.socket(fileno=fd)
    port = listening.getsockname()[1]
    host = "localhost" if is_loopback(settings.host) else settings.host
    stop = stop_event()
    garbage.settle()
    say(f"Serving {_names(loaded)} on http://{host}:{port}, over the Restate at {settings.ingress_url}.")
    _say_what_is_not_shared(settings)
    await serve_gateway(AccessLog(gateway) if settings.access_log else gateway, listening, stop)
    watching.cancel()
    await service.close()


async def dev(loaded: Loaded, settings: Settings, *, without_server: bool) -> None:
    """Runs everything in this process, and restate-server beside it unless it is running already."""
    telemetry.expose("127.0.0.1", settings.metrics_port)
    data = None if without_server else DataDir.lock(settings.data_dir)  # locked until the end
    data_dir = data.path if data else settings.data_dir
    listening = _listen("127.0.0.1", settings.endpoint_port, "--endpoint-port")
    port = listening.getsockname()[1]
    web_listening = _listen("127.0.0.1", settings.port, "--port")
    web_url = f"http://localhost:{web_listening.getsockname()[1]}"
    broker = open_broker(settings.redis_url)
    artifacts = None if settings.artifact_service_uri else FileArtifactService(data_dir / "artifacts")
    server = _restate_server(data_dir, settings, without_server)
    key = settings.credential_key or _credential_key(data_dir)
    settings = settings.model_copy(
        update={"admin_url": server.admin_url, "ingress_url": server.ingress_url, "credential_key": key}
    )
    service = ChatService(
        *loaded.apps, aliases=loaded.aliases, settings=settings, broker=broker, artifact_service=artifacts
    )
    stop = stop_event()
    async with nullcontext() if without_server else server:
        ended = asyncio.create_task(asyncio.Event().wait() if without_server else server.wait())
        serving = asyncio.create_task(
            serve_objects(service.objects, listening, stop, server=settings.server, drain_seconds=DEV_DRAIN_SECONDS)
        )
        await service.warm_up()
        await server.register(f"http://127.0.0.1:{port}")
        gateway = service.gateway(server.ingress_url, server.admin_url)
        telemetry.start(beside_adk=True)
        telemetry.measure_turns(server.admin_url, {})
        watching = asyncio.create_task(watch_slots(server.admin_url, {}))
        garbage.settle()
        blocked = BlockedWatch()
        blocked.start()
        web_serving = asyncio.create_task(serve_gateway(gateway, web_listening, stop))
        say(_welcome(loaded, server, web_url, settings))
        done, _ = await asyncio.wait([serving, web_serving, ended], return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        blocked.stop()
        if ended not in done:
            ended.cancel()
            stop.set()
            say("Stopping ...")
            done, _ = await asyncio.wait([serving, web_serving])
            await service.close()
            await broker.close()
        for task in done:
            task.result()
    if data is not None:
        data.close()


async def reload(settings: Settings, *, arguments: Sequence[str]) -> None:
    """Runs restate-server, and `dev` without it in a process that restarts when the agent's files change."""
    directory = directory_of(settings.agent) if settings.agent else None
    if directory is None:
        raise AgentError(f"--reload watches the files of an agent, and {settings.agent or 'the assistant'} has none.")
    data = DataDir.lock(settings.data_dir)
    async with _restate_server(data.path, settings) as server:
        stop = stop_event()
        ended = asyncio.create_task(server.wait())
        ended.add_done_callback(lambda _: stop.set())
        await reloading(arguments, directory, data.path, stop, say)
        if ended.done():
            ended.result()
        ended.cancel()
    data.close()


def _credential_key(data_dir: Path) -> SecretStr:
    """Returns the key for users' credentials, which `dev` creates beside the data that it encrypts."""
    path = data_dir / "credential.key"
    if not path.exists() or not path.read_text():  # a process may have been killed while it wrote it
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=data_dir, delete=False) as file:  # readable by its owner only
            file.write(secrets.token_hex())
        Path(file.name).replace(path)
    return SecretStr(path.read_text())


def _restate_server(data_dir: Path, settings: Settings, runs: bool = False) -> RestateServer:
    """Returns the restate-server of `dev`, after checking that its ports are free unless it runs already."""
    binary = Path()
    if not runs:
        _listen("127.0.0.1", settings.ingress_port, "--ingress-port").close()
        _listen("127.0.0.1", settings.admin_port, "--admin-port").close()
        binary = find_restate_server(partial(say, level="WARNING"))
    return RestateServer(
        binary, data_dir, settings.ingress_port, settings.admin_port, replay_always=settings.replay_always
    )


def warning_of_open_port(settings: Settings) -> str | None:
    """Returns a warning if the endpoint serves anybody who can reach it."""
    if is_loopback(settings.endpoint_host) or settings.identity_keys:
        return None
    return (
        f"  Warning: anyone who can reach port {settings.endpoint_port} on {settings.endpoint_host} can run agents as "
        "any user. Set ADK_CHAT_IDENTITY_KEYS, or allow only Restate to reach it."
    )


def _say_what_is_not_shared(settings: Settings) -> None:
    if not is_first_worker():
        return
    if settings.redis_url is None:
        say("  Without REDIS_URL no partial text streams from `serve` to `web`; answers appear once they are stored.")
    if settings.artifact_service_uri is None:
        say("  Without --artifact-service-uri artifacts are only in each process's memory, and not shared.")
    if settings.credential_key is None:
        say("  Without ADK_CHAT_CREDENTIAL_KEY users are asked for their consent again.")


def _endpoint_socket(settings: Settings) -> socket.socket:
    return _listen(settings.endpoint_host, settings.endpoint_port, "--endpoint-port")


def _listen(host: str, port: int, option: str) -> socket.socket:
    end = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            return listen(host, port)
        except PortTakenError as error:
            if time.monotonic() > end:
                raise PortTakenError(f"{error} Stop what uses it, or choose another with {option}.") from error
        time.sleep(0.05)


def _names(loaded: Loaded) -> str:
    """Returns the names of the apps, the default one first."""
    return ", ".join(app.name for app in loaded.apps)


def _welcome(loaded: Loaded, server: RestateServer, web_url: str, settings: Settings) -> str:
    model = getattr(loaded.apps[0].root_agent, "model", None) if len(loaded.apps) == 1 else None
    name = "the offline demo model; set GOOGLE_API_KEY or ADK_CHAT_MODEL for a real one"
    with_model = f" with {name if isinstance(model, DemoModel) else getattr(model, 'model', model)}" if model else ""
    app = f'"app_name": "{loaded.apps[0].name}", ' if len(loaded.apps) > 1 else ""
    message = f'{{"message": "Make a poem about durable execution.", {app}"session_id": "session-123"}}'
    agui = f"  AG-UI       {web_url}/agui/{loaded.apps[0].name}\n" if settings.agui else ""
    return (
        f"adk_chat is ready: {_names(loaded)}{with_model}.\n"
        f"  {'dev UI    ' if settings.ui else 'ADK API   '}  {web_url}\n{agui}"
        f"  ingress     {server.ingress_url}\n"
        f"  Restate UI  {server.admin_url}\n"
        f"Try:\n"
        f"  curl {server.ingress_url.removeprefix('http://')}/Chat/user123/message --json '{message}'\n"
        f"Ctrl-C stops it; conversations are kept in {server.log.parent}."
    )
