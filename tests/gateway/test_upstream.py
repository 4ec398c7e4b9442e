"""Reports against ADK that cannot happen here, for docs/upstream-issues.md; some of them shown with ADK beside us.

If such a scenario begins to work under ADK, its test fails, and the page has to change.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from tests.conftest import plain
from tests.gateway.conftest import adk_server
from tests.support import Json, gates, text_of, unique, until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "upstream-issues.md"


class Report(NamedTuple):
    """Reports of one kind.

    Args:
        numbers: of issues of google/adk-python, or with the name of another repository of google.
        said: what happens to those who report it.
        here: why it does not happen here.
        test: that shows it.
    """

    numbers: str
    said: str
    here: str
    test: str


REPORTS = [
    Report(
        "4029",
        "A browser that leaves ends the run; the tool never completes.",
        "A turn does not depend on who watches it.",
        "tests/gateway/test_upstream.py::test_a_turn_whose_client_leaves",
    ),
    Report(
        "1484, 3971, 5856",
        "A run that was interrupted leaves a function call without a response, and the model's API refuses the session "
        "from then on.",
        "The end of a turn answers its open calls, however it ends.",
        "tests/objects/test_chat.py::test_a_cancelled_turn_answers_and_the_session_goes_on",
    ),
    Report(
        "3970",
        "The same after a crash of the server.",
        "The turn continues; if it is given up, its calls are answered.",
        "tests/turns/test_termination.py::test_calls_that_a_killed_turn_has_left_open_are_answered",
    ),
    Report(
        "1049, 1733, 3717",
        'A second message while the agent thinks: "stale session".',
        "It waits until the first one is answered.",
        "tests/gateway/test_upstream.py::test_a_message_during_a_turn",
    ),
    Report(
        "4751",
        "Two runs of one session write between each other's events.",
        "Turns of a session run one after the other.",
        "tests/gateway/test_upstream.py::test_a_message_during_a_turn",
    ),
    Report(
        "6823, 4954",
        "Sessions that are created at once fail with IntegrityError.",
        "One is created; the others get 409.",
        "tests/gateway/test_upstream.py::test_a_session_that_is_created_at_once",
    ),
    Report(
        "192, 4100, adk-docs 265",
        "A run that was cut off by a restart cannot be continued without help.",
        "It continues by itself, after the step that it had reached.",
        "tests/test_crash.py::test_the_endpoint_is_killed_between_model_and_tool",
    ),
    Report(
        "182, 1569",
        "Sessions are gone after a deployment, or in another instance.",
        "No process holds sessions.",
        "tests/deploy/test_stack.py::test_a_stack_is_upgraded_and_restored_and_its_turns_go_on",
    ),
    Report(
        "1561",
        "Several instances that start at once fail to create the tables.",
        "There is no database to set up.",
        "tests/deploy/test_stack.py::test_a_stack_is_upgraded_and_restored_and_its_turns_go_on",
    ),
    Report(
        "4621, 4871",
        "Listing thousands of sessions takes a minute, and there are no pages.",
        "Lists have pages, and a page is read without the others.",
        "tests/sessions/test_layout.py::test_the_newest_sessions_are_found_on_few_pages_and_a_turn_writes_few",
    ),
    Report(
        "3039, 4917",
        "A session with thousands of events is read whole or not at all.",
        "`get_history` has pages, and a turn reads only what its process does not know yet.",
        "tests/objects/test_chat.py::test_lists_can_be_read_in_pages",
    ),
    Report(
        "4933",
        "A rewind sets keys of the state to None.",
        "They keep their values.",
        "tests/sessions/test_contract.py::test_a_rewind_leaves_a_key_as_it_was",
    ),
]


def test_the_page_lists_the_reports_and_each_test_exists() -> None:
    rows = []
    for report in REPORTS:
        file, _, name = report.test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(), report.test
        links = ", ".join(map(_link, report.numbers.split(", ")))
        rows.append(f"| {links} | {report.said} | {report.here} | `{report.test}` |\n")
    head, mark, _ = PAGE.read_text().partition("| --- | --- | --- | --- |\n")
    text = head + mark + "".join(rows)
    before = PAGE.read_text()
    PAGE.write_text(text)
    assert text == before, "docs/upstream-issues.md was outdated. Commit what changed."


def _link(number: str) -> str:
    repository, _, number = number.rpartition(" ")
    return f"[{repository}#{number}](https://github.com/google/{repository or 'adk-python'}/issues/{number})"


@pytest.fixture(scope="module")
async def sqlite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """ADK's own server with its sessions in SQLite, as `adk web` has them."""
    sessions = SqliteSessionService(str(tmp_path_factory.mktemp("adk") / "sessions.db"))
    async with adk_server(sessions) as client:
        yield client


