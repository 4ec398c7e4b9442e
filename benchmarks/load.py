"""Users who send one message after the other, in a process of their own: `python -m benchmarks.load`.

It reads what to do as a line of JSON from its input, and writes the results as one to its output. It uses aiohttp,
because with other clients the load itself is the limit.
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
"""How many turns a session gets, unless it grows."""


class Load(TypedDict):
    """What to do: for this many users and seconds, or this many calls each."""

    kind: str
    """`bare`, `message`, `example`, `run`; or `sse`, measured to the first event."""
    url: str
    users: int
    label: str
    """Users with the same label continue where they were."""
    seconds: NotRequired[float]
    calls: NotRequired[int]
    turns: NotRequired[int]
    """How many turns a session gets; 0 for a growing one."""
    may_fail: NotRequired[bool]
    """Whether a call may fail with 500 or without an answer, as ADK's server does where SQLite is locked too long."""


class Loaded(TypedDict):
    """The results."""

    seconds: float
    milliseconds: list[float]
    """The duration of each call, in order; for a stream, to its first event."""
    failed: int
    """How many others failed with 500 or without an answer."""


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
        """When the first event of the last call arrived, if that is measured."""

    async def begin(self) -> None:
        """Creates the sessions, where that is needed."""
        if self._of_adk:
            for number in range(self._sessions):
                url = f"{self._load['url']}/apps/{NAME}/users/{self._name}/sessions"
                await self._post(url, {"sessionId": f"s{number}"})

    async def call(self) -> None:
        """Makes the next call."""
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
    """All users so far."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self._http = http
        self._users: dict[str, list[User]] = {}

    async def run(self, load: Load) -> Loaded:
        """Lets some of them talk."""
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
    """Does what it is asked, until its input ends."""
    # Sooner than any server closes an idle connection, which may be just when it is used again.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=1)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as http:
        crowds = Crowds(http)
        print("Ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked: Any = json.loads(line)
            print(json.dumps(await crowds.run(asked)), flush=True)


if __name__ == "__main__":
    uvloop.run(serve())
