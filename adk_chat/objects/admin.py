"""Restate's admin API, for what nothing else can do: ending what hears no cancellation, and forgetting refusals."""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import httpx

from adk_chat.direct import direct_client

logger = logging.getLogger(__name__)

EndOutcome = Literal["hears", "killed", "was killed", "unknown"]
"""What becomes of a cancelled Restate invocation: it hears of it, was killed here or before, or nobody knows."""

_SECONDS = 1.0
"""How long a Restate invocation that is tried again is given to hear a cancellation."""
_PAUSE = 0.2


class AdminApi:
    """Ends Restate invocations, and forgets how they ended.

    Args:
        url: where the admin API is.
        headers: sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = dict(headers)
        self._http: httpx.AsyncClient | None = None

    async def end(self, invocation_id: str) -> EndOutcome:
        """Kill a Restate invocation that was cancelled and is in no state to hear of it.

        It is in none while it is paused, and while the engine waits before it tries again. One that runs, or is
        suspended, hears of it by itself. "unknown" where the admin API does not answer as it should.
        """
        try:
            return "killed" if await self._kill(invocation_id) else "hears"
        except httpx.HTTPError as error:
            logger.warning("Restate's admin API at %s does not end %s: %r", self._url, invocation_id, error)
            return "unknown"

    async def forget_failed(self, *, invocation_id: str, of: str) -> bool:
        """Have the engine forget a Restate invocation of a handler of that object, if it has failed.

        Gives whether no such failure is kept now: False where the admin API does not answer as it should.
        """
        try:
            rows = await self._rows("target, completion_result", invocation_id)
            failed = bool(rows) and rows[0].get("completion_result") == "failure"
            if failed and rows[0]["target"].rpartition("/")[0] == of:
                await self._patch(invocation_id, "purge")
            return True
        except httpx.HTTPError as error:
            logger.warning("Restate's admin API at %s does not forget %s: %r", self._url, invocation_id, error)
            return False

    async def _kill(self, invocation_id: str) -> bool:
        end = time.monotonic() + _SECONDS
        while (wait := await self._wait(invocation_id)) is not None:
            if wait > _SECONDS or time.monotonic() > end:
                return await self._patch(invocation_id, "kill")
            await asyncio.sleep(_PAUSE)
        return False

    async def _patch(self, invocation_id: str, what: str) -> bool:
        answer = await self._client().patch(f"{self._url}/invocations/{invocation_id}/{what}")
        if answer.status_code != httpx.codes.NOT_FOUND:  # it has ended by itself
            answer.raise_for_status()
        return answer.is_success

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:  # made once: that takes longer than asking
            self._http = direct_client(headers=self._headers, timeout=2)
        return self._http

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _rows(self, columns: str, invocation_id: str) -> list[dict[str, Any]]:
        sql = f"SELECT {columns} FROM sys_invocation WHERE id || '' = '{invocation_id}'"
        answer = await self._client().post(
            f"{self._url}/query", json={"query": sql}, headers={"accept": "application/json"}
        )
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows

    async def _wait(self, invocation_id: str) -> float | None:
        """For how long, in seconds, the engine is not going to try again; None where it is being run, or has ended."""
        rows = await self._rows("status, next_retry_at", invocation_id)
        status = rows[0]["status"] if rows else "completed"
        if status == "paused":
            return float("inf")
        if status != "backing-off":
            return None
        again = rows[0].get("next_retry_at")
        return datetime.fromisoformat(again).timestamp() - time.time() if again else 0.0
