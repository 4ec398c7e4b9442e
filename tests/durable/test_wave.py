"""Calls that begin at once, in branches beside each other."""

import asyncio

from adk_chat.durable.wave import Wave


async def test_branches_go_on_together_and_nobody_waits_for_one_that_waits() -> None:
    wave, went_on = Wave(0), []
    results = {name: asyncio.Event() for name in ("first", "waits", "fails", "last")}

    async def branch(name: str) -> None:
        call = wave.join()

        async def code() -> None:
            if name == "waits":
                await asyncio.sleep(0)

        try:
            await wave.run(call, code())
            await results[name].wait()  # as for the engine
            if name == "fails":
                return
            await wave.end(call)
            went_on.append(name)
        finally:
            wave.leave(call)

    async def rest() -> list[str]:
        for _ in range(10):
            await asyncio.sleep(0)
        return went_on.copy()

    async with asyncio.TaskGroup() as group:
        for name in results:
            group.create_task(branch(name))
        assert await rest() == []
        results["last"].set()
        assert await rest() == [], "the first one has no result yet"
        results["waits"].set()
        assert await rest() == ["waits"]
        results["first"].set()
        assert await rest() == ["waits"], "one may still fail"
        results["fails"].set()
        assert await rest() == ["waits", "first", "last"]
