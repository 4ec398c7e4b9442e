"""Restate's admin API: SQL over its state, ending Restate invocations, and deployments."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic_core import to_json

from adk_chat.protocol.errors import NoAnswerError
from adk_chat.restate_api.http import ATTEMPTS, SECONDS, Answer, RestateHttp

_JSON = {"content-type": "application/json", "accept": "application/json"}
_NOT_FOUND = 404


class AdminError(Exception):
    """The admin API answered with an error.

    Attributes:
        status: its HTTP status.
        message: what it says, without our own words.
    """

    def __init__(self, url: str, answer: Answer) -> None:
        self.status = answer.status
        self.message = str(answer.error().get("message") or answer.text)
        super().__init__(f"Restate's admin API at {url} answered HTTP {answer.status}: {self.message}")


class AdminApi:
    """The admin API of a Restate.

    Each method raises `AdminError` if it answers with an error, and `NoAnswerError` if it does not answer.

    Args:
        url: the admin API.
        headers: sent with every request.
        seconds: how long to wait for an answer.
        attempts: how often to try if there is none.
    """

    def __init__(
        self, url: str, headers: Mapping[str, str] | None = None, *, seconds: float = SECONDS, attempts: int = ATTEMPTS
    ) -> None:
        self.url = url.rstrip("/")
        self._http = RestateHttp(self.url, headers, seconds=seconds, attempts=attempts)

    async def query(self, sql: str) -> list[dict[str, Any]]:
        """Returns the rows of a query."""
        answer = await self.request("POST", "/query", {"query": sql})
        try:
            rows: list[dict[str, Any]] = answer.json()["rows"]
        except (ValueError, LookupError, TypeError):
            raise AdminError(self.url, answer) from None
        return rows

    async def count(self, what: str) -> int:
        """Returns the number of rows of `what`, the FROM clause of a query and all that follows it."""
        (row,) = await self.query(f"SELECT count(*) AS number FROM {what}")
        return int(row["number"])

    async def end(self, invocation_id: str, how: Literal["cancel", "kill", "purge"]) -> bool:
        """Cancels or kills a Restate invocation, or forgets one that has ended. Returns False if there is none."""
        answer = await self._http.send("PATCH", f"/invocations/{invocation_id}/{how}")
        if not answer.is_success and answer.status != _NOT_FOUND:
            raise AdminError(self.url, answer)
        return answer.is_success

    async def retry_delay(self, invocation_id: str) -> float | None:
        """Returns for how many seconds Restate will not run a Restate invocation again.

        That is infinite if it is paused, and None if it is running or has ended.
        """
        rows = await self.query(
            f"SELECT status, next_retry_at FROM sys_invocation WHERE {is_invocation(invocation_id)}"
        )
        status = rows[0]["status"] if rows else "completed"
        if status == "paused":
            return float("inf")
        if status != "backing-off":
            return None
        again = rows[0].get("next_retry_at")
        return datetime.fromisoformat(again).timestamp() - time.time() if again else 0.0

    async def register(self, endpoint_url: str, *, force: bool = False) -> None:
        """Registers an endpoint; `force` replaces what is registered for its URL."""
        await self.request("POST", "/deployments", {"uri": endpoint_url, "force": force})

    async def endpoint_of(self, service: str) -> str | None:
        """Returns the URL of the endpoint to which new calls of a service go; None if it is not registered."""
        answer = await self._http.send("GET", f"/services/{service}", headers=_JSON)
        if answer.status == _NOT_FOUND:
            return None
        if not answer.is_success:
            raise AdminError(self.url, answer)
        deployment = await self.request("GET", f"/deployments/{answer.json()['deployment_id']}")
        return str(deployment.json().get("uri", "")).rstrip("/")

    async def request(self, method: str, path: str, body: object = None) -> Answer:
        """Sends a request and returns the answer."""
        content = None if body is None else to_json(body)
        answer = await self._http.send(method, path, content, _JSON)
        if not answer.is_success:
            raise AdminError(self.url, answer)
        return answer

    async def is_up(self) -> bool:
        """Returns whether it answers that it is healthy."""
        try:
            return (await self._http.send("GET", "/health")).is_success
        except NoAnswerError:
            return False

    async def close(self) -> None:
        """Closes the connections of the running event loop. A later request opens new ones."""
        await self._http.close()


def quoted(text: str) -> str:
    """Returns a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def is_invocation(invocation_id: str) -> str:
    """Returns the SQL condition that a row of `sys_invocation` has that id."""
    # Compared with `id` itself, Restate answers with an error if the text cannot be the id of any invocation.
    return f"id || '' = {quoted(invocation_id)}"
