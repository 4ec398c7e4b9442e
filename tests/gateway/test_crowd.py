"""A hundred clients at once, of one endpoint and one gateway."""

import asyncio
import subprocess
import sys


async def test_everybody_gets_everything_once_and_nothing_of_it_stays() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.gateway.crowd"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, complained = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, complained.decode()
