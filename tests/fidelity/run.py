"""What a run of a scenario records: the callbacks of each attempt, and every model or tool call that ended."""

import re
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

_TIME = re.compile(r'("\w*[tT]imestamp"): (?:[\d.]+|"[^"]*")')


@dataclass(eq=False)
class Attempt:
    """One attempt at a turn. Callbacks are recorded with the strand that they belong to."""

    run: "Run"
    turn: str
    callbacks: list[tuple[str, str]] = field(default_factory=list)
    entries: int = 0
    executed: Counter[str] = field(default_factory=Counter)
    journaled: Counter[str] = field(default_factory=Counter)
    """The model and tool calls in the journal, by the name of the model or tool."""
    steps: dict[int, str] = field(default_factory=dict)
    """The steps of the turn, started in this attempt or an earlier one, by their number in Restate's protocol."""
    ended: bool = False

    @property
    def lost(self) -> int:
        """How many of the calls it made did not get into the journal."""
        return sum(count - self.journaled[name] for name, count in self.executed.items())


class Breaks(NamedTuple):
    """After how many journal entries of its own an attempt at a turn breaks off, until one reaches the end."""

    first: int
    later: int | None = None
    """None if only the first attempt breaks off."""


@dataclass
class Run:
    """One run of a scenario; its turns in order, with their attempts."""

    turns: dict[str, list[Attempt]] = field(default_factory=dict)
    executions: Counter[str] = field(default_factory=Counter)
    questions: dict[str, list[tuple[Attempt, Any]]] = field(default_factory=dict)
    """What each model was asked."""
    breaks: Breaks | None = None

    def begin(self, turn: str) -> Attempt:
        """A new attempt at a turn, for the code that runs from here on."""
        attempts = self.turns.setdefault(turn, [])
        attempt = Attempt(self, turn, steps=attempts[0].steps if attempts else {})
        attempts.append(attempt)
        current.set(attempt)
        return attempt

    def ask(self, model: str, question: Any) -> int:
        """Record a question. Returns how many that model was asked before.

        A question repeated by a later attempt, because the answer was not journaled, is the same question.
        """
        attempt, asked = current.get(), self.questions.setdefault(model, [])
        for number, (earlier, known) in enumerate(asked):
            if earlier.turn == attempt.turn and earlier is not attempt and known == question:
                return number
        asked.append((attempt, question))
        return len(asked) - 1

    def kept(self, name: str) -> int:
        """How many calls of a tool ended, without those that an attempt lost."""
        attempts = [attempt for attempts in self.turns.values() for attempt in attempts[:-1]]
        return sum(self.executions[key] for key in self.executions if key.split()[0] == name) - sum(
            attempt.executed[name] - attempt.journaled[name] for attempt in attempts
        )

    async def ended(self) -> bool:
        """Whether every turn has ended."""
        return all(attempts[-1].ended for attempts in self.turns.values())

    def callbacks(self) -> dict[str, list[str]]:
        """The callbacks of the last attempts in order, by strand, since parallel code has strands of its own."""
        found: dict[str, list[str]] = {}
        for attempts in self.turns.values():
            # An attempt that finds that the turn had ended runs nothing.
            last = next((attempt for attempt in reversed(attempts) if attempt.callbacks), attempts[-1])
            for strand, what in last.callbacks:
                found.setdefault(strand, []).append(what)
        return found


runs: dict[str, Run] = {}
"""By the user they belong to."""
current: ContextVar[Attempt] = ContextVar("current")
"""The attempt that the asking code belongs to."""


def called(what: str, strand: str | None = None) -> None:
    """Record a callback."""
    current.get().callbacks.append((strand or "", what))


def executed(name: str, what: object = "") -> None:
    """Record that a model or tool call ended, by its name and its input."""
    attempt = current.get()
    attempt.run.executions[f"{name} {what}"] += 1
    attempt.executed[name] += 1


def normalized(text: str) -> str:
    """JSON with its ids numbered by their first appearance, and without times."""
    numbers: dict[str, str] = {}
    return _TIME.sub(r"\1: 0", _ID.sub(lambda match: numbers.setdefault(match[0], f"#{len(numbers) + 1}"), text))
