"""An agent whose model answers at once, so that only what surrounds it is measured."""

import asyncio
from collections.abc import AsyncGenerator

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

NAME = "instant"
SLOW, SLOW_SECONDS = "slow", 0.5
"""A message for which the model takes this long."""
_ANSWER = "An answer of a usual length, say. " * 10


class Instant(BaseLlm):
    """A model that answers at once, unless asked not to."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        if (llm_request.contents[-1].parts or [])[-1].text == SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        content = types.Content(role="model", parts=[types.Part(text=_ANSWER)])
        if stream:
            yield LlmResponse(content=content, partial=True)
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=1, candidates_token_count=1)
        yield LlmResponse(content=content, usage_metadata=usage)


root_agent = LlmAgent(name=NAME, model=Instant(model=NAME))
app = App(name=NAME, root_agent=root_agent)
