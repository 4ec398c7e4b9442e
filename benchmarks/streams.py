"""What live streams cost: `python -m benchmarks.streams [--redis]`.

Everything runs on this machine: 100 clients, each of which gets 20 tokens per second from `adk-chat dev`, where
endpoint and gateway are one process; or with `--redis` from `adk-chat serve` and `adk-chat web` with a Redis between
them. The time to the first token is compared with that of ADK's own server with its in-memory session service.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvloop
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.sessions.in_memory_session_service import InMemorySessionService
from google.genai import types

from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.server import RestateServer
from benchmarks.processes import Process, free_port, started
from benchmarks.variants import api_server
from tests.programs import find_redis_server

STREAMS = 100
TOKENS = 200
RATE = 20
FIRST = 30
APP = "speaker"


class Speaker(BaseLlm):
    """A model that says `TOKENS` tokens, `RATE` per second; or a single one if asked for that."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        asked = (llm_request.contents[-1].parts or [])[-1].text
        words = [f"token-{number} " for number in range(1 if asked == "one" else TOKENS)]
        began = time.monotonic()
        for number, word in enumerate(words):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            yield LlmResponse(content=_said(word), partial=True)
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=1, candidates_token_count=1)
        yield LlmResponse(content=_said("".join(words)), usage_metadata=usage)


def _said(text: str) -> types.Content:
    return types.Content(role="model", parts=[types.Part(text=text)])


app = App(name=APP, root_agent=LlmAgent(name=APP, model=Speaker(model=APP)))


@asynccontextmanager
async def one_process(directory: Path) -> AsyncIterator[tuple[str, list[Process]]]:
    """`adk-chat dev`."""
    port, ingress, admin, endpoint = map(str, (free_port() for _ in range(4)))
    ports = ("--port", port, "--ingress-port", ingress, "--admin-port", admin, "--endpoint-port", endpoint)
    command = ("adk_chat", "dev", "benchmarks.streams:app", "--no-ui", *ports)
    async with started("Ctrl-C stops it", *command, "--data-dir", str(directory)) as process:
        yield f"http://127.0.0.1:{port}", [process]


@asynccontextmanager
async def two_processes(directory: Path) -> AsyncIterator[tuple[str, list[Process]]]:
    """`adk-chat serve` and `adk-chat web`, with a Redis between them."""
    redis_port, port, endpoint_port = map(str, (free_port() for _ in range(3)))
    url = {"REDIS_URL": f"redis://127.0.0.1:{redis_port}"}
    redis = ("--port", redis_port, "--save", "", "--dir", str(directory))
    command = ("adk_chat",)
    agent = "benchmarks.streams:app"
    async with AsyncExitStack() as stack:
        program = str(find_redis_server(print))
        await stack.enter_async_context(started("Ready to accept connections", *redis, program=program))
        server = RestateServer(find_restate_server(print), directory, free_port(), free_port())
        await stack.enter_async_context(server)
        over = ("--ingress-url", server.ingress_url, "--admin-url", server.admin_url)
        serve = (*command, "serve", agent, "--endpoint-port", endpoint_port, "--register", server.admin_url)
        web = (*command, "web", agent, "--no-ui", "--port", port, *over)
        processes = [await stack.enter_async_context(started("Serving", *each, **url)) for each in (serve, web)]
        yield f"http://127.0.0.1:{port}", processes


@asynccontextmanager
async def adk() -> AsyncIterator[str]:
    """ADK's own server."""
    port = free_port()
    async with started("Serving", "benchmarks.streams", "adk", str(port)):
        yield f"http://127.0.0.1:{port}"


async def listened(client: httpx.AsyncClient, user: str, text: str) -> tuple[float, list[float], str, list[str]]:
    """One turn: the seconds to the first token, the times of all tokens, the answer, and the tokens."""
    await client.post(f"/apps/{APP}/users/{user}/sessions", json={"sessionId": "s"})
    message = {"role": "user", "parts": [{"text": text}]}
    body = {"appName": APP, "userId": user, "sessionId": "s", "newMessage": message, "streaming": True}
    tokens, times, answer = [], [], ""
    began = time.perf_counter()
    async with client.stream("POST", "/run_sse", json=body) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data:"):
                continue
            event: Any = json.loads(line[5:])
            if "content" not in event:  # the end
                continue
            said = event["content"]["parts"][0]["text"]
            if event.get("partial"):
                tokens.append(said)
                times.append(time.perf_counter() - began)
            else:
                answer = said
    return times[0], times, answer, tokens


async def first_tokens(url: str, name: str) -> float:
    """Returns the median of milliseconds to the first token."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        took = [(await listened(client, f"{name}-{number}", "one"))[0] * 1000 for number in range(FIRST + 5)]
    return statistics.median(took[5:])


async def crowd(url: str, processes: list[Process]) -> None:
    """All streams at once."""
    limits = httpx.Limits(max_connections=None)
    before, memory = [process.seconds() for process in processes], [process.megabytes() for process in processes]
    began = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as client:
        talks = await asyncio.gather(*(listened(client, f"crowd-{number}", "all") for number in range(STREAMS)))
    took = time.perf_counter() - began
    expected = [f"token-{number} " for number in range(TOKENS)]
    lost = sum(tokens != expected or answer != "".join(expected) for _, _, answer, tokens in talks)
    late = [at - number / RATE for _, times, _, _ in talks for number, at in enumerate(times)]
    total = STREAMS * TOKENS
    used = [process.seconds() - begun for process, begun in zip(processes, before, strict=True)]
    print(f"{STREAMS} streams of {TOKENS} tokens took {took:.1f} s; a model of {RATE} a second {TOKENS / RATE:.1f} s")
    print(f"  streams in which anything was lost, doubled or out of order: {lost}")
    print(f"  processor time for a token: {', '.join(f'{spent / total * 1e6:.0f} us' for spent in used)}")
    grown = [process.megabytes() - megabytes for process, megabytes in zip(processes, memory, strict=True)]
    print(f"  memory, in MB more than before: {', '.join(f'{more:.0f}' for more in grown)}")
    print(f"  a token after its time: median {statistics.median(late) * 1000:.0f} ms, worst {max(late) * 1000:.0f} ms")
    assert lost == 0


async def main(redis: bool) -> None:
    """Measures and prints."""
    kind = two_processes if redis else one_process
    print("adk-chat serve, adk-chat web and Redis:" if redis else "adk-chat dev:")
    with tempfile.TemporaryDirectory() as directory:
        async with kind(Path(directory)) as (url, processes), adk() as theirs:
            for number in range(3):
                ours, own = await first_tokens(url, f"first-{number}"), await first_tokens(theirs, f"first-{number}")
                print(f"first token: {ours:.1f} ms, ADK's own server {own:.1f} ms; {ours - own:.1f} ms more")
            for _ in range(2):
                await crowd(url, processes)


if __name__ == "__main__":
    if sys.argv[1:2] == ["adk"]:
        uvloop.run(api_server(app, int(sys.argv[2]), InMemorySessionService()))
    else:
        uvloop.run(main("--redis" in sys.argv))
