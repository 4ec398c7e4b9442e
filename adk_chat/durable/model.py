"""Model calls as journaled steps."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import restate
from google.adk.flows.llm_flows.functions import generate_client_function_call_id
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from pydantic import BaseModel, ValidationError, field_serializer

from adk_chat.durable import seams
from adk_chat.durable.errors import ErrorRecord, is_transient
from adk_chat.durable.journal import Journal


class ModelCall(BaseModel):
    """What the journal keeps of a model call: all its responses, and the error that ended it, if one did."""

    responses: list[LlmResponse] = []
    error: ErrorRecord | None = None

    @field_serializer("responses")
    def _compact(self, responses: list[LlmResponse]) -> list[dict[str, object]]:
        return [response.model_dump(mode="json", by_alias=True, exclude_none=True) for response in responses]


class TransientModelError(Exception):
    """Tells Restate to try the step again. Its repr is what Restate hands back when it gives up."""

    def __init__(self, record: ErrorRecord) -> None:
        super().__init__(record.message)
        self.record = record

    def __repr__(self) -> str:
        return self.record.model_dump_json()


class DurableModel(BaseLlm):
    """A model of ADK whose calls are journaled: a call that completed is never made again.

    Partial responses are handed to ADK as they arrive, so streaming stays live; a replay hands out the same ones at once.
    Transient errors (see `is_transient`) are retried by Restate; any other, or the last, is raised as it was raised
    by the model, so that ADK's error callbacks see what they see without Restate.
    """

    inner: BaseLlm
    journal: object

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        journal = self.journal
        assert isinstance(journal, Journal)
        partials: asyncio.Queue[LlmResponse | None] = asyncio.Queue()
        raised: list[Exception] = []

        async def call() -> bytes:
            made = await _call(self.inner, llm_request, stream, partials, raised)
            return made.model_dump_json(exclude_none=True).encode()

        step = asyncio.create_task(journal.step(f"model {llm_request.model or self.model}", call, journal.model_retry))
        step.add_done_callback(lambda _: partials.put_nowait(None))
        handed_out = 0
        try:
            while (partial := await partials.get()) is not None:
                handed_out += 1
                yield partial
            try:
                recorded = ModelCall.model_validate_json(await step)
            except restate.TerminalError as error:
                raise _last_error(error) from error
        finally:
            step.cancel()
        for response in recorded.responses[handed_out:]:
            yield response
        if recorded.error is not None:
            raise raised[0] if raised else recorded.error.rebuild()


def durable(model: BaseLlm) -> BaseLlm:
    """`model` with its calls journaled if a journal is open where this is called, else `model` itself."""
    journal = Journal.current()
    if journal is None or isinstance(model, DurableModel):
        return model
    return DurableModel(model=model.model, inner=model, journal=journal)


async def _call(
    model: BaseLlm,
    request: LlmRequest,
    stream: bool,
    partials: "asyncio.Queue[LlmResponse | None]",
    raised: list[Exception],
) -> ModelCall:
    made = ModelCall()
    live = True
    try:
        async with aclosing(model.generate_content_async(request, stream=stream)) as responses:
            async for response in responses:
                _name_function_calls(response)
                # A complete response makes ADK run tools, so it and what follows is handed out once it is journaled.
                live = live and bool(response.partial)
                # Copied before ADK and its callbacks may change it.
                made.responses.append(response.model_copy(deep=True) if live else response)
                if live:
                    partials.put_nowait(response)
    except Exception as error:
        if is_transient(error):
            raise TransientModelError(ErrorRecord.of(error)) from error
        raised.append(error)
        made.error = ErrorRecord.of(error)
    return made


def _name_function_calls(response: LlmResponse) -> None:
    # ADK would do so after the step, with ids that depend on how many were made before.
    for part in (response.content.parts if response.content else None) or []:
        if part.function_call and not part.function_call.id:
            part.function_call.id = generate_client_function_call_id()


def _last_error(error: restate.TerminalError) -> Exception:
    try:
        return ErrorRecord.model_validate_json(error.message).rebuild()
    except ValidationError:
        return error


seams.wrap_models(durable)
