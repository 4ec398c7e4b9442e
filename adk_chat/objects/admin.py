"""Restate's admin API, for the one thing that nothing else can do: ending what does not hear a cancellation."""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import httpx

logger = logging.getLogger(__name__)

EndOutcome = Literal["hears", "killed", "was killed", "unknown"]
"""What becomes of a cancelled Restate invocation: it hears of it, was killed here or before, or nobody knows."""

_SECONDS = 1.0
"""How long a Restate invocation that is tried again is given to hear a cancellation."""
_PAUSE = 0.2


class AdminApi:
    """Ends Restate invocations.

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

    async def _kill(self, invocation_id: str) -> bool:
        if self._http is None:  # made once: that takes longer than asking
            self._http = httpx.AsyncClient(headers=self._headers, timeout=2)
        end = time.monotonic() + _SECONDS
        while (wait := await self._wait(self._http, invocation_id)) is not None:
            if wait > _SECONDS or time.monotonic() > end:
                answer = await self._http.patch(f"{self._url}/invocations/{invocation_id}/kill")
                if answer.status_code != httpx.codes.NOT_FOUND:  # it has ended by itself
                    answer.raise_for_status()
                return answer.is_success
            await asyncio.sleep(_PAUSE)
        return False

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _wait(self, http: httpx.AsyncClient, invocation_id: str) -> float | None:
        """For how long, in seconds, the engine is not going to try again; None where it is being run, or has ended."""
        sql = f"SELECT status, next_retry_at FROM sys_invocation WHERE id || '' = '{invocation_id}'"
        answer = await http.post(f"{self._url}/query", json={"query": sql}, headers={"accept": "application/json"})
        answer.raise_for_status()
        rows: list[dict[str, Any]] = answer.json()["rows"]
        status = rows[0]["status"] if rows else "completed"
        if status == "paused":
            return float("inf")
        if status != "backing-off":
            return None
        again = rows[0].get("next_retry_at")
        return datetime.fromisoformat(again).timestamp() - time.time() if again else 0.0
