"""What is new in a run's input, as messages to post."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ag_ui.core import DeveloperMessage, SystemMessage, ToolMessage, UserMessage
from ag_ui.core import Message as AnyMessage
from google.genai import types
from pydantic import ValidationError

from adk_chat.gateway.agui.interrupts import Question, parsed_content
from adk_chat.gateway.agui.messages import parts_of, response_of, result_id
from adk_chat.gateway.agui.run_input import RunInput
from adk_chat.gateway.agui.thread import Thread, shown_state
from adk_chat.gateway.turns import RefusedError
from adk_chat.protocol.errors import sentence
from adk_chat.protocol.frontend import ContextItem, Frontend, FrontendTool, SentMessage
from adk_chat.protocol.json import Json
from adk_chat.protocol.messages import Message
from adk_chat.protocol.turn_id import TurnKey

_SCOPED = ("app:", "user:")
_INSTRUCTIONS = "Instructions of the application"
_OF_AGENTS = ("assistant", "activity", "reasoning")
Said = list[tuple[str | None, list[types.Part]]]
"""Parts, with the id of the frontend's message that they come from, if there is one."""


@dataclass(frozen=True)
class Post:
    """A message to post.

    Attributes:
        message: the message.
        subject: what identifies it within its run: the id of a message, a call or an interrupt.
    """

    message: Message
    subject: str


@dataclass
class _Answers:
    """The answers to the calls of one ADK invocation."""

    said: Said = field(default_factory=list)
    subject: str = ""
    to_adk: bool = False
    """Whether some are for questions of ADK's own. These need a turn for themselves."""


