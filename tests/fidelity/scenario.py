"""What a scenario is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.run_config import RunConfig
from google.adk.apps.app import App
from google.adk.events.event import Event
from google.adk.workflow import BaseNode
from google.genai import types


@dataclass
class Say:
    """One message of the user. `parts` may depend on the session's events so far."""

    text: str | None = None
    parts: Callable[[list[Event]], list[types.Part]] | None = None
    state_delta: dict[str, Any] | None = None
    run_config: dict[str, Any] = field(default_factory=dict)
    rewind: bool = False
    """Whether the last invocation is rewound before."""
    resume: bool = False
    """Whether it resumes the invocation of the last event."""

    def content(self, events: list[Event]) -> types.Content:
        """The message."""
        made = [types.Part(text=self.text)] if self.text is not None else []
        return types.Content(role="user", parts=made + (self.parts(events) if self.parts else []))

    def config(self, streaming: bool) -> RunConfig:
        """The RunConfig for ADK."""
        return RunConfig.model_validate({**self.run_config, **({"streaming_mode": "sse"} if streaming else {})})


@dataclass
class Scenario:
    """An agent and what the user says to it. Parallel strands may be recorded in any order."""

    name: str
    root: BaseAgent | BaseNode | App
    says: Sequence[str | Say] = ("hello",)
    parallel: bool = False
    one_branch: bool = False
    """Whether the parallel strands share a branch of events, as when a custom agent runs them."""
    fails: bool = False
    """Whether a message is answered with an error."""

    @property
    def app(self) -> App:
        """The app that runs it."""
        if isinstance(self.root, App):
            return self.root
        return App(name=self.id, root_agent=self.root)

    @property
    def id(self) -> str:
        """The name as an identifier."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name)

    @property
    def messages(self) -> list[Say]:
        """The user's messages, and one more, because every turn must leave its session usable."""
        said = [Say(one) if isinstance(one, str) else one for one in self.says]
        return [*said, Say("and now?")]
