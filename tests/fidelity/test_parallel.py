"""What ADK runs in parallel runs in parallel, after a crash too."""

import asyncio

import pytest

from tests.fidelity import run
from tests.fidelity.comparison import plain
from tests.fidelity.harness import Service
from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios.meeting import MEETINGS
from tests.support import unique

# The crash comes when all three steps have started and none has ended.
BEGUN = {"three_branches": 8, "three_tools": 10, "three_nodes": 8}


@plain
@pytest.mark.parametrize("crash", [False, True], ids=["plain", "crash"])
@pytest.mark.parametrize("scenario", MEETINGS, ids=lambda scenario: scenario.id)
async def test_what_is_parallel_meets(scenario: Scenario, crash: bool, service: Service) -> None:
    user = unique("user")
    noted = run.runs[user] = run.Run(breaks=run.Breaks(BEGUN[scenario.id]) if crash else None)
    body = {"message": "go", "session_id": "s", "app_name": scenario.app.name}
    async with asyncio.timeout(20):
        answer = await service.http.post(f"/Chat/{user}/message", json=body)
    assert answer.is_success, answer.text
    (attempts,) = noted.turns.values()
    assert len(attempts) == (2 if crash else 1)
