"""What ADK runs in parallel takes as long as the slowest of it, after a crash too."""

import time

import pytest

from tests.fidelity import run
from tests.fidelity.harness import Service
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios.slow import SLOW
from tests.support import unique

# Run commands and their timers: the crash comes when all three steps have begun and none has ended.
BEGUN = {"three_slow_branches": 10, "three_slow_tools": 14, "three_slow_nodes": 10}


@pytest.mark.parametrize("service", ["plain"], indirect=True)
@pytest.mark.parametrize("crash", [False, True], ids=["plain", "crash"])
@pytest.mark.parametrize("scenario", SLOW, ids=lambda scenario: scenario.id)
async def test_three_of_a_second_take_less_than_1_6(scenario: Scenario, crash: bool, service: Service) -> None:
    user = unique("user")
    noted = run.runs[user] = run.Run(fail_after=BEGUN[scenario.id] if crash else None)
    began = time.monotonic()
    body = {"message": "go", "session_id": "s", "app_name": scenario.app.name}
    answer = await service.http.post(f"/Chat/{user}/message", json=body)
    took = time.monotonic() - began
    assert answer.is_success, answer.text
    (attempts,) = noted.turns.values()
    assert len(attempts) == (2 if crash else 1)
    assert attempts[0].lost == 0, "the crash came too late"
    assert 1 <= took < 1.6
