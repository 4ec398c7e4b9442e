"""`adk-chat deployments`: the versions of the service that Restate knows."""

import asyncio
import time
from typing import Any

import click

from adk_chat.cli.admin import admin_group, with_admin
from adk_chat.restate_api import AdminApi
from adk_chat.restate_api.admin import quoted
from adk_chat.restate_api.invocations import TURNS

Json = dict[str, Any]

_LOOK_SECONDS = 1.0


@admin_group
def deployments() -> None:
    """List, drain and remove the deployments that Restate knows."""


@deployments.command(name="list")
@with_admin
async def list_deployments(admin: AdminApi) -> None:
    """List the deployments, the newest last: URL, running turns, and whether it gets new ones."""
    found = await _deployments(admin)
    for deployment in found:
        click.echo(await _line(admin, deployment))
    if not found:
        click.echo("Nothing is registered. adk-chat serve --register registers an endpoint.")


@deployments.command()
@click.argument("deployment")
@click.option("--timeout", "seconds", type=float, help="Give up after this many seconds; by default never.")
@with_admin
async def drain(admin: AdminApi, deployment: str, seconds: float | None) -> None:
    """Wait until nothing runs at DEPLOYMENT (its id or URL) any more.

    Another deployment must have replaced it: the newest one gets new turns.
    """
    row = await _find(admin, deployment)
    await _refuse_current(admin, row, "is never drained")
    end = None if seconds is None else time.monotonic() + seconds
    said = ""
    while left := await _what_runs(admin, row):
        if left != said:
            click.echo(f"{left} at {_url(row)}.")
            said = left
        if end is not None and time.monotonic() >= end:
            raise click.ClickException(f"{left} at {_url(row)} after {seconds:g} s; see adk-chat turns list.")
        await asyncio.sleep(_LOOK_SECONDS)
    click.echo(f"Nothing is running at {_url(row)} any more. Its processes can be stopped.")


@deployments.command()
@click.argument("deployment")
@with_admin
async def remove(admin: AdminApi, deployment: str) -> None:
    """Make Restate forget DEPLOYMENT (its id or URL). Nothing may run there any more."""
    row = await _find(admin, deployment)
    await _refuse_current(admin, row, "cannot be removed")
    if left := await _what_runs(admin, row):
        raise click.ClickException(f"{left} at {_url(row)}; wait with adk-chat deployments drain.")
    await admin.request("DELETE", f"/deployments/{row['id']}?force=true")
    click.echo(f"{_url(row)} was removed.")


async def _deployments(admin: AdminApi) -> list[Json]:
    return await admin.query("SELECT id, endpoint, created_at FROM sys_deployment ORDER BY created_at")


async def _find(admin: AdminApi, wanted: str) -> Json:
    found = [row for row in await _deployments(admin) if wanted.rstrip("/") in (row["id"], _url(row))]
    if not found:
        raise click.ClickException(f"{wanted} is not registered. See adk-chat deployments list.")
    return found[-1]


async def _current(admin: AdminApi, row: Json) -> list[str]:
    """Returns the services whose new calls go there."""
    rows = await admin.query(f"SELECT name FROM sys_service WHERE deployment_id = {quoted(row['id'])} ORDER BY name")
    return [service["name"] for service in rows]


async def _refuse_current(admin: AdminApi, row: Json, what: str) -> None:
    if services := await _current(admin, row):
        raise click.ClickException(
            f"{_url(row)} {what}: new calls of {', '.join(services)} go there. Register its replacement first."
        )


async def _what_runs(admin: AdminApi, row: Json) -> str:
    """Returns what is still running there, in words; an empty string if nothing is."""
    here = f"pinned_deployment_id = {quoted(row['id'])} AND status != 'completed'"
    (counts,) = await admin.query(
        f"SELECT count(*) AS all_of_them, coalesce(sum(CASE WHEN {TURNS} THEN 1 END), 0) AS turns, "
        f"coalesce(sum(CASE WHEN {TURNS} AND status = 'paused' THEN 1 END), 0) AS paused "
        f"FROM sys_invocation WHERE {here}"
    )
    if not counts["all_of_them"]:
        return ""
    others = counts["all_of_them"] - counts["turns"]
    paused = f" ({counts['paused']} paused)" if counts["paused"] else ""
    parts = [f"{_counted(counts['turns'], 'turn')}{paused}"] if counts["turns"] else []
    parts += [_counted(others, "other handler")] if others else []
    return f"{' and '.join(parts)} not ended"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _url(row: Json) -> str:
    return str(row["endpoint"]).rstrip("/")


async def _line(admin: AdminApi, row: Json) -> str:
    services = await _current(admin, row)
    given = f"new calls of {', '.join(services)}" if services else "replaced"
    runs = await _what_runs(admin, row) or "nothing runs"
    return f"{row['id']}  {_url(row)}  since {str(row['created_at'])[:19]}  {given}; {runs}"
