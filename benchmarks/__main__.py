"""What a turn costs, and what others cost in the same run: `python -m benchmarks [--quick] [--write]`."""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks import stored
from benchmarks.instant import SLOW, SLOW_SECONDS
from benchmarks.load import TURNS, Load, Loaded
from benchmarks.processes import started
from benchmarks.report import Report
from benchmarks.variants import Machine, Ours, Variant


@dataclass(frozen=True)
class Plan:
    """How long to measure."""

    users: tuple[int, ...] = (1, 8, 32, 128)
    seconds: float = 2
    rounds: int = 2
    fresh: int = 120
    growth: int = 300
    long: tuple[int, ...] = (1000,)
    sessions: tuple[int, ...] = (100, 10_000)
    events: tuple[int, ...] = (100, 5000)


QUICK = Plan(users=(8, 32), seconds=2, rounds=2, fresh=30, growth=60, long=(), sessions=(), events=())
_CALLS, _WARM, _FRESH, _GROWTH = 30, 5, 15, 20


@dataclass
class Slice:
    """The results of one load."""

    rate: float
    """Turns per second."""
    median: float
    """Milliseconds."""
    slow: float
    """Milliseconds of the slowest in a hundred."""
    python: float
    """Milliseconds of CPU per turn."""
    restate: float


class Generator:
    """The process that generates load."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._labels = itertools.count()

    async def run(self, variant: Variant, users: int, **how: Any) -> Loaded:
        """Lets users talk to a variant; new ones unless their label is known."""
        label = f"u{next(self._labels)}"
        load: Load = {"kind": variant.kind, "url": variant.url, "users": users, "label": label}
        load["may_fail"] = variant.restate is None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**load, **how}).encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            sys.exit("The load has ended.")
        loaded: Loaded = json.loads(answer)
        return loaded

    async def slice(self, variant: Variant, users: int, seconds: float) -> Slice:
        """Lets users talk to a variant for this long, and measures what that takes."""

        def used() -> list[float]:
            return [process.seconds() if process else 0.0 for process in (variant.python, variant.restate)]

        before = used()
        loaded = await self.run(variant, users, seconds=seconds, label=_crowd(variant, users))
        took = sorted(loaded["milliseconds"])
        python, restate = (1000 * (late - early) / len(took) for late, early in zip(used(), before, strict=True))
        rate = len(took) / loaded["seconds"]
        return Slice(rate, statistics.median(took), took[len(took) * 99 // 100], python, restate)


@asynccontextmanager
async def generator() -> AsyncIterator[Generator]:
    """The process that generates load, running meanwhile."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=64 * 1024 * 1024,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    try:
        yield Generator(process)
    finally:
        process.kill()
        await process.wait()


