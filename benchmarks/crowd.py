"""More people who write at once than Restate runs handlers: `python -m benchmarks.crowd [--people 1200]`.

They talk to an `adk-chat dev` whose Restate has its default limit of 1,000, by `message`, by `post` and by `/run_sse`,
and to a model that takes 5 seconds. Then as many turns wait for a timer, and one more person writes.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import aiohttp
import uvloop
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from restate.extensions import current_context

from adk_chat import restate_tool
from benchmarks.processes import Process, free_port, started

_LIMIT = "RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT"
_SECONDS, _NAP_SECONDS, _DEADLINE = 5, 120, 300
NAME, HELLO, NAP = "crowd", "hello", "nap"


class Slow(BaseLlm):
    """A model that takes 5 seconds, but none for `HELLO`; for `NAP` it calls the tool."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        text = (llm_request.contents[-1].parts or [])[-1].text
        if text == NAP:
            part = types.Part(function_call=types.FunctionCall(name="nap", args={}))
        else:
            part = types.Part(text="An answer.")
            await asyncio.sleep(0 if text == HELLO else _SECONDS)
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=1, candidates_token_count=1)
        yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=usage)


@restate_tool
async def nap() -> str:
    """Wait for a timer of Restate."""
    context = current_context()
    assert context is not None
    await context.sleep(timedelta(seconds=_NAP_SECONDS))
    return "Time is up."


app = App(name=NAME, root_agent=LlmAgent(name=NAME, model=Slow(model="slow"), tools=[nap]))


class Crowd:
    """The people.

    Args:
        http: the client.
        ingress: Restate's ingress.
        web: the gateway.
        people: how many.
    """

    def __init__(self, http: aiohttp.ClientSession, ingress: str, web: str, people: int) -> None:
        self._http = http
        self._ingress = ingress
        self._web = web
        self._people = people

    async def by(self, how: str, talk: Callable[[str], Awaitable[bool]]) -> str:
        """All at once. Returns the results."""
        began = time.perf_counter()
        answered = await asyncio.gather(*(talk(f"{how}-{number}") for number in range(self._people)))
        return f"{sum(answered)} of {self._people} answered in {time.perf_counter() - began:.1f} s"

    async def message(self, user: str, text: str = "Think") -> bool:
        """By `message`."""
        status, _ = await self._post(f"{self._ingress}/Chat/{user}/message", {"message": text, "session_id": "s"})
        return status == 200

    async def post(self, user: str, text: str = "Think") -> bool:
        """By `post`, and waiting for the end of the turn in its events."""
        status, posted = await self._post(f"{self._ingress}/Chat/{user}/post", {"message": text, "session_id": "s"})
        if status != 200 or text == NAP:
            return status == 200
        async with self._http.get(f"{self._web}/turns/{posted['turn_id']}/events") as answer:
            return "event: end" in await answer.text()

    async def sse(self, user: str) -> bool:
        """By `/run_sse`."""
        await self._post(f"{self._web}/apps/{NAME}/users/{user}/sessions", {"sessionId": "s"})
        message = {"role": "user", "parts": [{"text": "Think"}]}
        asked = {"appName": NAME, "userId": user, "sessionId": "s", "newMessage": message, "streaming": True}
        async with self._http.post(f"{self._web}/run_sse", json=asked) as answer:
            return "event: end" in await answer.text()

    async def nap(self, user: str) -> bool:
        """By a message whose turn waits for a timer."""
        return await self.post(user, NAP)

    async def _post(self, url: str, body: object) -> tuple[int, Any]:
        async with self._http.post(url, json=body) as answer:
            return answer.status, await answer.json()


async def main(people: int) -> None:
    """Runs and prints."""
    ports = {name: free_port() for name in ("port", "ingress-port", "admin-port", "endpoint-port")}
    options = [text for name, port in ports.items() for text in (f"--{name}", str(port))]
    ingress, web = (f"http://127.0.0.1:{ports[name]}" for name in ("ingress-port", "port"))
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(_DEADLINE)
    with tempfile.TemporaryDirectory() as directory:
        command = ("adk_chat", "dev", "benchmarks.crowd:app", *options, "--data-dir", directory)
        async with (
            started("Ctrl-C stops it", *command, **{_LIMIT: "1000"}) as process,
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
        ):
            (guard,) = process.children()
            (restate,) = guard.children()
            crowd = Crowd(http, ingress, web, people)
            print(f"At rest: {_memory(process, restate)}")
            for how, talk in (("message", crowd.message), ("post", crowd.post), ("sse", crowd.sse)):
                print(f"{how}: {await crowd.by(how, talk)}; {_memory(process, restate)}")
            await crowd.by("nap", crowd.nap)
            await asyncio.sleep(_NAP_SECONDS / 2)
            began = time.perf_counter()
            await crowd.message("one-more", HELLO)
            print(f"While {people} turns wait for a timer, one more message: {time.perf_counter() - began:.2f} s")


def _memory(process: Process, restate: Process) -> str:
    return f"`dev` {process.megabytes():.0f} MB, restate-server {restate.megabytes():.0f} MB"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=1200)
    uvloop.run(main(parser.parse_args().people))
