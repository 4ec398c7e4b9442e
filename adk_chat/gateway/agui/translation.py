"""The events of turns as those of one run of AG-UI.

Invariants of what is sent, for the clients that exist:
- Everything that is opened is closed before the run ends.
- A snapshot of the messages is sent only while nothing is open: a client loses the rest of an open message. After it a
  message begins anew, even under the same id.
- Text that begins anew has a new message id. `@ag-ui/client` would append it to the text under the old one, and
  assistant-ui, which lets go of text only for another message, would show both. It also needs the new message to be
  there when a snapshot removes the old one.
"""

from collections import Counter
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    MessagesSnapshotEvent,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateDeltaEvent,
    StateSnapshotEvent,
    SubagentFinishedEvent,
    SubagentStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    TokenUsage,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)
from ag_ui.core.version import PROTOCOL_VERSION
from google.adk.events.event import Event
from pydantic_core import to_json

from adk_chat.durable.adk.seams import ABORTED
from adk_chat.gateway.agui.interrupts import Question
from adk_chat.gateway.agui.messages import (
    agent_messages,
    calls_of,
    output_message,
    reasoning_id,
    result_content,
    result_id,
    results_of,
    text_of,
)
from adk_chat.gateway.agui.thread import note_questions, shown_state
from adk_chat.gateway.streams.reader import Speaker, speaker_of
from adk_chat.protocol.events import is_model_retry
from adk_chat.protocol.json import Json
from adk_chat.protocol.turn_id import TurnId

ABORT, RECONNECT = "abort", "reconnect"
"""Codes of `RUN_ERROR`: the run was cancelled (as peers of before 1.0 are told), or the stream ends and the run does
not."""
_SNAPSHOT_BYTES = 8 * 1024 * 1024
"""The most that a snapshot takes. A client fails if it has more than 10 MB to parse."""
Events = Iterator[BaseEvent]


@dataclass
class _Open:
    """What a speaker is saying: the text that was sent of it, and what is open."""

    event_id: str
    message_id: str
    text: str = ""
    thoughts: str = ""
    text_open: bool = False
    reasoning_open: bool = False
    reasonings: dict[str, str] = field(default_factory=dict)
    """The reasoning messages, by id, with what was sent of them. The last one may be open."""

    @property
    def reasoning(self) -> str:
        """The id of the last reasoning message."""
        return next(reversed(self.reasonings))


