"""When garbage is collected in a process that serves."""

import asyncio
import gc
import time

import pytest

from adk_chat import garbage


@pytest.mark.parametrize(
    ("count", "busy", "collected"),
    [((0, 5, 0), 0.0, True), ((0, 0, 1), 0.0, True), ((40_000, 3, 0), 0.0, False), ((0, 5, 0), 2.0, False)],
    ids=["much", "very_much", "little", "busy"],
)
async def test_what_a_crowd_leaves_is_collected_when_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch, count: tuple[int, int, int], busy: float, collected: bool
) -> None:
    collections: list[bool] = []
    worked = iter((10.0, 10.0 + busy, 20.0))
    monkeypatch.setattr(time, "process_time", lambda: next(worked))
    monkeypatch.setattr(gc, "get_count", lambda: count)
    monkeypatch.setattr(gc, "get_threshold", lambda: garbage._THRESHOLDS)
    monkeypatch.setattr(gc, "collect", lambda: collections.append(True))
    looks: list[float] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda seconds, _: looks.append(seconds))
    garbage._WhenQuiet().look()
    assert (bool(collections), len(looks)) == (collected, 1)
