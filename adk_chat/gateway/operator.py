"""`adk-chat turns`: what an operator asks about turns, of Restate's admin API. Light, so that it answers at once."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import click
import httpx

from adk_chat.direct import blocking_direct_client
from adk_chat.gateway.invocations import SOURCE, STATUS, TURNS, status_of

Json = dict[str, Any]

_SUFFIX = re.compile(r" \[[0-9a-f ]+\]$")
"""Of a step's name, by which a replay finds it; see adk_chat.durable.keys."""
_BEGUN, _DONE = "Command: Run", "Notification: Run"
_COLUMNS = (
    f"id, target_service_key, {STATUS}, created_at, retry_count, last_failure, next_retry_at, completion_result, "
    "completion_failure"
)


@click.group()
@click.option(
    "--admin-url",
    envvar="ADK_CHAT_ADMIN_URL",
    default="http://localhost:9070",
    show_default=True,
    help="Restate's admin API. [ADK_CHAT_ADMIN_URL]",
)
@click.option("--token", envvar="ADK_CHAT_RESTATE_TOKEN", help="A bearer token for it, as Restate Cloud wants it.")
@click.pass_context
def turns(context: click.Context, admin_url: str, token: str | None) -> None:
    """Look at turns that run, wait, are retried or paused, and end them."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    context.obj = context.with_resource(_Admin(admin_url.rstrip("/"), headers))


@turns.command(name="list")
@click.option("--user", help="Only those of this user.")
@click.pass_obj
def list_turns(admin: "_Admin", user: str | None) -> None:
    """List the turns that have not ended, the oldest first."""
    of_user = f" AND starts_with(target_service_key, '{quote(user, safe='')}/')" if user else ""
    rows = admin.query(
        f"SELECT {_COLUMNS} FROM {SOURCE} WHERE {TURNS} AND status != 'completed'{of_user} ORDER BY created_at"
    )
    for row in rows:
        click.echo(_line(row))
    waiting = sum(status_of(row["status"]) == "waiting" for row in rows)
    if waiting:
        click.echo(
            f"{waiting} of them wait for a slot: Restate runs all the handlers that it may. See the README, Slots."
        )
    if not rows:
        click.echo("No turn runs or waits.")


@turns.command()
@click.argument("turn_id")
@click.pass_obj
def show(admin: "_Admin", turn_id: str) -> None:
    """Show a turn and its steps."""
    row = admin.find(turn_id)
    click.echo(_line(row))
    if row.get("completion_failure"):
        click.echo(f"  ended with: {row['completion_failure']}")
    for name, done in admin.steps(row["id"]):
        click.echo(f"  {name}{'' if done else '  (not done)'}")


@turns.command()
@click.argument("turn_id")
@click.pass_obj
def cancel(admin: "_Admin", turn_id: str) -> None:
    """Cancel a turn: what it has said is kept, marked as interrupted."""
    admin.end(admin.find(turn_id), "cancel")
    click.echo("It is being cancelled. One that is paused, or whose endpoint is away, takes `kill`.")


@turns.command()
@click.argument("turn_id")
@click.pass_obj
def kill(admin: "_Admin", turn_id: str) -> None:
    """End a turn at once, whatever state it is in: what it has stored stays, and nothing more comes of it."""
    admin.end(admin.find(turn_id), "kill")
    click.echo("Killed.")


class _Admin:
    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._http = blocking_direct_client(headers={**headers, "accept": "application/json"}, timeout=10)

    def __enter__(self) -> "_Admin":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def query(self, sql: str) -> list[Json]:
        """The rows of a query."""
        with self._answering():
            answer = self._http.post(f"{self._url}/query", json={"query": sql})
            answer.raise_for_status()
            rows: list[Json] = answer.json()["rows"]
            return rows

    def find(self, turn_id: str) -> Json:
        """The turn of that id, or of that Restate invocation."""
        invocation_id = turn_id.partition(".")[0]
        # Asked for `id` itself, Restate answers with an error where it cannot be the id of any Restate invocation.
        rows = self.query(f"SELECT {_COLUMNS} FROM {SOURCE} WHERE {TURNS} AND id || '' = '{_sql(invocation_id)}'")
        if not rows:
            raise click.ClickException(f"{turn_id} is no turn that runs, waits or ended lately.")
        return rows[0]

    def steps(self, invocation_id: str) -> list[tuple[str, bool]]:
        """The steps of a turn that have begun, and whether each is done."""
        rows = self.query(
            f"SELECT entry_type, name, entry_lite_json FROM sys_journal WHERE id = '{invocation_id}' ORDER BY index"
        )
        entries = [
            (row["entry_type"], _SUFFIX.sub("", row.get("name") or ""), json.loads(row.get("entry_lite_json") or "{}"))
            for row in rows
        ]
        done = {entry["Notification"]["id"]["CompletionId"] for kind, _, entry in entries if kind == _DONE}
        return [
            (str(name), entry["Command"]["Run"]["completion_id"] in done)
            for kind, name, entry in entries
            if kind == _BEGUN
        ]

    def end(self, row: Json, how: str) -> None:
        """Cancel or kill a turn."""
        if row["status"] == "completed":
            raise click.ClickException("It has ended already.")
        with self._answering():
            self._http.patch(f"{self._url}/invocations/{row['id']}/{how}").raise_for_status()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            raise click.ClickException(
                f"Restate's admin API at {self._url} answered HTTP {error.response.status_code}: {error.response.text}"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise click.ClickException(
                f"No answer from Restate's admin API at {self._url} ({error}); say with --admin-url where it is."
            ) from error


def _line(row: Json) -> str:
    user, app, session = (unquote(part) for part in row["target_service_key"].split("/"))
    status = status_of(row["status"])
    attempts = f", attempt {row['retry_count']}" if (row.get("retry_count") or 0) > 1 and status != "ended" else ""
    line = f"{row['id']}  {status}{attempts}  since {row['created_at'][:19]}  {app}, user {user}, session {session}"
    if status in ("retrying", "paused") and row.get("last_failure"):
        line += f"\n  {row['last_failure']}"
    return line


def _sql(text: str) -> str:
    return text.replace("'", "''")
