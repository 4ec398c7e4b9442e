"""What a turn costs, beside others on the same machine, in one run: `python -m benchmarks [--quick]`."""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.server import RestateServer, register
from benchmarks.load import Load, Loaded
from benchmarks.processes import Process, free_port, started

USERS = (1, 8, 32, 128)


@dataclass
class Variant:
    """What is measured: how it is called, where, and which processes do the work."""

    name: str
    kind: str
    url: str
    python: Process
    restate: Process | None


@dataclass
class Slice:
    """What one load came to."""

    rate: float
    """Turns a second."""
    median: float
    """Milliseconds."""
    slow: float
    """Milliseconds of the slowest in a hundred."""
    python: float
    """Milliseconds of the processor a turn."""
    restate: float


class Generator:
    """The process that makes load."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._labels = 0

    async def run(self, load: Load) -> Loaded:
        """Have it done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(load).encode() + b"\n")
        answer = await self._process.stdout.readline()
        if not answer:
            sys.exit("The load has ended.")
        loaded: Loaded = json.loads(answer)
        return loaded

    async def measured(self, variant: Variant, users: int, **how: Any) -> Slice:
        """Load a variant, and see what that takes."""
        self._labels += 1
        before = [process.seconds() if process else 0 for process in (variant.python, variant.restate)]
        load: Load = {"kind": variant.kind, "url": variant.url, "users": users, "label": f"u{self._labels}", **how}  # type: ignore[typeddict-item]
        loaded = await self.run(load)
        after = [process.seconds() if process else 0 for process in (variant.python, variant.restate)]
        took = sorted(loaded["milliseconds"])
        python, restate = (1000 * (late - early) / len(took) for late, early in zip(after, before, strict=True))
        rate = len(took) / loaded["seconds"]
        return Slice(rate, statistics.median(took), took[len(took) * 99 // 100], python, restate)


@asynccontextmanager
async def generator() -> AsyncIterator[Generator]:
    """The process that makes load, as long as this lasts."""
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


def made(directory: Path, name: str) -> Path:
    """A directory of that name."""
    (directory / name).mkdir()
    return directory / name


async def restate(stack: AsyncExitStack, directory: Path) -> tuple[RestateServer, Process]:
    """A restate-server."""
    binary = find_restate_server(print)
    server = await stack.enter_async_context(RestateServer(binary, directory, free_port(), free_port()))
    return server, Process(server.pid)


async def serve(stack: AsyncExitStack, directory: Path, name: str) -> tuple[RestateServer, Variant]:
    """`adk-chat serve` on that HTTP server, with a Restate of its own."""
    server, its = await restate(stack, directory)
    command = ("adk_chat.cli", "serve", "benchmarks.instant:app", "--register", server.admin_url)
    options = ("--endpoint-port", str(free_port()), "--ingress-url", server.ingress_url)
    process = await stack.enter_async_context(started("Serving", *command, *options, ADK_CHAT_SERVER=name))
    return server, Variant(name, "message", server.ingress_url, process, its)


async def dev(stack: AsyncExitStack, directory: Path) -> list[Variant]:
    """`adk-chat dev`, by way of the ingress and of the gateway."""
    web, ingress, admin, endpoint = map(str, (free_port() for _ in range(4)))
    ports = ("--port", web, "--ingress-port", ingress, "--admin-port", admin, "--endpoint-port", endpoint)
    command = ("adk_chat.cli", "dev", "benchmarks.instant:app", "--no-ui", *ports, "--data-dir", str(directory / "dev"))
    process = await stack.enter_async_context(started("Ctrl-C stops it", *command))
    (guard,) = process.children()
    (its,) = guard.children()
    urls = {"message": f"http://127.0.0.1:{ingress}", "run": f"http://127.0.0.1:{web}"}
    return [Variant(f"dev {kind}", kind, url, process, its) for kind, url in urls.items()]


async def main(kinds: list[str], seconds: float, rounds: int, users: list[int]) -> None:
    """Measure and print."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server, hypercorn = await serve(stack, made(directory, "hypercorn"), "hypercorn")
        variants = [hypercorn]
        if "granian" in kinds:
            variants.append((await serve(stack, made(directory, "granian"), "granian"))[1])
        if "dev" in kinds:
            variants += await dev(stack, directory)
        port = free_port()
        process = await stack.enter_async_context(started("Serving", "benchmarks.variants", "endpoint", str(port)))
        await register(server.admin_url, f"http://127.0.0.1:{port}", force=True)
        its = hypercorn.restate
        variants += [
            Variant("bare", "bare", server.ingress_url, process, its),
            Variant("example", "example", server.ingress_url, process, its),
        ]
        for kind in {"memory", "sqlite"} & set(kinds):
            port = free_port()
            process = await stack.enter_async_context(
                started("Serving", "benchmarks.variants", kind, str(port), str(directory))
            )
            variants.append(Variant(kind, "run", f"http://127.0.0.1:{port}", process, None))
        variants = [variant for variant in variants if variant.name.split()[0] in kinds]
        load = await stack.enter_async_context(generator())
        for variant in variants:
            await load.measured(variant, 8, seconds=1)
        for number in users:
            found: dict[str, list[Slice]] = {}
            for _ in range(rounds):
                for variant in variants:
                    found.setdefault(variant.name, []).append(await load.measured(variant, number, seconds=seconds))
            for name, slices in found.items():
                mean = {key: statistics.median(vars(each)[key] for each in slices) for key in vars(slices[0])}
                print(
                    f"{number:4} {name:10} " + "  ".join(f"{key} {value:7.2f}" for key, value in mean.items()),
                    flush=True,
                )


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", default=["hypercorn", "example"])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, nargs="*", default=[32])
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    uvloop.run(main(given.kinds, given.seconds, given.rounds, given.users))
