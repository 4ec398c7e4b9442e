"""Tools that run in a frontend, and the frontend's context, in one turn."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.llm_agent import LlmAgent
from google.adk.events.event import Event
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from typing_extensions import override

from adk_chat.protocol.events import without_rewound
from adk_chat.protocol.frontend import (
    FRONTEND,
    Frontend,
    FrontendTool,
    Origin,
    SentMessage,
    calls_in,
    origin_of,
    split,
)
from adk_chat.protocol.json import Json

_OF_ADK = "adk_request_"
_NOT_YET = {"status": "pending", "message": "The user has not answered this yet, and sent a message instead."}


@dataclass(frozen=True)
class Admitted:
    """What is new in a user's message."""

    content: Json | None
    """What the agent is run with; None if it need not run."""
    answers: list[Event] = field(default_factory=list)
    """Answers to calls, to store before."""


class FrontendTurn:
    """The frontend's part in one turn.

    Args:
        turn: the Restate invocation.
        session_id: the session.
        frontend: what the message brought.
    """

    def __init__(self, turn: str, session_id: str, frontend: Frontend) -> None:
        self.plugin = FrontendPlugin(session_id, frontend)
        self._origin = Origin(turn=turn, run_id=frontend.run_id)
        self._messages = frontend.messages
        self._admitted: list[SentMessage] = []

    def admit(self, content: Json | None, events: Sequence[Event]) -> Admitted:
        """Returns what is new in a message to a session with these events.

        Invariant: a message of the frontend is stored once, and a call is answered once, whoever sends it again and
        under whatever run. Turn runs one turn of a session at a time, so nothing comes in between.

        Answers to some of the calls that one model response made do not run the agent: models refuse a history with an
        unanswered call beside an answered one. The last answer runs it. ADK refuses a message with both answers and
        text, so the answers are stored before. If there is text instead of an answer, a response says so, as ADK's
        long-running tools report their progress. A later answer is still accepted.
        """
        parts: list[Json] = list((content or {}).get("parts", []))
        events = without_rewound(
            events, lambda event: event.invocation_id, lambda event: event.actions.rewind_before_invocation_id
        )
        calls = {call.id: event for event in events for call in event.get_function_calls() if call.id}
        answered = _answered(events)
        texts: list[tuple[str | None, list[Json]]] = []
        given: dict[str, tuple[str | None, Json]] = {}
        known = {message.id for event in events for message in _messages(event)}
        for message, places in split(self._messages, len(parts)):
            here = [parts[place] for place in places]
            for part in here:
                call = part.get("functionResponse", {}).get("id")
                if call in calls and call not in answered:
                    given.setdefault(call, (message, part))
            rest = [part for part in here if "functionResponse" not in part]
            if rest and message not in known:
                texts.append((message, rest))
        open_calls = _open(events) - set(given)
        if texts:
            self._admit(texts)
            answers = [*self._stored(given, calls), *self._put_off(open_calls, calls)]
            return Admitted(_content([part for _, rest in texts for part in rest]), answers)
        if not given:
            return Admitted(None if parts else content)
        if any(call in open_calls for one in given for call in calls_in(calls[one].custom_metadata)):
            return Admitted(None, self._stored(given, calls))
        # The answer to a question of ADK's lets a call continue that may have been made beside others.
        asked = [calls[call] for one in given if (call := _asked_about(one, calls[one])) in calls]
        beside = {call for event in asked for call in calls_in(event.custom_metadata)}
        self._admit([(message, [part]) for message, part in given.values()])
        answers = self._put_off(open_calls & beside, calls)
        return Admitted(_content([part for _, part in given.values()]), answers)

    def mark(self, event: Event) -> None:
        """Notes in the metadata of an event of this turn what of it is the frontend's."""
        if event.author == "user":
            if event.content is not None and self._admitted:
                origin = self._origin.model_copy(update={"messages": self._admitted})
                _note(event, origin.model_dump(exclude_defaults=True))
                self._admitted = []
        elif calls := self.plugin.calls_in(event):
            _note(event, {"calls": calls})

    def _admit(self, messages: Sequence[tuple[str | None, list[Json]]]) -> None:
        self._admitted = [SentMessage(id=message, parts=len(parts)) for message, parts in messages if message]

    def _stored(self, given: dict[str, tuple[str | None, Json]], calls: dict[str, Event]) -> list[Event]:
        """Returns the events with the answers."""
        made: list[Event] = []
        for event in {calls[call].id: calls[call] for call in given}.values():
            here = [given[call] for call in given if calls[call].id == event.id]
            messages = [SentMessage(id=message, parts=1) for message, _ in here if message]
            origin = self._origin.model_copy(update={"messages": messages})
            made.append(_response(event, [part for _, part in here], origin))
        return made

    def _put_off(self, open_calls: set[str], calls: dict[str, Event]) -> list[Event]:
        """Returns the events which say that calls are not answered yet."""
        origin = self._origin.model_copy(update={"pending": True})
        made: list[Event] = []
        for event in {calls[call].id: calls[call] for call in calls if call in open_calls}.values():
            parts = [
                {"functionResponse": {"id": call.id, "name": call.name, "response": _NOT_YET}}
                for call in event.get_function_calls()
                if call.id in open_calls
            ]
            made.append(_response(event, parts, origin))
        return made


