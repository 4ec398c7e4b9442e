"""Restate's admin API for the commands of an operator. Light, so that they answer at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import click
import httpx

from adk_chat.direct import blocking_direct_client

Json = dict[str, Any]

_SECONDS = 10
_DEFAULT = "http://localhost:9070"


class AdminClient:
    """Asks the admin API at a URL.

    Each method raises `click.ClickException` where it does not answer, or answers with an error.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = blocking_direct_client(headers={**headers, "accept": "application/json"}, timeout=_SECONDS)

    def __enter__(self) -> "AdminClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def query(self, sql: str) -> list[Json]:
        """The rows of a query."""
        rows: list[Json] = self.request("POST", "/query", json={"query": sql}).json()["rows"]
        return rows

    def request(self, method: str, path: str, **values: Any) -> httpx.Response:
        """What it answers."""
        with self._answering():
            answer = self._http.request(method, f"{self._url}{path}", **values)
            answer.raise_for_status()
            return answer

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


def _options(function: Callable[..., Any], *, environment: bool) -> Callable[..., Any]:
    url = click.option(
        "--admin-url",
        envvar="ADK_CHAT_ADMIN_URL" if environment else None,
        help=f"Restate's admin API. [ADK_CHAT_ADMIN_URL; default: {_DEFAULT}]",
    )
    token = click.option(
        "--token",
        envvar="ADK_CHAT_RESTATE_TOKEN" if environment else None,
        help="A bearer token for it, as Restate Cloud wants it. [ADK_CHAT_RESTATE_TOKEN]",
    )
    return url(token(function))


def admin_group(function: Callable[[], None]) -> click.Group:
    """A group of commands that take `--admin-url` and `--token`, before their name or after it."""

    @click.pass_context
    def group(context: click.Context, /, **given: str | None) -> None:
        context.obj = given

    return click.group(name=function.__name__, help=function.__doc__)(_options(group, environment=True))


def with_admin(function: Callable[..., None]) -> Callable[..., None]:
    """A command of such a group, which is given an `AdminClient` first."""

    @wraps(function)
    def command(admin_url: str | None, token: str | None, **given: Any) -> None:
        context = click.get_current_context()
        before: Json = context.obj
        admin = AdminClient(admin_url or before["admin_url"] or _DEFAULT, token or before["token"])
        function(context.with_resource(admin), **given)

    return _options(command, environment=False)  # or a variable would count more than what the group was given


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"