@dataclass
class Bench:
    """One run."""

    plan: Plan
    machine: Machine
    load: Generator
    report: Report = field(default_factory=Report)

    async def run(self) -> None:
        """Measures everything."""
        plan = self.plan
        hypercorn, granian = await self.machine.ours("hypercorn"), await self.machine.ours("granian")
        ours = [hypercorn.variant, granian.variant]
        dev = await self.machine.dev()
        example, bare = await self.machine.example()
        sqlite, memory = await self.machine.adk("sqlite"), await self.machine.adk("memory")
        at_rest = [one.variant.python.megabytes() for one in (hypercorn, granian)]
        for variant in [*ours, *dev, example, bare, sqlite, memory]:
            await self.load.run(variant, 4, seconds=1)
        await self.fresh(bare, [*ours, dev[1], example, sqlite, memory])
        for one in (dev[1], memory):
            loaded = await self.load.run(replace(one, kind="sse"), 1, calls=plan.fresh, turns=plan.fresh)
            median = statistics.median(loaded["milliseconds"])
            self.report.first_token(one.name, median)
        for users in plan.users:
            await self.crowd(users, [*ours, *dev, example, sqlite, memory])
        await self.growth([*ours, example, sqlite, memory])
        await self.bytes(hypercorn)
        await self.much(hypercorn)
        self.report.line("Memory of a process at rest", *(f"{megabytes:.0f} MB" for megabytes in at_rest))
        self.report.line("... after this run", *(f"{one.python.megabytes():.0f} MB" for one in ours))
        starts = [f"{one.start_seconds:.1f} s" for one in (hypercorn, granian)]
        self.report.line("From the start of a process to its first turn, with a Restate that runs", *starts)
        gone = [f"{await recovery(one):.2f} s" for one in (hypercorn, granian)]
        self.report.line("From its `kill -9` to the answer of the turn that it ran, without the model's time", *gone)

    async def fresh(self, bare: Variant, variants: list[Variant]) -> None:
        """One turn after the other, each in a session of its own."""
        times: dict[str, list[float]] = {}
        # In short rounds, since the machine's speed varies from minute to minute.
        for _ in range(self.plan.fresh // _FRESH):
            for variant in [bare, *variants]:
                loaded = await self.load.run(variant, 1, calls=_WARM + _FRESH, turns=1)
                times.setdefault(variant.name, []).extend(loaded["milliseconds"][_WARM:])
        least = statistics.median(times[bare.name])
        for name, found in times.items():
            median = statistics.median(found)
            self.report.fresh(name, median, median / least)

    async def crowd(self, users: int, variants: list[Variant]) -> None:
        """Users who talk at the same time, in sessions of up to 20 turns."""
        slices: dict[str, list[Slice]] = {}
        for variant in variants:  # until sessions have their average length
            loaded = await self.load.run(variant, users, calls=TURNS // 2, label=_crowd(variant, users))
            if loaded["failed"]:
                self.report.unanswered(users, variant.name, loaded["failed"], users * TURNS // 2)
        for _ in range(self.plan.rounds):
            for variant in variants:
                found = await self.load.slice(variant, users, self.plan.seconds)
                slices.setdefault(variant.name, []).append(found)
        for name, of_name in slices.items():
            median = {key: statistics.median(vars(one)[key] for one in of_name) for key in vars(of_name[0])}
            self.report.crowd(users, name, Slice(**median))

    async def growth(self, variants: list[Variant]) -> None:
        """One growing session of each; the model sees all of it."""
        took: dict[str, list[float]] = {variant.name: [] for variant in variants}

        for _ in range(self.plan.growth // _GROWTH):
            for variant in variants:
                label = f"grows-{variant.python.pid}"
                loaded = await self.load.run(variant, 1, calls=_GROWTH, turns=0, label=label)
                took[variant.name] += loaded["milliseconds"]
        for name, milliseconds in took.items():
            self.report.growth(name, milliseconds)

    async def bytes(self, ours: Ours) -> None:
        """The bytes that turns of a session receive and journal."""
        async with httpx.AsyncClient(timeout=60) as http:
            last = self.plan.growth
            for number in range(1, last + 1):
                body = {"message": "Hello", "session_id": "bytes"}
                answer = await http.post(f"{ours.server.ingress_url}/Chat/bytes/message", json=body)
                answer.raise_for_status()
                if number in (10, last):
                    size = await _journal_bytes(http, ours.server.admin_url)
                    self.report.line(f"Bytes of turn {number}: its message, its request, both journals", f"{size}", "")

    async def much(self, ours: Ours) -> None:
        """How long users with many or long sessions wait."""
        async with httpx.AsyncClient(base_url=ours.server.ingress_url, timeout=60) as http:

            async def milliseconds(path: str, body: Callable[[int], dict[str, Any]]) -> str:
                took = []
                for number in range(_CALLS):
                    began = time.perf_counter()
                    (await http.post(f"/Chat/{path}", json=body(number))).raise_for_status()
                    took.append(1000 * (time.perf_counter() - began))
                return f"{statistics.median(took):.1f} ms"

            for count in self.plan.sessions:
                await stored.sessions(http, f"many-{count}", count)
                took = await milliseconds(f"many-{count}/list_sessions", lambda _: {"limit": 50, "newest_first": True})
                self.report.line(f"The newest 50 of {count} sessions", took, "")
            for turn in self.plan.long:
                await stored.session(http, f"turn-{turn}", 2 * turn)
                took = await milliseconds(f"turn-{turn}/message", lambda _: {"message": "Hello", "session_id": "s"})
                self.report.line(f"Turn {turn} of a session, all of which the model sees", took, "")
            for count in self.plan.events:
                await stored.session(http, f"long-{count}", count)
                took = await milliseconds(f"long-{count}/append_events", _appended)
                self.report.line(f"To append to a session of {count} events from outside", took, "")


def _crowd(variant: Variant, users: int) -> str:
    return f"{variant.kind}{variant.python.pid}-{users}"


def _appended(number: int) -> dict[str, Any]:
    return {"session_id": "s", "events": [{"id": f"new{number}", "author": "user", "timestamp": 1e9 + number}]}


async def _journal_bytes(http: httpx.AsyncClient, admin_url: str) -> int:
    async def rows(sql: str) -> list[dict[str, Any]]:
        answer = await http.post(f"{admin_url}/query", json={"query": sql}, headers={"accept": "application/json"})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["rows"]
        return found

    total = 0
    for key, handler in (("bytes", "message"), ("bytes/instant/bytes", "run")):
        newest = await rows(
            f"SELECT id FROM sys_invocation WHERE target_service_key = '{key}' AND target_handler_name = '{handler}' "
            "ORDER BY created_at DESC LIMIT 1"
        )
        found = await rows(f"SELECT entry_json FROM sys_journal WHERE id = '{newest[0]['id']}'")
        total += sum(len(row["entry_json"]) for row in found)
    return total


async def recovery(ours: Ours) -> float:
    """Seconds from the death of an endpoint in the middle of a model call to the answer, without the model's own."""
    async with httpx.AsyncClient(timeout=60) as http:
        body = {"message": SLOW, "session_id": "s"}
        url = f"{ours.server.ingress_url}/Chat/killed/message"
        turn = asyncio.create_task(http.post(url, json=body))
        await asyncio.sleep(SLOW_SECONDS / 2)
        ours.variant.python.kill()
        died = time.perf_counter()
        async with started("Serving", *ours.command, **ours.environment):
            (await turn).raise_for_status()
            return time.perf_counter() - died - SLOW_SECONDS


async def main(plan: Plan, write: bool) -> None:
    """Measures, and prints the result or writes it into the documentation."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        load = await stack.enter_async_context(generator())
        bench = Bench(plan, Machine(stack, directory), load)
        await bench.run()
        print(bench.report.text())
        if write:
            bench.report.write()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="take two minutes")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    given = parser.parse_args()
    uvloop.run(main(QUICK if given.quick else Plan(), given.write))
