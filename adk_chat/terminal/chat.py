"""`adk-chat chat`: a conversation in a terminal, on any gateway."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from adk_chat.terminal.client import GatewayClient, GatewayError, Json, Reset, Turn
from adk_chat.terminal.screen import Screen

_HELP = """\
/sessions       your sessions, the latest first
/new [title]    start another session
/switch N|id    continue one of /sessions
/history        the messages of this session
/cancel         cancel this session's turns
/quit           leave; running turns continue
Ctrl-C cancels the current answer; twice leaves, and so does Ctrl-D."""


@click.command()
@click.argument("agent", required=False)
@click.option("--user", default="user", show_default=True, help="The user whose sessions to use.")
@click.option("--session", help="The session to continue or create; by default a new one.")
@click.option("--url", help="The gateway's URL; by default this machine, port ADK_CHAT_PORT or 8000.")
@click.option("--token", envvar="ADK_CHAT_TOKEN", help="A bearer token for --user, if the gateway requires one.")
@click.pass_context
def chat(
    context: click.Context, agent: str | None, user: str, session: str | None, url: str | None, token: str | None
) -> None:
    """Talk to an agent in the terminal. Lines from a pipe are messages; the exit code is that of the last one.

    AGENT is the name of the app, needed if the gateway has several.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    with asyncio.Runner() as runner:
        try:
            client = GatewayClient(url or f"http://localhost:{os.environ.get('ADK_CHAT_PORT') or 8000}", user, token)
            code = _converse(runner, Conversation(client, session), agent)
            runner.run(client.close())
        except GatewayError as error:
            raise click.ClickException(str(error)) from error
    context.exit(code)


def _converse(runner: asyncio.Runner, conversation: "Conversation", agent: str | None) -> int:
    runner.run(conversation.open(agent))
    while (line := _read()) is not None:
        if not runner.run(conversation.take(line.strip())):
            break
    return 1 if conversation.failed else 0


def _read() -> str | None:
    """Returns the next line, or None at the end. At a terminal it can be edited."""
    if not sys.stdin.isatty():
        return sys.stdin.readline() or None
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        click.echo()
        return None


