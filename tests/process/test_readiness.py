"""Probes that come every second."""

import asyncio
from typing import Any

import aiohttp
import pytest

from adk_chat.process.readiness import Readiness
from tests.conftest import free_port


async def test_all_probes_share_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[aiohttp.TCPConnector] = []
    connector = aiohttp.TCPConnector

    def make(**options: Any) -> aiohttp.TCPConnector:
        made.append(connector(**options))
        return made[-1]

    monkeypatch.setattr(aiohttp, "TCPConnector", make)
    probed = Readiness(ingress_url=f"http://127.0.0.1:{free_port()}")
    answers = await asyncio.gather(*(probed.answer() for _ in range(10)))
    assert {answer.status_code for answer in (*answers, await probed.answer())} == {503}
    assert len(made) == 1
    await probed.close()
    assert made[0].closed
