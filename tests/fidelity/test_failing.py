"""Every scenario has the same outcome as under ADK's InMemoryRunner, wherever its attempts break off."""

import asyncio
from itertools import accumulate

from tests.fidelity import run
from tests.fidelity.comparison import each, plain, same
from tests.fidelity.harness import Service, under_adk, under_restate
from tests.fidelity.scenario import Scenario

ONCE = 9
STRIDE = 3
"""One run breaks off after the 1st, 4th, 7th ... entry of each turn, one after the 2nd, 5th, ...: all, in all."""


@each
@plain
async def test_a_run_that_fails_after_any_journal_entry_is_as_under_adk(scenario: Scenario, service: Service) -> None:
    expected = await under_adk(scenario, streaming=False)
    expected.forget_versions()

    async def fail(breaks: run.Breaks) -> None:
        found, failed = await under_restate(scenario, service, streaming=False, breaks=breaks)
        *turns, last = failed.turns.values()
        assert len(last) == 1
        for attempts in turns:
            *broken, end = accumulate(attempt.entries for attempt in attempts)
            assert {*broken} == {*range(breaks.first, end + 1, breaks.later or end)}
        repeated = sum(found.executions.values()) - sum(expected.executions.values())
        lost = sum(attempt.lost for attempts in failed.turns.values() for attempt in attempts[:-1])
        assert repeated == lost, f"{breaks}: {found.executions}"
        found.executions = expected.executions
        # A repeated call that saves an artifact saves it again.
        found.forget_versions()
        same(scenario, found, expected)

    often = (run.Breaks(first, STRIDE) for first in range(1, STRIDE + 1))
    # And one that breaks off once, and then runs to the end of the turn.
    await asyncio.gather(*map(fail, often), fail(run.Breaks(ONCE)))
