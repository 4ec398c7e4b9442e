"""Every scenario comes to the same under the service as under ADK's InMemoryRunner, whatever happens on the way."""

import asyncio
import difflib
import json

import pytest

from tests.fidelity.harness import Outcome, Service, under_adk, under_restate
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios import SCENARIOS

each = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
plain = pytest.mark.parametrize("service", ["plain"], indirect=True)


def same(scenario: Scenario, found: Outcome, expected: Outcome) -> None:
    assert any(expected.failed) == scenario.fails, "the scenario does under ADK what nobody expects of it"
    asked, answered = (
        json.dumps(outcome.compared(scenario.parallel), indent=1, sort_keys=True).splitlines()
        for outcome in (expected, found)
    )
    differences = list(difflib.unified_diff(asked, answered, "under ADK", "under the service", lineterm=""))
    assert not differences, "\n".join(differences)


@each
async def test_a_run_is_as_under_adk(scenario: Scenario, service: Service) -> None:
    expected = await under_adk(scenario, streaming=False)
    found, noted = await under_restate(scenario, *service, streaming=False)
    same(scenario, found, expected)
    attempts = [attempt for attempts in noted.turns.values() for attempt in attempts]
    assert sum(attempt.lost for attempt in attempts) == 0, "a call of a model or a tool is not in the journal"


@each
@plain
async def test_a_streamed_run_is_as_under_adk(scenario: Scenario, service: Service) -> None:
    expected = await under_adk(scenario, streaming=True)
    found, _ = await under_restate(scenario, *service, streaming=True)
    same(scenario, found, expected)


@each
@plain
async def test_a_run_that_fails_after_any_journal_entry_is_as_under_adk(scenario: Scenario, service: Service) -> None:
    expected = await under_adk(scenario, streaming=False)
    expected.forget_versions()
    _, noted = await under_restate(scenario, *service, streaming=False)

    async def fail(after: int) -> None:
        found, failed = await under_restate(scenario, *service, streaming=False, fail_after=after)
        repeated = sum(found.executions.values()) - sum(expected.executions.values())
        lost = sum(attempts[0].lost for attempts in failed.turns.values() if len(attempts) > 1)
        assert repeated == lost, f"failing after entry {after} of each turn: {found.executions}"
        found.executions = expected.executions
        # What saved an artifact and is made again saves it again.
        found.forget_versions()
        same(scenario, found, expected)

    longest = max(attempts[-1].entries for attempts in noted.turns.values())
    await asyncio.gather(*(fail(after) for after in range(1, longest + 1)))
