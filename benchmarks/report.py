"""The page that a run of the benchmark writes: tables, and plots of what grows."""

import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_HEAD = """# What a turn costs

This page is written by `make bench` (`.venv/bin/python -m benchmarks --write`), in one run on one machine: {machine}.
Everything runs on loopback, with restate-server and the load generator on the same cores, so they compete for CPU.
Other machines give other figures; only figures of one run can be compared. The model answers at once, so only what
surrounds it is measured.

The page compares:

- adk_chat on each of its HTTP servers, with one endpoint process;
- `adk-chat dev`, where endpoint, gateway and the traces of the dev UI are one process;
- the plain example of `restate.ext.adk` on hypercorn, as published;
- ADK's own server (`adk api_server`) with its sessions in SQLite and in memory, which resumes nothing after a crash.
"""
_BEHIND = """## Where others are ahead

- Turns per second, as a multiple of adk_chat's on hypercorn and on granian, by number of users: {ahead}.
- ADK's own server does less: its turns are lost when its process dies.
- The plain example makes one call of Restate where adk_chat makes three. It stores a session in the object that runs
  it, so a slow turn blocks all of the user's sessions, and every turn reads and writes the whole session.
- A turn through the gateway (`/run`) is posted and then watched; `message` is one request.
"""
_POINTS = 10


class Report:
    """What was measured."""

    def __init__(self) -> None:
        self._fresh: list[str] = []
        self._crowd: list[str] = []
        self._rates: dict[int, dict[str, float]] = {}
        self._growth: list[tuple[str, list[float]]] = []
        self._lines: list[str] = []
        self._unanswered: list[str] = []

    def fresh(self, name: str, median: float, ratio: float) -> None:
        """Adds the milliseconds of a turn in a session of its own, and their ratio to those of a bare handler."""
        self._fresh.append(f"| {name} | {median:.1f} | {ratio:.2f} |")

    def first_token(self, name: str, median: float) -> None:
        """Adds the milliseconds from a message to the first token of its answer, by `/run_sse`."""
        self._fresh.append(f"| {name.replace('`/run`', '`/run_sse`')}: the first token | {median:.1f} | |")

    def crowd(self, users: int, name: str, found: Any) -> None:
        """Adds the results of this many users."""
        self._rates.setdefault(users, {})[name] = found.rate
        restate = f"{found.restate:.1f}" if found.restate else ""
        self._crowd.append(
            f"| {users} | {name} | {found.rate:.0f} | {found.median:.0f} | {found.slow:.0f} | {found.python:.1f} | "
            f"{restate} |"
        )

    def unanswered(self, users: int, name: str, count: int, of: int) -> None:
        """Adds how many messages of a crowd were not answered."""
        self._unanswered.append(f"Of {of} messages of {users} users, {name} answered {of - count}; the others failed.")

    def growth(self, name: str, milliseconds: list[float]) -> None:
        """Adds how long each turn of a session took."""
        self._growth.append((name, milliseconds))

    def line(self, what: str, *values: str) -> None:
        """Adds another result, on hypercorn and on granian."""
        self._lines.append(_row([what, *values]))

    def text(self) -> str:
        """Returns the page."""
        machine = f"{platform.system()} on {os.cpu_count()} cores, Python {platform.python_version()}, "
        machine += f"google-adk {version('google-adk')}, restate-sdk {version('restate-sdk')}"
        parts = [_HEAD.format(machine=machine)]
        parts.append("## A turn in a new session, one after the other\n")
        parts.append(_table(["", "ms", "times a bare handler"], self._fresh))
        parts.append("## Many users at once, in sessions of up to 20 turns\n")
        columns = ["users", "", "turns per second", "ms", "ms, slowest of 100", "Python, ms of CPU per turn", "Restate"]
        parts.append(_table(columns, self._crowd))
        parts += [f"{sentence}\n" for sentence in self._unanswered]
        parts.append("## A growing session; the model sees all of it\n")
        parts.append(self._growths())
        parts.append("## The rest\n")
        parts.append(_table(["", "hypercorn", "granian"], self._lines))
        parts.append(_BEHIND.format(ahead="; ".join(self._ahead()) or "nowhere"))
        return "\n".join(parts)

    def write(self) -> None:
        """Writes the page."""
        _PAGE.write_text(self.text())

    def _ahead(self) -> Iterator[str]:
        """Yields who does more turns per second than ours."""
        for users, rates in self._rates.items():
            ours = [rate for name, rate in rates.items() if name.startswith("adk_chat")]
            for name, rate in rates.items():
                if name.startswith(("`restate", "`adk api")) and rate > min(ours):
                    yield f"{name} at {users}: {' and '.join(f'{rate / our:.2f}' for our in ours)}"

    def _growths(self) -> str:
        count = min(len(times) for _, times in self._growth)
        turns = [10, count // 3, count]
        rows = [_row([name, *(f"{_around(times, turn):.1f}" for turn in turns)]) for name, times in self._growth]
        table = _table(["ms", *(f"turn {turn}" for turn in turns)], rows)
        points = [max(1, round(count * number / _POINTS)) for number in range(_POINTS + 1)]
        lines = [
            "```mermaid",
            "xychart-beta",
            f'    title "ms of a turn: {", ".join(name for name, _ in self._growth)}"',
        ]
        lines.append(f"    x-axis {points}")
        lines.append('    y-axis "ms"')
        lines += [f"    line {[round(_around(times, point), 1) for point in points]}" for _, times in self._growth]
        return "\n".join([table, *lines, "```\n"])


def _around(times: list[float], turn: int) -> float:
    return statistics.median(times[max(0, turn - 6) : turn + 5])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(columns: list[str], rows: list[str]) -> str:
    return "\n".join([_row(columns), _row(["---"] * len(columns)), *rows, ""])
