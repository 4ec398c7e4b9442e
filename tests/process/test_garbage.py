"""When a serving process tidies up."""

import asyncio
import gc
import time

import pytest

from adk_chat.process import garbage

MB = 1024 * 1024


@pytest.mark.parametrize(
    ("count", "grown", "busy", "done"),
    [
        ((0, 5, 0), 0, 0.0, ["collect"]),
        ((0, 0, 1), 0, 0.0, ["collect"]),
        ((40_000, 3, 0), 100 * MB, 0.0, []),
        ((0, 0, 0), 200 * MB, 0.0, ["trim"]),
        ((0, 5, 0), 200 * MB, 2.0, []),
    ],
    ids=["many objects", "very many", "little", "much memory", "busy"],
)
async def test_what_a_crowd_leaves_is_tidied_up_when_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch, count: tuple[int, int, int], grown: int, busy: float, done: list[str]
) -> None:
    did: list[str] = []
    worked, resident = iter((10.0, 10.0 + busy)), [100 * MB, 100 * MB + grown]
    monkeypatch.setattr(time, "process_time", lambda: next(worked))
    monkeypatch.setattr(garbage, "_resident", lambda: resident.pop(0) if len(resident) > 1 else resident[0])
    monkeypatch.setattr(garbage, "_trim", lambda: did.append("trim"))
    monkeypatch.setattr(gc, "get_count", lambda: count)
    monkeypatch.setattr(gc, "get_threshold", lambda: garbage._THRESHOLDS)
    monkeypatch.setattr(gc, "collect", lambda: did.append("collect"))
    looks: list[float] = []
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda seconds, _: looks.append(seconds))
    garbage._WhenQuiet().look()
    assert (did, len(looks)) == (done, 1)
