"""The pump hands out results one by one, hears a cancellation, and ends every wait."""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
import restate

from adk_chat.durable.journal import seams
from adk_chat.durable.journal.attempt import Attempt
from adk_chat.durable.journal.entries import Entries
from adk_chat.durable.journal.pump import BrokenOffError, ClosedError, Pump
from adk_chat.durable.journal.recorded import Memory

NEVER = 1


class Vm:
    """A state machine whose results arrive when a test says so."""

    def __init__(self) -> None:
        self.completed: dict[int, object] = {}
        self.numbers: dict[int, int] = {}
        self.ranks: dict[int, int] = {}
        self.memory = Memory()
        self.cancelled = False
        self.broken: Exception | None = None
        self.sleeps: list[int] = []

    def sys_signal(self, name: str) -> int:
        return NEVER

    def sys_sleep(self, millis: int, name: str | None = None) -> None:
        self.sleeps.append(millis)

    def find(self, _key: object) -> None:
        return None

    def record(self, _key: object, make: Callable[[], bytes]) -> bytes:
        return make()

    def known_before(self, rank: float) -> bool:
        return False

    def is_completed(self, handle: int) -> bool:
        return handle in self.completed


class Engine:
    """Restate, as an attempt sees it."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.arrived = asyncio.Event()

    async def send_output(self) -> None:
        await asyncio.sleep(0)

    async def receive(self) -> None:
        await self.arrived.wait()
        self.arrived.clear()

    def notify(self, _: object) -> bool:
        return False

    def progress(self, handles: list[int]) -> Any:
        if self.vm.broken is not None:
            raise self.vm.broken
        if self.vm.cancelled:
            self.vm.cancelled = False
            return seams.Progress.CANCELLED
        return seams.Progress.WAIT

    async def take(self, handle: int) -> object:
        return self.vm.completed.pop(handle)

    def let_go(self) -> None: ...


class Bench:
    """A pump with the test's own engine."""

    def __init__(self, pump: Pump, vm: Vm, engine: Engine) -> None:
        self.pump, self.vm, self.engine = pump, vm, engine

    def complete(self, *handles: int) -> None:
        self.vm.completed.update((handle, f"result {handle}") for handle in handles)
        self.pump.wake()


@pytest_asyncio.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    vm = Vm()
    engine = Engine(vm)
    monkeypatch.setattr(seams, "Engine", lambda context: engine)
    context: Any = SimpleNamespace(request=lambda: SimpleNamespace(id="inv_pump"))
    attempt = await Attempt.begin("inv_pump", None)
    pump = Pump(context, vm, Entries(), attempt)  # type: ignore[arg-type]
    pump.start(context, contextvars.copy_context())
    yield Bench(pump, vm, engine)
    await pump.stop()
    await attempt.close(well=True, again=False)


async def test_results_that_arrive_together_are_handed_out_in_the_order_of_the_journal(bench: Bench) -> None:
    log: list[str] = []

    async def code(handle: int) -> None:
        log.append(await bench.pump.result(handle))
        await asyncio.sleep(0)
        log.append(f"{handle} at rest")

    waiting = [asyncio.create_task(code(handle)) for handle in (10, 11)]
    await asyncio.sleep(0)
    bench.vm.ranks = {10: 2, 11: 1}
    bench.complete(10, 11)
    await asyncio.gather(*waiting)
    assert log == ["result 11", "11 at rest", "result 10", "10 at rest"]


async def test_code_that_waits_is_told_of_a_cancellation(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.pump.result(10))
    await asyncio.sleep(0)
    bench.vm.cancelled = True
    bench.pump.wake()
    with pytest.raises(restate.TerminalError) as raised:
        await waiting
    assert raised.value.status_code == 409


async def test_a_part_that_is_not_to_be_cancelled_gets_its_result(bench: Bench) -> None:
    with bench.pump.uncancelled():
        waiting = asyncio.create_task(bench.pump.result(10))
        await asyncio.sleep(0)
        bench.vm.cancelled = True
        bench.pump.wake()
        for _ in range(1000):  # far more than the pump takes to tell code of it
            await asyncio.sleep(0)
        assert not waiting.done()
        bench.complete(10)
        assert await waiting == "result 10"
    with pytest.raises(restate.TerminalError):
        await bench.pump.result(11)


async def test_an_error_of_ours_ends_every_wait(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    waiting = asyncio.create_task(bench.pump.result(10))
    await asyncio.sleep(0)
    bench.vm.broken = ValueError("what is this?")
    bench.pump.wake()
    with pytest.raises(BrokenOffError, match="what is this"):
        await waiting
    with pytest.raises(BrokenOffError):
        await bench.pump.result(11)
    caplog.clear()


async def test_code_that_is_left_behind_is_told_that_its_journal_is_closed(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.pump.result(10))
    await asyncio.sleep(0)
    await bench.pump.stop()
    for left in (waiting, bench.pump.result(11)):
        with pytest.raises(ClosedError):
            await left
