"""Users who send one message after the other, in a process of their own: `python -m benchmarks.load`.

It is told by a line of JSON on its input what to do, and answers by one on its output. aiohttp, because with other
clients the load itself is the limit.
"""

import asyncio
import itertools
import json
import sys
import time
from typing import Any, NotRequired

import aiohttp
import uvloop
from typing_extensions import TypedDict

from benchmarks.instant import NAME

TURNS = 20
"""How long a session gets, unless it is to grow."""


class Load(TypedDict):
    """What to do: by so many users, for so many seconds, or so many calls each."""

    kind: str
    """`bare`, `message`, `example`, `run`; or `sse`, of which the first event is what counts."""
    url: str
    users: int
    label: str
    """Users of the same label go on where they were."""
    seconds: NotRequired[float]
    calls: NotRequired[int]
    turns: NotRequired[int]
    """How long a session gets; 0, it grows."""
    may_fail: NotRequired[bool]
    """Whether a call may be answered with 500, or not at all, as by ADK's server where SQLite is locked too long."""


class Loaded(TypedDict):
    """What came of it."""

    seconds: float
    milliseconds: list[float]
    """That each call took, in their order; of a stream, until something came."""
    failed: int
    """How many others were answered with 500, or not at all."""


class User:
    """One user."""

    def __init__(self, http: aiohttp.ClientSession, load: Load, number: int) -> None:
        self._http = http
        self._load = load
        self._name = f"{load['label']}-{number}"
        self._turns = load.get("turns", TURNS) or sys.maxsize
        self._of_adk = load["kind"] in ("run", "sse")
        self._sessions = max(2, 12 // load["users"]) if self._of_adk else sys.maxsize
        self._numbers = itertools.count()
        self.failed = 0
        self.first: float | None = None
        """When the last call began to be answered, if that is what counts."""

    async def begin(self) -> None:
        """Create the sessions, where that is asked for."""
        if self._of_adk:
            for number in range(self._sessions):
                url = f"{self._load['url']}/apps/{NAME}/users/{self._name}/sessions"
                await self._post(url, {"sessionId": f"s{number}"})

    async def call(self) -> None:
        """The next call."""
        url, session = self._load["url"], f"s{next(self._numbers) // self._turns % self._sessions}"
        if self._load["kind"] == "bare":
            await self._post(f"{url}/Bare/message", "Hello")
        elif self._of_adk:
            message = {"role": "user", "parts": [{"text": "Hello"}]}
            asked = {"appName": NAME, "userId": self._name, "sessionId": session, "newMessage": message}
            streams = self._load["kind"] == "sse"
            await self._post(f"{url}/run_sse" if streams else f"{url}/run", {**asked, "streaming": streams})
        else:
            name = "Chat" if self._load["kind"] == "message" else "Example"
            await self._post(f"{url}/{name}/{self._name}/message", {"message": "Hello", "session_id": session})

    async def _post(self, url: str, body: object) -> None:
        try:
            await self._answered(url, body)
        except aiohttp.ClientConnectionError:
            if not self._load.get("may_fail"):
                raise
            self.failed += 1

    async def _answered(self, url: str, body: object) -> None:
        async with self._http.post(url, json=body) as answer:
            if self._load["kind"] == "sse" and url.endswith("/run_sse"):
                await answer.content.readline()
                self.first = time.perf_counter()
            text = await answer.text()
            if answer.status == 500 and self._load.get("may_fail"):
                self.failed += 1
            elif answer.status >= 300:
                sys.exit(f"{url}: {answer.status} {text}")


class Crowds:
    """All users that there were."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._users: dict[str, list[User]] = {}

    async def run(self, load: Load) -> Loaded:
        """Have some of them talk."""
        users = self._users.get(load["label"])
        if users is None:
            users = self._users[load["label"]] = [User(self._http, load, number) for number in range(load["users"])]
            await asyncio.gather(*(user.begin() for user in users))
        began = time.perf_counter()
        took: list[float] = []

        async def talk(user: User) -> None:
            for number in itertools.count():
                at = time.perf_counter()
                if number == load.get("calls") or at - began > load.get("seconds", 600):
                    return
                failed = user.failed
                await user.call()
                if user.failed == failed:
                    took.append(1000 * ((user.first or time.perf_counter()) - at))

        before = sum(user.failed for user in users)
        await asyncio.gather(*map(talk, users))
        failed = sum(user.failed for user in users) - before
        return {"seconds": time.perf_counter() - began, "milliseconds": took, "failed": failed}


async def serve() -> None:
    """Do what is asked, until nothing is."""
    # Sooner than any server closes a connection that is idle, which may be just when it is used again.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=1)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as http:
        crowds = Crowds(http)
        print("Ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked: Any = json.loads(line)
            print(json.dumps(await crowds.run(asked)), flush=True)


if __name__ == "__main__":
    uvloop.run(serve())
