"""All scenarios."""

from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios import callbacks, one_agent, tools

SCENARIOS: list[Scenario] = [*one_agent.SCENARIOS, *callbacks.SCENARIOS, *tools.SCENARIOS]