class Intake:
    """Finds what is new in a run's input.

    Args:
        given: the input.
    """

    def __init__(self, given: RunInput) -> None:
        self._given = given
        messages = given.parsed.messages
        # Agents' messages at the end are what a client got of a run that it sends again.
        end = max((n for n, one in enumerate(messages, 1) if not _is_of_agent(one)), default=0)
        begin = max((n for n, one in enumerate(messages[:end], 1) if _is_of_agent(one)), default=0)
        self._before, self._trailing = messages[:begin], messages[begin:end]
        self._instructions = [one.content for one in messages if isinstance(one, SystemMessage | DeveloperMessage)]
        self.sent = given.messages[:end]
        """The messages up to the last one that the frontend made itself."""

    @property
    def known(self) -> set[str]:
        """The ids of the messages before those that may be new."""
        return {message.id for message in self._before}

    @property
    def answered_calls(self) -> set[str]:
        """The ids of the calls that trailing tool messages answer."""
        return {message.tool_call_id for message in self._trailing if isinstance(message, ToolMessage)}

    def posts(self, thread: Thread) -> list[Post]:
        """Returns what is new to a thread: what has no stored event yet. Texts are never compared.

        ADK takes the answers to the calls of one invocation at a time, and text in a message of its own.

        Raises:
            RefusedError: 400, if a message cannot be read, or answers what is not there.
        """
        answers = self._answers(thread)
        new = [one for one in self._trailing if isinstance(one, UserMessage) and one.id not in thread.message_ids]
        texts: Said = [(message.id, parts) for message in new if (parts := parts_of(message))]
        if not texts and not answers:
            return []
        # Answers to tools of the frontend can go with a text: Turn stores them before it.
        beside = [one for one in answers if texts and not one.to_adk]
        alone = [one for one in answers if one not in beside]
        delta = self._state_delta(thread)
        posts = [
            self._post(thread.key, one.said, one.subject, delta if n == 0 else None) for n, one in enumerate(alone)
        ]
        if texts:
            said = [part for one in beside for part in one.said] + texts
            subject = str(texts[0][0])
            posts.append(self._post(thread.key, said, subject, None if posts else delta))
        return posts

    def _answers(self, thread: Thread) -> list[_Answers]:
        found: dict[str, _Answers] = {}

        def add(invocation_id: str, call: str, name: str, response: Json, message: str | None, *, to_adk: bool) -> None:
            answers = found.setdefault(invocation_id, _Answers(subject=call))
            part = types.Part(function_response=types.FunctionResponse(id=call, name=name, response=response))
            answers.said.append((message, [part]))
            answers.to_adk |= to_adk

        waiting = {one.call_id: one for one in thread.questions.values() if one.call_id is not None}
        answered: set[str] = set()

        def answer(question: Question, payload: Any, message: str | None, *, cancelled: bool = False) -> None:
            if question.id not in answered:
                answered.add(question.id)
                response = question.answer(payload, cancelled=cancelled)
                add(question.invocation_id, question.id, question.name, response, message, to_adk=True)

        for entry in self._given.parsed.resume or []:
            # The spec asks to ignore an id that is not open, so that an answer can be sent again.
            if (asked := thread.questions.get(entry.interrupt_id)) is not None:
                answer(asked, entry.payload, None, cancelled=entry.status == "cancelled")
        unknown: list[ToolMessage] = []
        for message in self._trailing:
            if not isinstance(message, ToolMessage) or message.id in thread.message_ids:
                continue
            call = thread.calls.get(message.tool_call_id)
            if (question := waiting.get(message.tool_call_id)) is not None:
                content = message.content if isinstance(message.content, str) else None
                answer(question, None if content is None else parsed_content(content), message.id)
            elif call is None:
                unknown.append(message)
            elif call.id not in thread.answered:
                add(call.invocation_id, call.id, call.name, response_of(message), message.id, to_adk=False)
        if unknown and not found and not any(isinstance(message, UserMessage) for message in self._trailing):
            raise RefusedError(
                400,
                f"messages: {unknown[0].id} answers the tool call {unknown[0].tool_call_id}, which is not in thread "
                f"{self._given.thread_id}. Read the thread again.",
            )
        return list(found.values())

    def _state_delta(self, thread: Thread) -> Json | None:
        """Returns what the frontend changed in the state. What it left out stays."""
        state = self._given.parsed.state
        if not isinstance(state, dict):
            return None
        changed = {
            name: value
            for name, value in shown_state(state).items()
            if not name.startswith(_SCOPED) and (name not in thread.state or thread.state[name] != value)
        }
        return changed or None

    def _post(self, key: TurnKey, said: Said, subject: str, delta: Json | None) -> Post:
        parsed = self._given.parsed
        properties = {name: value for name, value in self._given.properties.items() if name != "userId"}
        config: Json = {"streaming_mode": "sse"}
        if properties:
            config["custom_metadata"] = {"forwarded_props": properties}
        try:
            frontend = Frontend(
                tools=[FrontendTool(**_fields(tool)) for tool in parsed.tools or []],
                context=[
                    *(ContextItem(description=_INSTRUCTIONS, value=text) for text in self._instructions),
                    *(ContextItem(**_fields(item)) for item in parsed.context or []),
                ],
                run_id=parsed.run_id,
                messages=[SentMessage(id=message, parts=len(parts)) for message, parts in _identified(said)],
            )
            message = Message.model_validate(
                {
                    "app_name": key.app_name,
                    "session_id": key.session_id,
                    "parts": [part for _, parts in said for part in parts],
                    "state_delta": delta,
                    "run_config": config,
                    "frontend": frontend,
                }
            )
        except ValidationError as error:
            raise RefusedError(400, sentence(error)) from error
        return Post(message, subject)


def _is_of_agent(message: AnyMessage) -> bool:
    """Returns whether an agent said a message, or a tool of an agent."""
    if isinstance(message, ToolMessage):
        return message.id.endswith(result_id("", message.tool_call_id))
    return message.role in _OF_AGENTS


def _identified(said: Said) -> Iterable[tuple[str, list[types.Part]]]:
    # An answer to an interrupt comes from no message. Its own id stands for it.
    for message, parts in said:
        response = parts[0].function_response
        yield message or str(response.id if response else ""), parts


def _fields(model: Any) -> Json:
    fields: Json = model.model_dump(exclude_none=True)
    return fields
