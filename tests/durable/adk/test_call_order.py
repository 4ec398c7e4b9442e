"""The calls of one response start in their order, as under ADK."""

import asyncio

import pytest

from adk_chat.durable.adk.call_order import Call


class Calls:
    """The calls of one response, and what they do, in order."""

    def __init__(self, count: int) -> None:
        self.log: list[str] = []
        begun = [asyncio.Event() for _ in range(count)]
        self._calls = [Call(begun, number) for number in range(count)]

    async def plain(self, number: int) -> None:
        self.log.append(f"{number} runs")

    async def waits(self, number: int, event: asyncio.Event) -> None:
        self.log.append(f"{number} begins")
        await event.wait()
        self.log.append(f"{number} ends")

    async def step(self, number: int) -> None:
        """A step: it waits for the journal, unlike under ADK."""
        call = Call.current()
        assert call is not None
        with call.in_step():
            await asyncio.sleep(0)
        self.log.append(f"{number} runs")

    async def fails(self, number: int) -> None:
        raise ValueError(str(number))

    def run(self, number: int, code: "object") -> "asyncio.Task[None]":
        return asyncio.create_task(self._calls[number].run(code))  # type: ignore[arg-type]


async def test_calls_that_only_wait_for_the_journal_run_one_after_the_other() -> None:
    calls = Calls(3)
    await asyncio.gather(*(calls.run(number, calls.step(number)) for number in range(3)))
    assert calls.log == ["0 runs", "1 runs", "2 runs"]


async def test_a_call_that_waits_lets_the_next_one_begin() -> None:
    calls, event = Calls(2), asyncio.Event()
    running = [calls.run(0, calls.waits(0, event)), calls.run(1, calls.plain(1))]
    await running[1]
    event.set()
    await running[0]
    assert calls.log == ["0 begins", "1 runs", "0 ends"]


async def test_a_call_fails_when_the_others_have_begun() -> None:
    calls, event = Calls(2), asyncio.Event()
    failing, waiting = calls.run(0, calls.fails(0)), calls.run(1, calls.waits(1, event))
    with pytest.raises(ValueError, match="0"):
        await failing
    assert calls.log == ["1 begins"]
    event.set()
    await waiting
