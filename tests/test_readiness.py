"""Probes that come every second."""

import asyncio
from typing import Any

import httpx
import pytest

from adk_chat.readiness import Readiness
from tests.conftest import free_port


async def test_all_probes_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[httpx.AsyncClient] = []

    class Client(httpx.AsyncClient):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)  # which takes 20 ms, in which nothing else is answered
            made.append(self)

    monkeypatch.setattr(httpx, "AsyncClient", Client)
    probed = Readiness(ingress_url=f"http://127.0.0.1:{free_port()}")
    answers = await asyncio.gather(*(probed.answer() for _ in range(10)))
    assert {answer.status_code for answer in (*answers, await probed.answer())} == {503}
    assert len(made) == 1
    await probed.close()
    assert made[0].is_closed
