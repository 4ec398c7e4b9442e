"""`adk-chat turns`: what an operator asks Restate's admin API about turns."""

import asyncio
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, unquote

import click

from adk_chat.cli.admin import admin_group, with_admin
from adk_chat.restate_api import AdminApi
from adk_chat.restate_api.admin import is_invocation, quoted
from adk_chat.restate_api.invocations import SOURCE, STATUS, TURNS, status_of

Json = dict[str, Any]

_SUFFIX = re.compile(r" \[[0-9a-f ]+\]$")
"""The part of a step's name by which a replay finds it; see adk_chat.durable.journal.keys."""
_BEGUN, _DONE = "Command: Run", "Notification: Run"
_MOST_CHARACTERS = 1_000_000
"""The longest result of a step that is searched for an error."""
_ERROR_CHARACTERS = 200
_PAUSED_SECONDS, _LOOK_SECONDS = 10.0, 0.1
"""How long Restate may take to pause something, and how often to look."""
_COLUMNS = (
    f"id, target_service_key, {STATUS}, created_at, retry_count, last_failure, next_retry_at, completion_result, "
    "completion_failure, endpoint"
)


@admin_group
def turns() -> None:
    """Look at turns, resume them, and end them."""


@turns.command(name="list")
@click.option("--user", help="Only this user's turns.")
@with_admin
async def list_turns(admin: AdminApi, user: str | None) -> None:
    """List the turns that have not ended, the oldest first, and where each runs."""
    of_user = f" AND starts_with(target_service_key, {quoted(quote(user, safe='') + '/')})" if user else ""
    rows = await _turns(admin, f"status != 'completed'{of_user}")
    for row in rows:
        click.echo(_line(row))
    waiting = sum(status_of(row["status"]) == "waiting" for row in rows)
    if waiting:
        click.echo(
            f"{waiting} of them wait for a slot: Restate runs as many handlers as it may. See docs/production.md."
        )
    if not rows:
        click.echo("No turn is running or waiting.")


@turns.command()
@click.argument("turn_id")
@with_admin
async def show(admin: AdminApi, turn_id: str) -> None:
    """Show a turn and its steps, with the attempts that failed."""
    row = await _find(admin, turn_id)
    click.echo(_line(row))
    if row.get("completion_failure"):
        click.echo(f"  ended with: {row['completion_failure']}")
    for step in await _steps(admin, row["id"]):
        click.echo(f"  {step}")


@turns.command()
@click.argument("turn_id")
@with_admin
async def cancel(admin: AdminApi, turn_id: str) -> None:
    """Cancel a turn. What it has said is kept, marked as interrupted."""
    await _end(admin, await _find(admin, turn_id), "cancel")
    click.echo(f"Cancelling. If the turn is still listed, its endpoint is down: use `adk-chat turns kill {turn_id}`.")


@turns.command()
@click.argument("turn_id")
@with_admin
async def kill(admin: AdminApi, turn_id: str) -> None:
    """End a turn at once, in any state. What it has stored stays."""
    await _end(admin, await _find(admin, turn_id), "kill")
    click.echo("Killed.")


@turns.command()
@click.argument("turn_id")
@click.option("--newest", is_flag=True, help="At the URL that gets new turns, not where it began.")
@with_admin
async def resume(admin: AdminApi, turn_id: str, newest: bool) -> None:
    """Let a paused or retrying turn continue now, after the step that it had reached."""
    row = await _find(admin, turn_id)
    _refuse_ended(row)
    if newest:
        # What was storing something for the turn when its endpoint died would keep it from storing more.
        user, app, _ = (unquote(part) for part in row["target_service_key"].split("/"))
        of_turn = (
            f"target_service_name = 'Chat' AND target_service_key = {quoted(user)} OR "
            f"target_service_name = 'AppState' AND target_service_key = {quoted(app)}"
        )
        fails = "(status IN ('backing-off', 'paused') OR status IN ('ready', 'running') AND retry_count > 1)"
        cut_off = f"{fails} AND ({of_turn})"
        for other in await admin.query(f"SELECT id FROM sys_invocation WHERE {cut_off}"):
            await _move(admin, other["id"])
        await _move(admin, row["id"])
    else:
        await admin.request("PATCH", f"/invocations/{row['id']}/resume")
    click.echo("Resumed.")


