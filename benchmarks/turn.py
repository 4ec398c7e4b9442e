"""What a turn costs, as ratios within one run: `python -m benchmarks.turn`.

Everything runs on this machine on one real restate-server: a handler that does one step, a turn whose model answers at
once, and a session that grows to 300 turns while the model sees a bounded window of it.
"""

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import httpx
import restate
import uvloop
from google.adk.agents.llm_agent import LlmAgent
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from adk_chat import ChatService
from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.server import RestateServer
from adk_chat.endpoint import listen, serve
from adk_chat.settings import Settings

ROUNDS = 5
CALLS = 60
WINDOW = 20

bare = restate.Service("Bare")


@bare.handler()
async def one_step(ctx: restate.Context, text: str) -> str:
    """The least that a durable handler does."""

    async def step() -> str:
        return text

    return await ctx.run_typed("step", step)


class Instant(BaseLlm):
    """A model that answers at once."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=1, candidates_token_count=1)
        content = types.Content(role="model", parts=[types.Part(text="An answer of a usual length, say. " * 10)])
        yield LlmResponse(content=content, usage_metadata=usage)


async def milliseconds(calls: int, call: Callable[[], Awaitable[httpx.Response]]) -> list[float]:
    """How long each of so many calls takes, one after the other."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        (await call()).raise_for_status()
        took.append((time.perf_counter() - began) * 1000)
    return took


async def main() -> None:
    """Measure and print."""
    settings = Settings(_env_file=None, history_events=WINDOW)
    service = ChatService(LlmAgent(name="instant", model=Instant(model="instant")), settings=settings)
    await service.warm_up()
    stop = asyncio.Event()
    endpoint, ingress, admin = (listen("127.0.0.1", 0) for _ in range(3))
    ports = [listening.getsockname()[1] for listening in (endpoint, ingress, admin)]
    ingress.close()
    admin.close()
    with tempfile.TemporaryDirectory() as directory:
        async with RestateServer(find_restate_server(print), Path(directory), ports[1], ports[2]) as server:
            serving = asyncio.create_task(serve([*service.objects, bare], endpoint, stop, drain_seconds=1))
            await server.register(f"http://127.0.0.1:{ports[0]}")
            async with httpx.AsyncClient(base_url=server.ingress_url, timeout=60) as http:
                await measure(http)
            stop.set()
            await serving


async def measure(http: httpx.AsyncClient) -> None:
    """Run the three comparisons."""
    numbers = itertools.count()

    async def step() -> httpx.Response:
        return await http.post("/Bare/one_step", json="text")

    async def fresh_session() -> httpx.Response:
        return await http.post("/Chat/user/message", json={"message": "Hello", "session_id": f"s{next(numbers)}"})

    async def fresh_user() -> httpx.Response:
        return await http.post(f"/Chat/u{next(numbers)}/message", json={"message": "Hello", "session_id": "s"})

    async def long_session() -> httpx.Response:
        return await http.post("/Chat/long/message", json={"message": "Hello", "session_id": "s"})

    await milliseconds(20, step)
    await milliseconds(20, fresh_session)
    print(f"{ROUNDS} rounds of {CALLS} calls, one after the other; medians in ms, ratio to the bare step of the round")
    for _ in range(ROUNDS):
        least = statistics.median(await milliseconds(CALLS, step))
        session = statistics.median(await milliseconds(CALLS, fresh_session))
        user = statistics.median(await milliseconds(CALLS, fresh_user))
        print(
            f"bare step {least:6.1f}   turn, fresh session {session:6.1f} = {session / least:.2f}x"
            f"   turn, fresh user {user:6.1f} = {user / least:.2f}x"
        )
    turns = await milliseconds(310, long_session)
    early, late = statistics.median(turns[5:15]), statistics.median(turns[295:305])
    print(
        f"one session, window of {WINDOW} events: turn 10 {early:.1f} ms, turn 300 {late:.1f} ms = {late / early:.2f}x"
    )


if __name__ == "__main__":
    uvloop.run(main())