class Conversation:
    """What a user does with the sessions of an app.

    Attributes:
        failed: whether the last answer, or a command since, failed.
    """

    def __init__(self, gateway: GatewayClient, session_id: str | None = None) -> None:
        self.failed = False
        self._gateway = gateway
        self._session_id = session_id
        self._listed: list[str] = []
        self._screen = Screen()
        self._commands = {
            "/sessions": self._show_sessions,
            "/new": self._begin,
            "/switch": self._switch,
            "/history": self._show_history,
            "/cancel": self._cancel,
            "/help": self._help,
        }

    async def open(self, app: str | None) -> None:
        """Chooses the app and opens the session.

        Raises:
            GatewayError: if there is no such app, or no gateway.
        """
        apps = await self._gateway.apps()
        if app is None and len(apps) != 1:
            raise GatewayError(f"The gateway has these apps: {', '.join(apps)}. Choose one: adk-chat chat NAME")
        if app is not None and app not in apps:
            raise GatewayError(f"The gateway has no app {app!r}; it has: {', '.join(apps)}.")
        self._gateway.app = app or apps[0]
        if sys.stdin.isatty():
            where = f", session {self._session_id}" if self._session_id else ""
            self._screen.note(f"{self._gateway.app}, as {self._gateway.user}{where}. /help lists the commands.")
        if self._session_id is not None and await self._gateway.session(self._session_id) is None:
            await self._gateway.create_session(self._session_id)

    async def take(self, line: str) -> bool:
        """Carries out what a line says. Returns whether to go on."""
        if not line:
            return True
        command, _, argument = line.partition(" ")
        if command == "/quit":
            return False
        try:
            if not command.startswith("/"):
                return await self._say(line)
            await self._commands.get(command, self._unknown)(argument.strip())
        except GatewayError as error:
            self.failed = True
            self._screen.error(str(error))
        return True

    async def _say(self, text: str) -> bool:
        """Sends a message and shows the answer. Returns whether the user is still there."""
        if self._session_id is None:
            self._session_id = await self._gateway.create_session()
            if sys.stdin.isatty():
                self._screen.note(f"Session {self._session_id}.")
        self._screen.begin()
        self.failed = False
        turn = self._gateway.run(self._session_id, text)
        following = asyncio.create_task(self._follow(turn))
        with _interrupts(turn, following, self._screen):
            try:
                await following
            except asyncio.CancelledError:
                self.failed = True
                return False
            finally:
                self._screen.end()
        return True

    async def _follow(self, turn: Turn) -> None:
        async with contextlib.aclosing(turn.updates()) as updates:
            async for update in updates:
                if isinstance(update, Reset):
                    self._screen.reset()
                else:
                    self.failed = bool(update.get("errorCode") or update.get("interrupted"))
                    self._screen.event(update)

    async def _show_sessions(self, argument: str) -> None:
        sessions = await self._gateway.sessions()
        self._listed = [session["id"] for session in sessions]
        for number, session in enumerate(sessions, 1):
            mark = "*" if session["id"] == self._session_id else " "
            click.echo(f"{mark}{number:3}  {_described(session)}")
        if not sessions:
            self._screen.note("No sessions yet.")

    async def _begin(self, title: str) -> None:
        self._session_id = await self._gateway.create_session(title=title or None)
        self._screen.note(f"Session {self._session_id}.")

    async def _switch(self, wanted: str) -> None:
        if not wanted:
            raise GatewayError("Name the session: /switch N, with its number in /sessions, or /switch ID.")
        if not self._listed:
            self._listed = [session["id"] for session in await self._gateway.sessions()]
        if wanted.isdecimal() and wanted not in self._listed and 0 < int(wanted) <= len(self._listed):
            wanted = self._listed[int(wanted) - 1]
        if await self._gateway.session(wanted) is None:
            raise GatewayError(f"There is no session {wanted}. /sessions lists them.")
        self._session_id = wanted
        self._screen.note(f"Session {wanted}.")

    async def _show_history(self, argument: str) -> None:
        session = await self._gateway.session(self._session_id) if self._session_id else None
        self._screen.begin()
        for event in (session or {}).get("events", []):
            self._screen.past(event)

    async def _cancel(self, argument: str) -> None:
        running = await self._gateway.running(self._session_id) if self._session_id else []
        # The running one is cancelled last; otherwise the next would begin.
        cancelled = [await self._gateway.cancel(turn_id) for turn_id in reversed(running)]
        self._screen.note(f"Cancelled {sum(cancelled)}." if any(cancelled) else "No turn is running in this session.")

    async def _help(self, argument: str) -> None:
        click.echo(_HELP)

    async def _unknown(self, argument: str) -> None:
        raise GatewayError("Unknown command. /help lists them.")


@contextlib.contextmanager
def _interrupts(turn: Turn, following: "asyncio.Task[None]", screen: Screen) -> Iterator[None]:
    """Ctrl-C cancels the turn; a second one stops following it."""
    loop = asyncio.get_running_loop()
    cancelling: list[asyncio.Task[None]] = []

    async def cancel() -> None:
        try:
            await turn.cancel()
        except GatewayError as error:
            screen.error(f"{error} Ctrl-C leaves.")

    def interrupt() -> None:
        if cancelling:
            following.cancel()
        else:
            screen.note("(cancelling; Ctrl-C again leaves)")
            cancelling.append(loop.create_task(cancel()))

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        for task in cancelling:
            task.cancel()


def _described(session: Json) -> str:
    metadata: Any = (session.get("state") or {}).get("__session_metadata__")
    title = metadata.get("displayName") if isinstance(metadata, dict) else None
    changed = datetime.fromtimestamp(float(session.get("lastUpdateTime", 0))).astimezone()
    return f"{changed:%Y-%m-%d %H:%M}  {session['id']}" + (f"  {title}" if title else "")
