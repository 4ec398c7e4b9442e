"""All scenarios."""

from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios import (
    callbacks,
    kept,
    many_agents,
    models,
    one_agent,
    outside,
    own_code,
    runner,
    sessions,
    tools,
    workflows,
)

GROUPS: dict[str, list[Scenario]] = {
    "One agent": one_agent.SCENARIOS,
    "Callbacks and plugins": callbacks.SCENARIOS,
    "Tools": tools.SCENARIOS,
    "Many agents": many_agents.SCENARIOS,
    "Workflows": workflows.SCENARIOS,
    "Code of one's own": own_code.SCENARIOS,
    "What code gives and looks at": kept.SCENARIOS,
    "Sessions": sessions.SCENARIOS,
    "Models": models.SCENARIOS,
    "MCP and credentials": outside.SCENARIOS,
    "Runner and App": runner.SCENARIOS,
}
SCENARIOS: list[Scenario] = [scenario for group in GROUPS.values() for scenario in group]
