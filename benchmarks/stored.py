"""Users with much stored data."""

import asyncio
from typing import Any

import httpx

from benchmarks.instant import NAME

_EVENTS_AT_ONCE = 100
_AT_ONCE = 8
_CONTENT = {"role": "user", "parts": [{"text": "An answer of a usual length, say. " * 10}]}


async def sessions(http: httpx.AsyncClient, user: str, count: int) -> None:
    """Creates this many sessions of a user."""
    numbers = iter(range(count))

    async def create() -> None:
        for number in numbers:
            await _call(http, f"{user}/create_session", {"session_id": f"s{number}"})

    await asyncio.gather(*(create() for _ in range(_AT_ONCE)))


async def session(http: httpx.AsyncClient, user: str, count: int) -> None:
    """Creates a session `s` with this many events."""
    await _call(http, f"{user}/create_session", {"session_id": "s"})
    for begin in range(0, count, _EVENTS_AT_ONCE):
        numbers = range(begin, min(count, begin + _EVENTS_AT_ONCE))
        events = [{"id": f"e{n}", "author": NAME, "timestamp": float(n), "content": _CONTENT} for n in numbers]
        await _call(http, f"{user}/append_events", {"session_id": "s", "events": events})


async def _call(http: httpx.AsyncClient, handler: str, body: dict[str, Any]) -> None:
    (await http.post(f"/Chat/{handler}", json=body)).raise_for_status()
