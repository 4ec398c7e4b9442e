"""A minute of faults under load."""

import os
import random
import tempfile
from pathlib import Path

from tests.chaos.run import chaos

SECONDS, USERS = 60, 6


async def test_no_promise_is_broken_while_processes_are_killed(binary: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", random.SystemRandom().randrange(10**6)))
    print(f"the seed is {seed}; set CHAOS_SEED to it to make the same faults")  # noqa: T201  shown on failure
    with tempfile.TemporaryDirectory() as directory:  # whose path is short, as sockets want it
        found = await chaos(binary, Path(directory), seed, SECONDS, USERS)
    assert found.wrong == []
    assert sum(found.counts["faults"].values()) > SECONDS / 10
    assert found.counts["other"]["events"] > 10 * SECONDS
