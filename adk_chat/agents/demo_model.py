"""A model that needs no key and no network. It follows a few rules, and says so."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

NAME = "demo"
_LABEL = "[demo model] "
_SECONDS_PER_WORD = 0.02

_POEM = """A step is run, its answer kept,
and when the lights go out mid-word
the journal knows how far we stepped:
no call is made twice, none unheard."""
_RHYME = """A step is taken, then it's stored,
a crash is neither loss nor sword;
for what was done is on record,
and on we go of one accord."""
_BENEFITS = """What has been done is never done twice, and what was begun is finished:
1. A crash in the middle of an answer costs nothing that was already paid for.
2. State and progress live in one place, so there is no queue and no lock to keep in step.
3. Every step can be looked at afterwards."""


class DemoModel(BaseLlm):
    """Answers from a few rules and the conversation, streams, and calls the assistant's tools."""

    model: str = NAME

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        part = _answer(llm_request)
        if stream and part.text:
            for word in re.findall(r"\s*\S+", part.text):
                yield LlmResponse(content=_content(types.Part(text=word)), partial=True)
                await asyncio.sleep(_SECONDS_PER_WORD)
        yield LlmResponse(
            content=_content(part),
            finish_reason=types.FinishReason.STOP,
            model_version=NAME,
            usage_metadata=_usage(llm_request, part),
        )


def _content(part: types.Part) -> types.Content:
    return types.Content(role="model", parts=[part])


def _usage(request: LlmRequest, part: types.Part) -> types.GenerateContentResponseUsageMetadata:
    asked = sum(len(p.text.split()) for content in request.contents for p in content.parts or [] if p.text)
    said = len((part.text or "").split())
    return types.GenerateContentResponseUsageMetadata(
        prompt_token_count=asked, candidates_token_count=said, total_token_count=asked + said
    )


def _answer(request: LlmRequest) -> types.Part:
    last = request.contents[-1] if request.contents else types.Content(parts=[])
    results = [part.function_response for part in last.parts or [] if part.function_response]
    if results:
        return _say(" ".join(_report(result) for result in results))
    asked = " ".join(part.text for part in last.parts or [] if part.text)
    for pattern, tool, arguments in _CALLS:
        found = re.search(pattern, asked, re.IGNORECASE)
        if found and tool in request.tools_dict:
            return types.Part(function_call=types.FunctionCall(name=tool, args=arguments(found)))
    for pattern, reply in _REPLIES:
        if re.search(pattern, asked, re.IGNORECASE):
            return _say(reply(_said_before(request)))
    turns = sum(1 for content in request.contents if content.role == "user")
    return _say(
        f'You said: "{asked}". That was message {turns} of this conversation, and I can see all of it. '
        "I follow a few rules and need no key; for a real model set GOOGLE_API_KEY or ADK_CHAT_MODEL. "
        "Ask me for the time in Tokyo, to remember something, for my notes, or for a slow job."
    )


def _say(text: str) -> types.Part:
    return types.Part(text=_LABEL + text)


def _said_before(request: LlmRequest) -> str:
    for content in reversed(request.contents):
        text = "".join(part.text for part in content.parts or [] if part.text)
        if content.role == "model" and text:
            return text.removeprefix(_LABEL)
    return "There is nothing yet."


def _report(result: types.FunctionResponse) -> str:
    answer = result.response or {}
    if "error" in answer:
        return f"{result.name} failed: {answer['error']}"
    return str(answer.get("said") or answer.get("result") or answer)


_CALLS: list[tuple[str, str, Callable[["re.Match[str]"], dict[str, Any]]]] = [
    (r"\btime (?:is it )?in ([\w/ ]+)", "current_time", lambda found: {"place": found[1].strip()}),
    (r"\b(?:remember|note)(?: that)?:? (.+)", "add_note", lambda found: {"text": found[1].strip()}),
    (r"\bnotes\b", "list_notes", lambda found: {}),
    (r"\bslow job\b(?:\D*(\d+) steps)?", "slow_job", lambda found: {"steps": int(found[1] or 5)}),
]
_REPLIES: list[tuple[str, Callable[[str], str]]] = [
    (r"\brhyme", lambda before: _RHYME),
    (r"\bshort", lambda before: "\n".join(before.splitlines()[:2])),
    (r"\bpoem", lambda before: _POEM),
    (r"\bbenefits\b", lambda before: _BENEFITS),
]
