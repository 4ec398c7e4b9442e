"""An agent whose model answers at once, so that nothing is measured but what is around it."""

from collections.abc import AsyncGenerator

from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types

NAME = "instant"


class Instant(BaseLlm):
    """A model that answers at once."""

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=1, candidates_token_count=1)
        content = types.Content(role="model", parts=[types.Part(text="An answer of a usual length, say. " * 10)])
        yield LlmResponse(content=content, usage_metadata=usage)


root_agent = LlmAgent(name=NAME, model=Instant(model=NAME))
app = App(name=NAME, root_agent=root_agent)
