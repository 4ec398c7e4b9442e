"""Every scenario has the same outcome under the service as under ADK's InMemoryRunner."""

from tests.fidelity.comparison import each, plain, same
from tests.fidelity.harness import Service, under_adk, under_restate
from tests.fidelity.scenario import Scenario


@each
async def test_a_run_is_as_under_adk(scenario: Scenario, service: Service) -> None:
    expected = await under_adk(scenario, streaming=False)
    found, noted = await under_restate(scenario, service, streaming=False)
    same(scenario, found, expected)
    attempts = [attempt for attempts in noted.turns.values() for attempt in attempts]
    assert sum(attempt.lost for attempt in attempts) == 0, "a call of a model or a tool is not in the journal"


@each
@plain
async def test_a_streamed_run_is_as_under_adk(scenario: Scenario, service: Service) -> None:
    expected = await under_adk(scenario, streaming=True)
    found, _ = await under_restate(scenario, service, streaming=True)
    same(scenario, found, expected)
