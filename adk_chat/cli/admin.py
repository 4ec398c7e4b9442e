"""Commands that ask Restate's admin API."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import click

_SECONDS = 10
_DEFAULT = "http://localhost:9070"


def _options(function: Callable[..., Any], *, environment: bool) -> Callable[..., Any]:
    url = click.option(
        "--admin-url",
        envvar="ADK_CHAT_ADMIN_URL" if environment else None,
        help=f"Restate's admin API. [ADK_CHAT_ADMIN_URL; default: {_DEFAULT}]",
    )
    token = click.option(
        "--token",
        envvar="ADK_CHAT_RESTATE_TOKEN" if environment else None,
        help="A bearer token for it, for Restate Cloud. [ADK_CHAT_RESTATE_TOKEN]",
    )
    return url(token(function))


def admin_group(function: Callable[[], None]) -> click.Group:
    """Makes a group of commands that take `--admin-url` and `--token`, before their name or after it."""

    @click.pass_context
    def group(context: click.Context, /, **given: str | None) -> None:
        context.obj = given

    return click.group(name=function.__name__, help=function.__doc__)(_options(group, environment=True))


def with_admin(function: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Makes a command of such a group, whose first argument is the `AdminApi`.

    If the admin API does not answer, or answers with an error, the command says so and exits with 1.
    """

    @wraps(function)
    def command(admin_url: str | None, token: str | None, **given: Any) -> None:
        before: dict[str, str | None] = click.get_current_context().obj
        token = token or before["token"]
        asyncio.run(_run(function, admin_url or before["admin_url"] or _DEFAULT, token, given))

    return _options(command, environment=False)  # otherwise a variable would override what the group was given


async def _run(
    function: Callable[..., Coroutine[Any, Any, None]], url: str, token: str | None, given: dict[str, Any]
) -> None:
    from adk_chat.protocol.errors import NoAnswerError
    from adk_chat.restate_api import AdminApi, AdminError

    headers = {"authorization": f"Bearer {token}"} if token else {}
    admin: AdminApi = AdminApi(url, headers, seconds=_SECONDS, attempts=1)
    try:
        await function(admin, **given)
    except AdminError as error:
        raise click.ClickException(str(error)) from error
    except NoAnswerError as error:
        raise click.ClickException(
            f"No answer from Restate's admin API at {url} ({error.__cause__}). Use --admin-url to say where it is."
        ) from error
    finally:
        await admin.close()