class Session:
    """A new session on a server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._user = unique("user")
        self._path = f"/apps/scripted/users/{self._user}/sessions/s"

    async def create(self) -> int:
        """The status of the answer."""
        return (await self._client.post(self._path.removesuffix("/s"), json={"sessionId": "s"})).status_code

    async def run(self, text: str) -> int:
        """The status of the answer, at the end of the turn."""
        return (await self._client.post("/run", json=self._body(text))).status_code

    async def leave(self, text: str) -> None:
        """Begin a turn, and leave after its first event."""
        body = {**self._body(text), "streaming": True}
        async with self._client.stream("POST", "/run_sse", json=body) as answer:
            async for line in answer.aiter_lines():
                if "functionCall" in line:
                    return

    def _body(self, text: str) -> Json:
        message = {"role": "user", "parts": [{"text": text}]}
        return {"appName": "scripted", "userId": self._user, "sessionId": "s", "newMessage": message}

    async def events(self) -> list[Json]:
        """What is stored."""
        events: list[Json] = (await self._client.get(self._path)).json()["events"]
        return events

    async def answers(self) -> list[str]:
        """What the agent has said."""
        return [text for event in await self.events() if event["author"] == "scripted" and (text := text_of(event))]


@plain
async def test_a_turn_whose_client_leaves(gateway: httpx.AsyncClient, sqlite: httpx.AsyncClient) -> None:
    assert await is_answered_without_client(Session(gateway))
    assert not await is_answered_without_client(Session(sqlite))


async def is_answered_without_client(session: Session) -> bool:
    name = unique("gate")
    gates[name] = asyncio.Event()
    await session.create()
    await session.leave(f"gated {name}")
    # Time in which a server that ends the turn of a client that has left does so.
    following = asyncio.create_task(session.run("hello"))
    await asyncio.wait([following], timeout=1)
    gates[name].set()
    await following
    return f"got {{'passed': '{name}'}}" in await session.answers()


@plain
async def test_a_message_during_a_turn(gateway: httpx.AsyncClient, sqlite: httpx.AsyncClient) -> None:
    assert await two_turns(Session(gateway)) == ((200, 200), [0, 0, 1, 1], ["echo wait", "echo hello"])
    # The first one is lost: StaleSessionError.
    assert await two_turns(Session(sqlite)) == ((500, 200), [0, 1, 1], ["echo hello"])


async def two_turns(session: Session) -> tuple[tuple[int, int], list[int], list[str]]:
    """The statuses of the answers; whose each stored event is, in their order; and what the agent has said."""
    name = unique("gate")
    gates[name] = asyncio.Event()
    await session.create()
    first = asyncio.create_task(session.run(f"wait {name}"))
    await until(lambda: _stored(session))
    second = asyncio.create_task(session.run("hello"))
    await asyncio.wait([second], timeout=1)
    gates[name].set()
    await asyncio.gather(first, second)
    ids = [event["invocationId"] for event in await session.events()]
    whose = [list(dict.fromkeys(ids)).index(one) for one in ids]
    return (first.result(), second.result()), whose, [said.removesuffix(f" {name}") for said in await session.answers()]


async def _stored(session: Session) -> bool:
    return bool(await session.events())


@plain
async def test_a_session_that_is_created_at_once(gateway: httpx.AsyncClient) -> None:
    session = Session(gateway)
    assert Counter(await asyncio.gather(*(session.create() for _ in range(8)))) == {200: 1, 409: 7}
