"""What many users cost, and whether they slow the next ones down: `python -m benchmarks.users [--users N] [--tools N]`.

Each user has one session with four turns, on an `adk-chat dev` whose model answers at once, after as many tool calls as
asked for. It prints the turns per second, tenth by tenth, the CPU, and how much is on disk afterwards, with and without
the journals that are kept for the Restate UI.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import uvloop
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from benchmarks.instant import Instant
from benchmarks.processes import free_port, started

_AT_ONCE, _TURNS, _PARTS = 32, 4, 10
_SUM = "SELECT sum(length(value)) AS bytes, count(DISTINCT service_key) AS users FROM state WHERE service_name = 'Chat'"


class Calling(Instant):
    """A model that first calls a tool as often as the message says, one call after the other."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        made = 0
        for content in reversed(llm_request.contents):
            part = (content.parts or [])[-1]
            if part.text and content.role == "user":
                break
            made += part.function_response is not None
        if made < int(part.text or 0):
            part = types.Part(function_call=types.FunctionCall(name="nothing", args={}))
            yield LlmResponse(content=types.Content(role="model", parts=[part]))
            return
        async for response in super().generate_content_async(llm_request, stream):
            yield response


async def nothing() -> str:
    """Do nothing."""
    return "done"


app = App(name="calling", root_agent=LlmAgent(name="calling", model=Calling(model="calling"), tools=[nothing]))


async def measure(users: int, tools: int, retention_seconds: int, directory: Path) -> None:
    """Lets them all talk, and prints what it took."""
    ports = {name: free_port() for name in ("port", "ingress-port", "admin-port", "endpoint-port")}
    given = [word for name, number in ports.items() for word in (f"--{name}", str(number))]
    retention = {"ADK_CHAT_JOURNAL_RETENTION_SECONDS": str(retention_seconds), "ADK_CHAT_LOG_LEVEL": "WARNING"}
    command = ("adk_chat", "dev", "benchmarks.users:app", "--no-ui", *given, "--data-dir", str(directory))
    url = f"http://127.0.0.1:{ports['ingress-port']}/Chat"
    async with started("Ctrl-C stops it", *command, **retention) as python, aiohttp.ClientSession() as http:
        (guard,) = python.children()
        (restate,) = guard.children()

        async def talk(numbers: range) -> None:
            left = iter(numbers)

            async def one_after_the_other() -> None:
                for number in left:
                    for _ in range(_TURNS):
                        body = {"message": str(tools), "session_id": "s"}
                        async with http.post(f"{url}/user-{number}/message", json=body) as answer:
                            answer.raise_for_status()

            await asyncio.gather(*(one_after_the_other() for _ in range(_AT_ONCE)))

        spent = [process.seconds() for process in (python, restate)]
        speeds = []
        for part in range(_PARTS):
            began = time.monotonic()
            await talk(range(part * users // _PARTS, (part + 1) * users // _PARTS))
            speeds.append(round(users * _TURNS / _PARTS / (time.monotonic() - began)))
        cpu = [process.seconds() - before for process, before in zip((python, restate), spent, strict=True)]
        query = f"http://127.0.0.1:{ports['admin-port']}/query"
        async with http.post(query, json={"query": _SUM}, headers={"accept": "application/json"}) as answer:
            (stored,) = (await answer.json())["rows"]
    turns = users * _TURNS
    disk = sum(path.stat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())  # noqa: ASYNC240
    print(f"{stored['users']} users, {turns} turns, {tools} tool calls each; journals kept for {retention_seconds} s:")
    print(f"  turns per second, tenth by tenth: {', '.join(map(str, speeds))}")
    print(f"  CPU per turn: {cpu[0] / turns * 1000:.1f} ms Python, {cpu[1] / turns * 1000:.1f} ms Restate")
    print(f"  sessions: {stored['bytes'] / turns:.0f} bytes per turn")
    print(f"  on disk: {disk / turns / 1000:.1f} KB per turn, {disk / 1e6:.0f} MB in all")


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--tools", type=int, default=0)
    arguments = parser.parse_args()
    for retention_seconds in (3600, 0):
        with tempfile.TemporaryDirectory() as directory:
            uvloop.run(measure(arguments.users, arguments.tools, retention_seconds, Path(directory)))


if __name__ == "__main__":
    main()
