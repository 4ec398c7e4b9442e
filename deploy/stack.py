"""The production stack as processes on this machine: Restate, Redis, two endpoints, two gateways, and access control.

    python deploy/stack.py up my_agent       # starts what does not run
    python deploy/stack.py token ada         # a token for a user
    python deploy/stack.py upgrade my_agent  # new processes beside the old ones, which end when their turns have
    python deploy/stack.py backup copy       # into the directory copy, while everything runs
    python deploy/stack.py restore copy      # after `down`
    python deploy/stack.py down

Run it with the Python of the environment where adk-chat is installed; `upgrade` may be run with another one. Nothing
restarts a process that dies, so that one can be killed to see what happens; `up` starts it again.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import click
import jwt

from adk_chat.dev.binary import find_restate_server

AUDIENCE = "stack"
_START_SECONDS, _STOP_SECONDS = 60.0, 45.0
_TOKEN_SECONDS = 7 * 24 * 3600
_WORKERS = 2


class Stack:
    """The processes, and what is in their directory.

    Args:
        directory: for data, logs, process ids and secrets.
        offset: added to all ports.
    """

    def __init__(self, directory: Path, offset: int) -> None:
        self.directory = directory.absolute()
        self._offset = offset
        self._file = self.directory / "stack.json"
        self._known: dict[str, Any] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self.gateways = [self._port(8000), self._port(8001)]
        self.ingress, self.admin, self._node = self._port(8080), self._port(9070), self._port(5122)
        self._redis = self._port(6379)

    def up(self, agent: str | None) -> None:
        """Starts what does not run."""
        if not self._known:
            if agent is None:
                raise click.ClickException("Which agent? The directory of an ADK agent, or package.module:attribute.")
            self.directory.mkdir(parents=True, exist_ok=True)
            self._know(auth=secrets.token_hex(), ticket=secrets.token_hex(), credential=secrets.token_hex(), version=0)
        if agent is not None:
            self._know(agent=agent)
        redis = shutil.which("redis-server") or shutil.which("valkey-server")
        if redis is None:
            raise click.ClickException("There is no redis-server on PATH. Install Redis or Valkey.")
        self._start("redis", [redis, "--port", str(self._redis), "--bind", "127.0.0.1", "--save", ""])
        server = find_restate_server(lambda said: click.echo(said, err=True))
        self._start("restate", [str(server), "--no-logo"], self._restate_environment())
        self._until_answers("restate", self.admin, "/health")
        self._start_endpoint()
        self._start_gateways()
        click.echo(f"Gateways  http://localhost:{self.gateways[0]} and http://localhost:{self.gateways[1]}")
        click.echo(f"Restate   http://localhost:{self.admin} (UI), http://localhost:{self.ingress} (ingress)")
        click.echo(f"Logs      {self.directory / 'logs'}")

    def upgrade(self, agent: str | None) -> None:
        """Starts a new version of the endpoints at a new URL, replaces the gateways, and drains what was before."""
        self._require()
        old = [name for name in self._names() if name.startswith("endpoint-")]
        self._know(agent=agent or self._known["agent"], version=self._known["version"] + 1)
        self._start_endpoint()
        for number in range(len(self.gateways)):
            self._stop(f"gateway-{number}")
            self._start_gateways()
        for name in old:
            for verb in ("drain", "remove"):
                command = [_adk_chat(), "deployments", verb, self._endpoint_url(int(name.removeprefix("endpoint-")))]
                subprocess.run([*command, "--admin-url", f"http://localhost:{self.admin}"], check=True)
            self._stop(name)

    def backup(self, target: Path) -> None:
        """Copies Restate's data. The server is stopped for as long as that takes, so the copy is of one moment.

        A snapshot of the volume, where there is one, does the same without stopping it.
        """
        self._require()
        if target.exists():
            raise click.ClickException(f"{target} exists already. Name a new directory.")
        pid = self._pid("restate")
        if pid is not None:
            os.kill(pid, signal.SIGSTOP)
        try:
            shutil.copytree(self.directory / "restate", target / "restate")
        finally:
            if pid is not None:
                os.kill(pid, signal.SIGCONT)
        if (artifacts := self.directory / "artifacts").exists():
            shutil.copytree(artifacts, target / "artifacts")
        shutil.copy(self._file, target)  # the keys: without them users' credentials cannot be read

    def restore(self, source: Path) -> None:
        """Puts a copy in the place of what there is."""
        if running := [name for name in self._names() if self._pid(name) is not None]:
            raise click.ClickException(f"Still running: {', '.join(running)}. Run `down` first.")
        if not (source / self._file.name).exists() or source.resolve().is_relative_to(self.directory):
            raise click.ClickException(f"{source} is not a backup, or is in {self.directory}, which is replaced.")
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.copytree(source, self.directory)

    def down(self) -> None:
        """Ends everything: gateways, then endpoints, which drain, then Restate and Redis."""
        order = ["gateway", "endpoint", "restate", "redis"]
        for name in sorted(self._names(), key=lambda name: order.index(name.partition("-")[0])):
            self._stop(name)

    def token(self, user: str) -> str:
        """Returns a token for a user, valid for a week."""
        self._require()
        claims = {"sub": user, "aud": AUDIENCE, "exp": int(time.time()) + _TOKEN_SECONDS}
        return jwt.encode(claims, self._known["auth"], "HS256")

    def _start_endpoint(self) -> None:
        version = self._known["version"]
        port, name = self._port(9080 + version), f"endpoint-{version}"
        admin = f"http://localhost:{self.admin}"
        options = ["--endpoint-port", str(port), "--workers", str(_WORKERS)]
        options += self._metrics(9474 + version * _WORKERS)  # each worker has a port of its own
        register = ["--register", admin, "--url", self._endpoint_url(version)]
        self._start(name, [_adk_chat(), "serve", self._known["agent"], *options, *register], self._environment())
        self._until_answers(name, port, "/ready")

    def _start_gateways(self) -> None:
        for number, port in enumerate(self.gateways):
            options = ["--port", str(port), "--no-ui", *self._metrics(9464 + number)]
            self._start(f"gateway-{number}", [_adk_chat(), "web", self._known["agent"], *options], self._environment())
        for number, port in enumerate(self.gateways):
            self._until_answers(f"gateway-{number}", port, "/ready")

    def _metrics(self, port: int) -> list[str]:
        """Returns the option, if the extra is installed."""
        return ["--metrics-port", str(self._port(port))] if find_spec("prometheus_client") else []

    def _endpoint_url(self, version: int) -> str:
        return f"http://127.0.0.1:{self._port(9080 + version)}"

    def _environment(self) -> dict[str, str]:
        return {
            "ADK_CHAT_INGRESS_URL": f"http://localhost:{self.ingress}",
            "ADK_CHAT_ADMIN_URL": f"http://localhost:{self.admin}",
            "ADK_CHAT_ARTIFACT_SERVICE_URI": f"file://{self.directory / 'artifacts'}",
            "ADK_CHAT_AUTH_KEY": self._known["auth"],
            "ADK_CHAT_AUTH_AUDIENCE": AUDIENCE,
            "ADK_CHAT_TICKET_KEY": self._known["ticket"],
            "ADK_CHAT_CREDENTIAL_KEY": self._known["credential"],
            "REDIS_URL": f"redis://127.0.0.1:{self._redis}",
        }

    def _restate_environment(self) -> dict[str, str]:
        settings = {
            "BASE_DIR": str(self.directory / "restate"),
            "NODE_NAME": "adk-chat",
            "BIND_IP": "127.0.0.1",
            "BIND_PORT": str(self._node),
            "LISTEN_MODE": "tcp",
            "INGRESS__BIND_PORT": str(self.ingress),
            "ADMIN__BIND_PORT": str(self.admin),
            "DEFAULT_NUM_PARTITIONS": "2",
            "DISABLE_TELEMETRY": "true",
            "INGRESS__REQUEST_SIZE_LIMIT": "24MiB",
            "WORKER__INVOKER__HTTP2_KEEP_ALIVE_INTERVAL": "10s",
            "WORKER__INVOKER__HTTP2_KEEP_ALIVE_TIMEOUT": "10s",
            "ROCKSDB_TOTAL_MEMORY_SIZE": "512 MB",
            "LOG_FILTER": "warn",
        }
        return {f"RESTATE_{name}": value for name, value in settings.items()}

    def _start(self, name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        if self._pid(name) is not None:
            return
        log = self._log(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("a") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._pid_file(name).parent.mkdir(exist_ok=True)
        self._pid_file(name).write_text(f"{process.pid} {_started(process.pid)}")

    def _until_answers(self, name: str, port: int, path: str) -> None:
        end = time.monotonic() + _START_SECONDS
        while not _answers(port, path):
            if self._pid(name) is None or time.monotonic() > end:
                raise click.ClickException(f"{name} did not start; see {self._log(name)}.")
            time.sleep(0.1)

    def _stop(self, name: str) -> None:
        pid = self._pid(name)
        if pid is not None:
            click.echo(f"Stopping {name} ...")
            end = time.monotonic() + _STOP_SECONDS
            with contextlib.suppress(ProcessLookupError):  # it may end by itself meanwhile
                os.kill(pid, signal.SIGTERM)
                while self._pid(name) is not None:
                    if time.monotonic() > end:
                        os.kill(pid, signal.SIGKILL)
                    time.sleep(0.05)
        self._pid_file(name).unlink(missing_ok=True)

    def _pid(self, name: str) -> int | None:
        """Returns the id of a process if it runs."""
        try:
            pid, _, started = self._pid_file(name).read_text().partition(" ")
        except FileNotFoundError:
            return None
        # The id alone may by now be that of somebody else's process.
        return int(pid) if _started(int(pid)) == started else None

    def _names(self) -> list[str]:
        return [path.name for path in (self.directory / "pids").glob("*")]

    def _pid_file(self, name: str) -> Path:
        return self.directory / "pids" / name

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def _require(self) -> None:
        if not self._known:
            raise click.ClickException(f"There is no stack in {self.directory}. Run `up` first.")

    def _know(self, **more: Any) -> None:
        self._known |= more
        self._file.touch(mode=0o600)
        self._file.write_text(json.dumps(self._known))

    def _port(self, port: int) -> int:
        return port + self._offset


def _adk_chat() -> str:
    return str(Path(sys.executable).with_name("adk-chat"))


def _started(pid: int) -> str:
    """Returns when a process was started; nothing if it does not run."""
    command = ["ps", "-o", "state=", "-o", "lstart=", "-p", str(pid)]
    state, _, started = (
        subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip().partition(" ")
    )
    return "" if state == "Z" else started.strip()


def _answers(port: int, path: str) -> bool:
    with contextlib.suppress(OSError), urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


@click.group()
@click.option("--directory", type=click.Path(path_type=Path), default=Path("stack"), show_default=True)
@click.option("--offset", default=0, help="Added to all ports.")
@click.pass_context
def main(context: click.Context, directory: Path, offset: int) -> None:
    """Run the production stack as processes on this machine."""
    context.obj = Stack(directory, offset)


@main.command()
@click.argument("agent", required=False)
@click.pass_obj
def up(stack: Stack, agent: str | None) -> None:
    """Start what does not run."""
    stack.up(agent)


@main.command()
@click.argument("user")
@click.pass_obj
def token(stack: Stack, user: str) -> None:
    """Print a token for USER, valid for a week."""
    click.echo(stack.token(user))


@main.command()
@click.argument("agent", required=False)
@click.pass_obj
def upgrade(stack: Stack, agent: str | None) -> None:
    """Replace endpoints and gateways by new ones, without ending a turn."""
    stack.upgrade(agent)


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.pass_obj
def backup(stack: Stack, target: Path) -> None:
    """Copy everything that is stored into the directory TARGET."""
    stack.backup(target)


@main.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.pass_obj
def restore(stack: Stack, source: Path) -> None:
    """Replace everything that is stored by the copy in SOURCE. The stack must be down."""
    stack.restore(source)


@main.command()
@click.pass_obj
def down(stack: Stack) -> None:
    """End everything."""
    stack.down()


if __name__ == "__main__":
    main()