class FrontendPlugin(BasePlugin):
    """Offers the frontend's tools and context to the agents that can use them.

    These are all agents with a model but one inside an `AgentTool`, which has a session of its own and nobody to wait
    for, and one with an `output_schema`. Tools are not offered to a model that has tools of its own, which not all
    accept beside functions. An agent's own tool takes precedence over a tool of the same name.
    """

    def __init__(self, session_id: str, frontend: Frontend) -> None:
        super().__init__(name="adk_chat_frontend")
        self._session_id = session_id
        self._tools = frontend.tools
        self._context = [f"{item.description}:\n{item.value}" for item in frontend.context]
        self._offered: set[tuple[str, str]] = set()

    @override
    async def before_model_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> LlmResponse | None:
        agent = callback_context.get_invocation_context().agent
        own = callback_context.session.id == self._session_id
        if not own or not isinstance(agent, LlmAgent) or agent.output_schema is not None:
            return None
        if self._context:
            llm_request.append_instructions(["What the application shows the user now:", *self._context])
        if not any(tool.function_declarations is None for tool in _tools(llm_request)):
            new = [ProxyTool(tool) for tool in self._tools if tool.name not in llm_request.tools_dict]
            llm_request.append_tools([*new])
            self._offered |= {(agent.name, tool.name) for tool in new}
        return None

    def calls_in(self, event: Event) -> list[str]:
        """Returns the ids of the calls of frontend tools in an event."""
        return [
            call.id for call in event.get_function_calls() if call.id and (event.author, call.name) in self._offered
        ]


class ProxyTool(BaseTool):
    """Stands for a tool that runs in the frontend: a long-running one without a first result."""

    def __init__(self, tool: FrontendTool) -> None:
        super().__init__(name=tool.name, description=tool.description, is_long_running=True)
        self._parameters = tool.parameters

    @override
    def _get_declaration(self) -> types.FunctionDeclaration:
        schema = {name: value for name, value in (self._parameters or {}).items() if name != "$schema"}
        return types.FunctionDeclaration(
            name=self.name, description=self.description, parameters_json_schema=schema or None
        )

    @override
    async def run_async(self, *, args: dict[str, Any], tool_context: ToolContext) -> None:
        """Returns nothing: the answer comes with a later message."""


def _tools(request: LlmRequest) -> list[types.Tool]:
    return [tool for tool in request.config.tools or [] if isinstance(tool, types.Tool)]


def _messages(event: Event) -> list[SentMessage]:
    origin = origin_of(event.custom_metadata) if event.author == "user" else None
    return [] if origin is None else origin.messages


def _answered(events: Sequence[Event], *, finally_: bool = True) -> set[str]:
    """Returns the ids of the calls that are answered: ADK's own questions by the user, any other call by anybody.

    Args:
        events: all events, oldest first. A workflow may ask again under the same id.
        finally_: whether responses do not count which say that there is no answer yet.
    """
    found: set[str] = set()
    for event in events:
        found -= {call.id for call in event.get_function_calls() if call.id}
        if not (finally_ and _is_pending(event)):
            found |= {
                response.id
                for response in event.get_function_responses()
                if response.id and (event.author == "user" or not (response.name or "").startswith(_OF_ADK))
            }
    return found


def _asked_about(question: str, event: Event) -> str | None:
    """Returns the id of the call that one of ADK's questions in an event is about; None if it is no such question."""
    (args,) = [call.args or {} for call in event.get_function_calls() if call.id == question]
    return args.get("originalFunctionCall", {}).get("id") or args.get("functionCallId")


def _open(events: Sequence[Event]) -> set[str]:
    """Returns the ids of the calls of frontend tools without any response."""
    called = {call for event in events for call in calls_in(event.custom_metadata)}
    return called - _answered(events, finally_=False)


def _is_pending(event: Event) -> bool:
    origin = origin_of(event.custom_metadata) if event.author == "user" else None
    return origin is not None and origin.pending


def _response(event: Event, parts: list[Json], origin: Origin) -> Event:
    """Returns an event with responses to calls of `event`, as ADK's Runner would store it."""
    answer = Event(
        invocation_id=event.invocation_id,
        author="user",
        branch=event.branch,
        isolation_scope=event.isolation_scope,
        content=types.Content.model_validate(_content(parts)),
    )
    _note(answer, origin.model_dump(exclude_defaults=True))
    return answer


def _content(parts: list[Json]) -> Json:
    return {"role": "user", "parts": parts}


def _note(event: Event, noted: Json) -> None:
    event.custom_metadata = {**(event.custom_metadata or {}), FRONTEND: noted}