@dataclass
class Translation:
    """Translates what is shown of a run's turns.

    Args:
        thread_id: the thread.
        run_id: the run.
        is_current: whether the peer speaks version 1.0.
        base: the messages that the frontend has, or should have, before this run.
        questions: the questions that were open before this run, without those that it answers.
        tools: the names of the frontend's tools.
        url: where the artifacts of the session are.
    """

    thread_id: str
    run_id: str
    is_current: bool
    base: list[Json]
    questions: dict[str, Question]
    tools: Collection[str]
    url: str
    _open: dict[Speaker, _Open] = field(default_factory=dict)
    _completed: list[Json] = field(default_factory=list)
    _events: list[Json] = field(default_factory=list)
    """The complete events of this run that may matter at its end."""
    _used: Counter[str] = field(default_factory=Counter)
    """How many messages were begun for an event, by its id."""
    _begins_anew: bool = False
    """Whether the next message replaces one that is void."""
    _void: list[str] = field(default_factory=list)
    """Ids of reasoning messages that are void. A snapshot has to empty them."""
    _called: list[str] = field(default_factory=list)
    """The calls of this run, in their order."""
    _pending: set[str] = field(default_factory=set)
    """Those of them without a result."""
    _subagents: dict[str, None] = field(default_factory=dict)
    """The sub-agents that were started."""
    _usage: dict[str, TokenUsage] = field(default_factory=dict)
    _error: tuple[str, str] | None = None

    def started(self, turn_id: TurnId | None, state: Json, *, snapshot: bool) -> Events:
        """Yields the beginning of the run; with the messages, if the frontend may have others."""
        yield RunStartedEvent(
            thread_id=self.thread_id,
            run_id=self.run_id,
            protocol_version=PROTOCOL_VERSION if self.is_current else None,
            metadata=None if turn_id is None else {"adk_chat": {"turnId": str(turn_id)}},
        )
        yield StateSnapshotEvent(snapshot=state)
        if snapshot:
            yield self._snapshot()

    @property
    def is_empty(self) -> bool:
        """Whether the agents said nothing so far, and did not fail."""
        return not self._completed and self._error is None

    def rebased(self, base: list[Json]) -> BaseEvent:
        """Returns the beginning of another turn, whose thread has these messages now."""
        self.base, self._completed = base, []
        return self._snapshot()

    def partial(self, event: Json) -> Events:
        """Yields what is new in a partial event."""
        speaker = speaker_of(event)
        if is_model_retry(event):  # the call that failed will say everything again
            if speaker in self._open:
                yield from self.reset()
            return
        said = self._open.get(speaker)
        if said is not None and said.event_id != event["id"]:
            # Another response of the same speaker: the one before has no complete event.
            yield from self.reset()
            said = None
        if said is None:
            said = self._open[speaker] = self._opened(event["id"])
        subagent = yield from self._subagent(event)
        yield from self._think(said, text_of(event, thought=True), event["author"], subagent)
        yield from self._say(said, text_of(event), event["author"], subagent)

    def complete(self, event: Json) -> Events:
        """Yields what is new in a complete event."""
        subagent = yield from self._subagent(event)
        # An answer that was cut off has another id than its partial events. It stays the message that it was.
        said = self._open.pop(speaker_of(event), None) or self._opened(event["id"])
        thoughts, text = text_of(event, thought=True), text_of(event)
        if not (thoughts.startswith(said.thoughts) and text.startswith(said.text)):
            # What was streamed was replaced, by a callback for example.
            self._open[speaker_of(event)] = said
            yield from self.reset()
            said = self._opened(event["id"])
        yield from self._think(said, thoughts[len(said.thoughts) :], event["author"], subagent)
        yield from self._say(said, text[len(said.text) :], event["author"], subagent)
        yield from self._close(said)
        yield from self._tools(event, said, subagent)
        of_subagent = {} if subagent is None else {"subagentRunId": subagent}
        for one, thoughts in said.reasonings.items():
            self._completed.append({"id": one, "role": "reasoning", "content": thoughts, **of_subagent})
        for message in agent_messages(event):
            if message["role"] != "reasoning":
                own_id = {"id": said.message_id} if message["role"] == "assistant" else {}
                self._completed.append({**message, **own_id, **of_subagent})
        calls = [call["id"] for call in calls_of(event)]
        self._called += calls
        self._pending |= set(calls) & set(event.get("longRunningToolIds", []))
        self._pending -= {response["id"] for response in results_of(event)}
        yield from self._actions(event)
        self._note(event, text)

    def reset(self) -> Events:
        """Yields that all text without a complete event is void."""
        any_text = any(said.text or said.thoughts for said in self._open.values())
        yield from self._close_all()
        if any_text:
            self._begins_anew = True
            yield self._snapshot()

    def finished(self) -> Events:
        """Yields the end of the run, after its last event."""
        if self._error is not None and self._error[0] == ABORTED:
            yield from self.cancelled()
            return
        if self._error is not None:
            yield from self.failed(self._error[1], self._error[0])
            return
        yield from self.reset()
        if (said := output_message(self._events)) is not None:
            opened = self._opened(said["id"])
            yield from self._say(opened, said["content"], said["name"], None)
            yield from self._close(opened)
        yield from self._end_subagents()
        # A frontend that has a tool of that name asks its user with it, and answers with a tool message. Clients from
        # before 1.0 send none while an interrupt is open.
        by_tool = [one for one in self.questions.values() if one.tool in self.tools]
        interrupts = [one.interrupt() for one in self.questions.values() if one not in by_tool]
        outcome: RunFinishedInterruptOutcome | RunFinishedSuccessOutcome | None = None
        if interrupts:
            outcome = RunFinishedInterruptOutcome(interrupts=interrupts)
        elif self.is_current:
            waiting = {one.call_id for one in by_tool} | set(self._pending)
            pending = [call for call in self._called if call in waiting]
            outcome = RunFinishedSuccessOutcome(pending_tool_call_ids=pending or None)
        yield self._finish(outcome)

    def cancelled(self) -> Events:
        """Yields the end of a run that was cancelled."""
        yield from self._close_all()
        yield from self._end_subagents()
        if self.is_current:
            yield self._finish(RunFinishedCancelledOutcome())
        else:
            yield RunErrorEvent(message="The run was cancelled.", code=ABORT, usage=[*self._usage.values()] or None)

    def failed(self, message: str, code: str) -> Events:
        """Yields the end of a run that failed, or of its stream."""
        yield from self._close_all()
        yield from self._end_subagents()
        yield RunErrorEvent(message=message, code=code, usage=[*self._usage.values()] or None)

    def _finish(
        self,
        outcome: RunFinishedInterruptOutcome | RunFinishedSuccessOutcome | RunFinishedCancelledOutcome | None,
    ) -> RunFinishedEvent:
        outputs = [event["output"] for event in self._events if event.get("output") is not None]
        return RunFinishedEvent(
            thread_id=self.thread_id,
            run_id=self.run_id,
            outcome=outcome,
            result=outputs[-1] if outputs else None,
            usage=[*self._usage.values()] or None,
        )

    def _think(self, said: _Open, thoughts: str, author: str, subagent: str | None) -> Events:
        if not thoughts:
            return
        if not said.reasoning_open:
            yield from self._begin_anew(said, author, subagent)
            said.reasoning_open = True
            begun = reasoning_id(said.message_id, len(said.reasonings))
            said.reasonings[begun] = ""
            yield ReasoningStartEvent(message_id=begun, subagent_run_id=subagent)
            yield ReasoningMessageStartEvent(message_id=begun, role="reasoning", subagent_run_id=subagent)
        said.thoughts += thoughts
        said.reasonings[said.reasoning] += thoughts
        yield ReasoningMessageContentEvent(message_id=said.reasoning, delta=thoughts)

    def _say(self, said: _Open, text: str, author: str, subagent: str | None) -> Events:
        if not text:
            return
        yield from self._close_reasoning(said)
        if not said.text_open:
            yield from self._begin_anew(said, author, subagent)
            said.text_open = True
            yield _start(said, author, subagent)
        said.text += text
        yield TextMessageContentEvent(message_id=said.message_id, delta=text)

    def _begin_anew(self, said: _Open, author: str, subagent: str | None) -> Events:
        """Yields the message, empty, and a snapshot without the one that it replaces, if it does."""
        if self._begins_anew:
            self._begins_anew = False
            yield _start(said, author, subagent)
            yield TextMessageEndEvent(message_id=said.message_id)
            empty = {"id": said.message_id, "role": "assistant", "name": author, "content": ""}
            yield self._snapshot(empty if subagent is None else {**empty, "subagentRunId": subagent})

    def _close(self, said: _Open) -> Events:
        yield from self._close_reasoning(said)
        if said.text_open:
            said.text_open = False
            yield TextMessageEndEvent(message_id=said.message_id)

    def _close_reasoning(self, said: _Open) -> Events:
        if said.reasoning_open:
            said.reasoning_open = False
            yield ReasoningMessageEndEvent(message_id=said.reasoning)
            yield ReasoningEndEvent(message_id=said.reasoning)

    def _close_all(self) -> Events:
        for said in self._open.values():
            yield from self._close(said)
            self._void += said.reasonings
        self._open = {}

    def _tools(self, event: Json, said: _Open, subagent: str | None) -> Events:
        for call in calls_of(event):
            yield from self._begin_anew(said, event["author"], subagent)
            yield ToolCallStartEvent(
                tool_call_id=call["id"],
                tool_call_name=call.get("name", ""),
                parent_message_id=said.message_id,
                subagent_run_id=subagent,
            )
            arguments = to_json(call.get("args") or {}, inf_nan_mode="null").decode()
            yield ToolCallArgsEvent(tool_call_id=call["id"], delta=arguments)
            yield ToolCallEndEvent(tool_call_id=call["id"])
        for response in results_of(event):
            yield ToolCallResultEvent(
                message_id=result_id(event["id"], response["id"]),
                tool_call_id=response["id"],
                content=result_content(response),
                role="tool",
                subagent_run_id=subagent,
            )

    def _opened(self, event_id: str) -> _Open:
        number = self._used[event_id]
        self._used[event_id] += 1
        return _Open(event_id, f"{event_id}:{number}" if number else event_id)

    def _snapshot(self, *begun: Json) -> MessagesSnapshotEvent:
        """Returns the messages of before and of this run. Reasoning that a snapshot leaves out stays on the screen."""
        messages = [*self.base, *self._completed, *begun]
        there = {message["id"] for message in messages}
        void: list[Json] = [{"id": one, "role": "reasoning", "content": ""} for one in self._void if one not in there]
        return MessagesSnapshotEvent.model_validate({"messages": [*bounded(messages), *void]})

    def _subagent(self, event: Json) -> Generator[BaseEvent, None, str | None]:
        """Announces the sub-agent that an event comes from. Returns its id; None if it is not one of several at once.

        Clients from before 0.0.57 fail on these events, and send no version.
        """
        branch = event.get("branch")
        if branch is None or not self.is_current:
            return None
        subagent = f"{event.get('invocationId', '')}:{branch}"
        if subagent not in self._subagents:
            self._subagents[subagent] = None
            yield SubagentStartedEvent(subagent_run_id=subagent, name=event["author"])
        return subagent

    def _end_subagents(self) -> Events:
        for subagent in reversed([*self._subagents]):
            yield SubagentFinishedEvent(subagent_run_id=subagent)
        self._subagents = {}

    def _actions(self, event: Json) -> Events:
        actions = event.get("actions", {})
        if delta := shown_state(actions.get("stateDelta", {})):
            operations = [{"op": "add", "path": f"/{_token(name)}", "value": value} for name, value in delta.items()]
            yield StateDeltaEvent.model_validate({"delta": operations})
        for name, version in actions.get("artifactDelta", {}).items():
            value = {"name": name, "version": version, "url": f"{self.url}/{quote(name, safe='')}/versions/{version}"}
            yield CustomEvent(name="adk:artifact", value=value)

    def _note(self, event: Json, text: str) -> None:
        note_questions(self.questions, event)
        if event.get("errorCode"):
            self._error = (str(event["errorCode"]), str(event.get("errorMessage") or event["errorCode"]))
        elif text and Event.model_validate(event).is_final_response():
            self._error = None
        if text or event.get("output") is not None:
            self._events.append(event)
        usage = event.get("usageMetadata")
        if usage:
            model = event.get("modelVersion")
            self._usage[str(model)] = _added(self._usage.get(str(model)) or TokenUsage(model=model), usage)


