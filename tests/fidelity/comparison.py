"""Whether a scenario has the same outcome under the service as under ADK's InMemoryRunner."""

import difflib
import json

import pytest

from tests.fidelity.harness import Outcome
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios import SCENARIOS

each = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
plain = pytest.mark.parametrize("service", ["plain"], indirect=True)


def same(scenario: Scenario, found: Outcome, expected: Outcome) -> None:
    """Assert it."""
    assert any(expected.failed) == scenario.fails, "the scenario does under ADK what nobody expects of it"
    asked, answered = (
        json.dumps(outcome.compared(scenario), indent=1, sort_keys=True).splitlines() for outcome in (expected, found)
    )
    differences = list(difflib.unified_diff(asked, answered, "under ADK", "under the service", lineterm=""))
    assert not differences, "\n".join(differences)