async def _move(admin: AdminApi, invocation_id: str) -> None:
    """Resumes a Restate invocation at the newest deployment. Restate moves paused ones only."""
    end = time.monotonic() + _PAUSED_SECONDS
    asked = False
    while True:
        (row,) = await admin.query(f"SELECT status FROM sys_invocation WHERE {is_invocation(invocation_id)}")
        if row["status"] == "paused":
            break
        if row["status"] == "completed":
            return
        if not asked:
            await admin.request("PATCH", f"/invocations/{invocation_id}/pause")
            asked = True
        if time.monotonic() > end:
            raise click.ClickException(f"Restate has not paused {invocation_id} yet. Try again.")
        await asyncio.sleep(_LOOK_SECONDS)
    await admin.request("PATCH", f"/invocations/{invocation_id}/resume?deployment=latest")


async def _turns(admin: AdminApi, condition: str) -> list[Json]:
    """Returns the turns that meet a condition, the oldest first, each with the URL where it runs."""
    deployments = (
        "LEFT JOIN (SELECT id AS deployment, endpoint FROM sys_deployment) ON deployment = pinned_deployment_id"
    )
    return await admin.query(
        f"SELECT {_COLUMNS} FROM {SOURCE} {deployments} WHERE {TURNS} AND {condition} ORDER BY created_at"
    )


async def _find(admin: AdminApi, turn_id: str) -> Json:
    """Returns the turn with that id, or that Restate invocation, or the turn that the invocation started."""
    invocation_id = turn_id.partition(".")[0]
    begun_by = f"invoked_by_id || '' = {quoted(invocation_id)}"
    rows = await _turns(admin, f"({is_invocation(invocation_id)} OR {begun_by})")
    if not rows:
        raise click.ClickException(
            f"No such turn: {turn_id}. Ids come from `turns list`, `post` or the `x-turn-id` header."
        )
    return rows[0]


@dataclass
class _Step:
    """A step that has started."""

    name: str
    done: bool
    error: str | None = None
    attempt: int = 1

    def __str__(self) -> str:
        again = f", attempt {self.attempt}" if self.attempt > 1 else ""
        failed = f"  (failed: {self.error})" if self.error else ""
        return f"{self.name}{again}{failed}{'' if self.done else '  (not done)'}"


async def _steps(admin: AdminApi, invocation_id: str) -> list[_Step]:
    rows = await admin.query(
        "SELECT entry_type, name, entry_lite_json, "
        f"CASE WHEN entry_type = '{_DONE}' AND length(entry_json) < {_MOST_CHARACTERS} THEN entry_json END AS whole "
        f"FROM sys_journal WHERE id = {quoted(invocation_id)} ORDER BY index"
    )
    results = {
        json.loads(row["entry_lite_json"])["Notification"]["id"]["CompletionId"]: row.get("whole")
        for row in rows
        if row["entry_type"] == _DONE
    }
    steps: list[_Step] = []
    for row in rows:
        if row["entry_type"] != _BEGUN:
            continue
        name = _SUFFIX.sub("", row.get("name") or "")
        completion = json.loads(row["entry_lite_json"])["Command"]["Run"]["completion_id"]
        step = _Step(name, completion in results, _error(results.get(completion)))
        before = next((before for before in reversed(steps) if before.name == name), None)
        if before is not None and before.error and name.startswith("model "):
            step.attempt = before.attempt + 1
        steps.append(step)
    return steps


def _error(result: str | None) -> str | None:
    """Returns what a model or a tool raised, if the result of its step records an error."""
    try:
        data = json.loads(result or "")["Notification"]["Completion"]["Run"]["result"]["Success"]
        record = json.loads(bytes(data))["error"]
        kind = re.split("[.:]", record["type"])[-1]
        text = " ".join(f"{kind}: {record['message']}".split())
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return text[:_ERROR_CHARACTERS]


async def _end(admin: AdminApi, row: Json, how: Literal["cancel", "kill"]) -> None:
    """Cancels or kills a turn."""
    _refuse_ended(row)
    await admin.end(row["id"], how)


def _refuse_ended(row: Json) -> None:
    if row["status"] == "completed":
        raise click.ClickException("The turn has already ended.")


def _line(row: Json) -> str:
    user, app, session = (unquote(part) for part in row["target_service_key"].split("/"))
    status = status_of(row["status"])
    attempts = f", attempt {row['retry_count']}" if (row.get("retry_count") or 0) > 1 and status != "ended" else ""
    at = f", at {row['endpoint'].rstrip('/')}" if row.get("endpoint") else ""
    line = f"{row['id']}  {status}{attempts}  since {row['created_at'][:19]}  {app}, user {user}, session {session}{at}"
    if status in ("retrying", "paused") and row.get("last_failure"):
        line += f"\n  {row['last_failure']}"
    return line
