"""A restate-server on this machine, for development and tests. It never outlives the process that started it."""

import asyncio
import fcntl
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TextIO

from adk_chat.process import guard
from adk_chat.protocol.errors import NoAnswerError
from adk_chat.protocol.limits import MAX_BYTES
from adk_chat.restate_api import AdminApi, AdminError, Ingress

_GUARD = guard.__file__
_START_SECONDS, _REGISTER_SECONDS = 60, 30
SLOTS = 2_000
"""How many handlers the server runs at once; Restate's default is 1,000. A turn whose model or tools are running takes
one slot, and about half a megabyte of memory in this process and the server."""
_RESTATE, _NODE = "restate", "adk-chat"
_LIMIT = "RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT"
_DEFAULTS = {
    # After this time the server gives up an endpoint that does not answer; by default after a minute.
    "RESTATE_WORKER__INVOKER__HTTP2_KEEP_ALIVE_INTERVAL": "10s",
    "RESTATE_WORKER__INVOKER__HTTP2_KEEP_ALIVE_TIMEOUT": "10s",
    # No handler accepts more. What a handler would refuse goes through the server's log first, ahead of everybody
    # else's.
    "RESTATE_INGRESS__REQUEST_SIZE_LIMIT": str(MAX_BYTES),
}
"""Defaults of the server that do not suit chats. The environment overrides them."""
_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""The longest path of a unix socket."""


class ServerError(Exception):
    """The server does not start, or ended by itself."""


class AwayError(ServerError):
    """Nobody answers at the server's address."""


class DataDir:
    """A directory for the server's data, which one process at a time may use."""

    def __init__(self, path: Path, lock: TextIO) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def lock(cls, path: Path) -> "DataDir":
        """Creates the directory if needed, and locks it.

        Raises:
            ServerError: if another process uses it, it cannot be written to, or its path is too long.
        """
        given, path = path, path.resolve()
        # Restate resolves symbolic links, so a link does not help.
        beyond = len(os.fsencode(path / _RESTATE / _NODE / "fabric.sock")) - _SOCKET_BYTES
        if beyond > 0:
            raise ServerError(
                f"{path} is {beyond} bytes too long for restate-server's sockets. "
                "Choose a shorter directory with --data-dir."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / "lock").open("a+")
        except OSError as error:
            raise ServerError(
                f"{given} cannot be used: {error.strerror} ({error.filename}). Choose another directory with "
                "--data-dir."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip()
            raise ServerError(
                f"{given} is in use by another adk-chat (process {owner}). "
                "Stop that one, or give this one its own --data-dir."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return cls(path, lock)

    def close(self) -> None:
        """Releases the directory."""
        self._lock.close()


class RestateServer:
    """A restate-server with its data in `data_dir`. As an async context manager, it is entered when it is ready.

    Args:
        binary: the restate-server to run.
        data_dir: the directory of its data and its log.
        ingress_port: the port of the ingress, on loopback.
        admin_port: the port of the admin API and the Restate UI, on loopback.
        replay_always: suspend and replay handlers at every await.
        slots: how many handlers it runs at once; by default RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT, or
            else `SLOTS`.
    """

    def __init__(
        self,
        binary: Path,
        data_dir: Path,
        ingress_port: int,
        admin_port: int,
        *,
        replay_always: bool = False,
        slots: int | None = None,
    ) -> None:
        self.ingress_url = f"http://localhost:{ingress_port}"
        self.admin_url = f"http://localhost:{admin_port}"
        self.log = data_dir / "restate-server.log"
        self._binary = binary
        self._directory = data_dir
        self._environment = _environment(data_dir, ingress_port, admin_port, replay_always, slots)
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> "RestateServer":
        with self.log.open("w") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-S", _GUARD, str(self._binary), "--no-logo"),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._directory,
                # Ctrl-C in the terminal is for this process, which then ends the server in order.
                start_new_session=True,
            )
        try:
            await asyncio.wait_for(self._ready(), _START_SECONDS)
        except BaseException as error:
            await self.__aexit__(None, None, None)
            if isinstance(error, TimeoutError):
                raise ServerError(f"restate-server was not ready after {_START_SECONDS} s; see {self.log}.") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()  # the guard then ends the server
            await process.wait()

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    async def wait(self) -> None:
        """Waits until the server ends by itself.

        Raises:
            ServerError: always, when it does.
        """
        assert self._process is not None
        code = await self._process.wait()
        raise ServerError(f"restate-server ended with code {code}: {self._last_words()}")

    async def _ready(self) -> None:
        assert self._process is not None
        admin, ingress = AdminApi(self.admin_url, attempts=1), Ingress(self.ingress_url)
        for api in (admin, ingress):
            while not await api.is_up():
                if self._process.returncode is not None:
                    raise ServerError(f"restate-server did not start: {self._last_words()}")
                await asyncio.sleep(0.05)
            await api.close()

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if "error:" in line] or lines or ["it gave no reason"]
        return f"{said[-1].rstrip('.')} ({self._binary}; see {self.log})."

    async def register(self, endpoint_url: str) -> None:
        """Registers an endpoint with the server."""
        await register(self.admin_url, endpoint_url, force=True)


async def register(
    admin_url: str, endpoint_url: str, *, force: bool = False, headers: Mapping[str, str] | None = None
) -> None:
    """Registers an endpoint with a Restate.

    Args:
        admin_url: Restate's admin API.
        endpoint_url: the URL at which Restate reaches the endpoint.
        force: replace what is registered for that URL.
        headers: sent with the request.

    Raises:
        AwayError: if Restate is unreachable.
        ServerError: if it refuses the endpoint. The message says why.
    """
    admin = AdminApi(admin_url, headers, seconds=_REGISTER_SECONDS, attempts=1)
    try:
        await admin.register(endpoint_url, force=force)
    except NoAnswerError as error:
        raise AwayError(f"No answer from Restate's admin API at {admin_url} ({error.__cause__}).") from error
    except AdminError as error:
        raise ServerError(f"Restate at {admin_url} refused {endpoint_url}: {error.message}") from error
    finally:
        await admin.close()


def _environment(
    data_dir: Path, ingress_port: int, admin_port: int, replay_always: bool, slots: int | None
) -> dict[str, str]:
    settings = {
        "BASE_DIR": str(data_dir / _RESTATE),
        "NODE_NAME": _NODE,
        "DISABLE_TELEMETRY": "true",
        # Only the two ports for people are on TCP. Everything else uses sockets in the directory.
        "LISTEN_MODE": "unix",
        "INGRESS__LISTEN_MODE": "tcp",
        "INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress_port}",
        "ADMIN__LISTEN_MODE": "tcp",
        "ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin_port}",
        # Each partition has its own log. On a machine with few cores, eight make a turn twice as expensive as one.
        "DEFAULT_NUM_PARTITIONS": "1",
        "ROCKSDB_TOTAL_MEMORY_SIZE": "256 MB",
        # A single node needs no replicated log. The local one is synced to disk just the same.
        "BIFROST__DEFAULT_PROVIDER": "local",
        "SHUTDOWN_TIMEOUT": "300ms",
        "LOG_FILTER": "warn,octocrab=off",
        "LOG_DISABLE_ANSI_CODES": "true",
    }
    if replay_always:
        settings["WORKER__INVOKER__INACTIVITY_TIMEOUT"] = "0s"
    environment = {**_DEFAULTS, **os.environ, **{f"RESTATE_{name}": value for name, value in settings.items()}}
    # The handlers are on this machine, where no proxy can reach them.
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    if slots is not None or _LIMIT not in environment:
        environment[_LIMIT] = str(slots or SLOTS)
    return environment