def _start(said: _Open, author: str, subagent: str | None) -> TextMessageStartEvent:
    return TextMessageStartEvent(message_id=said.message_id, role="assistant", name=author, subagent_run_id=subagent)


def bounded(messages: list[Json]) -> list[Json]:
    """Returns the newest messages that fit into one event."""
    size, kept = 0, len(messages)
    for message in reversed(messages):
        size += len(to_json(message))
        if size > _SNAPSHOT_BYTES:
            break
        kept -= 1
    return messages[kept:]


def _added(total: TokenUsage, usage: Json) -> TokenUsage:
    def sum_of(before: int | None, *names: str) -> int | None:
        counted = [usage[name] for name in names if usage.get(name) is not None]
        return sum(counted) + (before or 0) if counted else before

    made = TokenUsage(
        model=total.model,
        input_tokens=sum_of(total.input_tokens, "promptTokenCount", "toolUsePromptTokenCount"),
        output_tokens=sum_of(total.output_tokens, "candidatesTokenCount", "thoughtsTokenCount"),
        reasoning_tokens=sum_of(total.reasoning_tokens, "thoughtsTokenCount"),
        cached_input_tokens=sum_of(total.cached_input_tokens, "cachedContentTokenCount"),
    )
    if made.input_tokens is not None and made.output_tokens is not None:
        made.total_tokens = made.input_tokens + made.output_tokens
    return made


def _token(name: str) -> str:
    """Returns a key as part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
