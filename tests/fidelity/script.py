"""A model that follows a script, and shorthands for what models say."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from tests.fidelity import run

Answer = str | LlmResponse | Exception | Sequence[LlmResponse]


class Script(BaseLlm):
    """Gives the answers in turn, one per call; "ok" once there are none left."""

    answers: Sequence[Any] = ()
    seconds: float = 0
    counted: bool = True
    """Whether its calls are recorded; not where they are cancelled, which a server that always replays cannot see."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        noted = run.current.get().run
        call = noted.ask(self.model, asked(llm_request))
        if call < len(self.answers):
            answer = self.answers[call]
            await asyncio.sleep(self.seconds)
        else:
            answer = "ok"
        if self.counted:
            run.executed(self.model)
        if isinstance(answer, Exception):
            raise answer
        responses = [say(answer)] if isinstance(answer, str | LlmResponse) else answer
        for response in responses:
            if stream or not response.partial:
                yield response.model_copy(deep=True)


def script(*answers: Answer, name: str = "model", seconds: float = 0) -> Script:
    """A model; models of one scenario have different names."""
    return Script(model=name, answers=list(answers), seconds=seconds)


def say(text: str | LlmResponse, **more: Any) -> LlmResponse:
    """An answer of text."""
    if isinstance(text, LlmResponse):
        return text
    return LlmResponse(content=types.Content(role="model", parts=[types.Part(text=text)]), **more)


def call(name: str, /, **args: Any) -> types.Part:
    """A function call."""
    return types.Part(function_call=types.FunctionCall(name=name, args=args))


def parts(*given: types.Part | str, **more: Any) -> LlmResponse:
    """An answer of several parts."""
    made = [types.Part(text=part) if isinstance(part, str) else part for part in given]
    return LlmResponse(content=types.Content(role="model", parts=made), **more)


def chunks(*texts: str, **more: Any) -> list[LlmResponse]:
    """An answer of text that arrives in chunks, followed by the whole."""
    return [*(say(text, partial=True) for text in texts), say("".join(texts), **more)]


def asked(request: LlmRequest) -> Any:
    """The model's input, as far as it is JSON."""
    schema = request.config.response_schema
    config = request.config.model_dump(
        mode="json", exclude_none=True, exclude={"tools", "http_options", "response_schema"}
    )
    tools = sorted(request.tools_dict)
    contents = [content.model_dump(mode="json", exclude_none=True) for content in request.contents]
    return json.loads(
        run.normalized(json.dumps({"contents": contents, "config": config, "tools": tools, "schema": str(schema)}))
    )
