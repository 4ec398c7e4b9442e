"""Model calls as journaled steps."""

import asyncio
import contextlib
import itertools
import logging
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from google.adk.agents.invocation_context import InvocationContext
from google.adk.events.event import Event
from google.adk.flows.llm_flows.functions import generate_client_function_call_id
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from opentelemetry import metrics
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json, to_json

from adk_chat.durable.adk import values
from adk_chat.durable.adk.errors import ErrorRecord, is_transient
from adk_chat.durable.adk.run_once import Outcome
from adk_chat.durable.adk.toolsets import AbsentTool
from adk_chat.durable.journal.journal import MAX_BYTES, Journal
from adk_chat.durable.journal.keys import digest
from adk_chat.protocol.events import MODEL_RETRY

logger = logging.getLogger(__name__)

_ERROR_CHARACTERS = 300
_RICH, _KIND = "$rich", "$kind"
"""Keys beside the JSON of a response: for fields of any type, and for its class if that is not ADK's own. Persisted."""

_FIELDS = LlmResponse.model_fields.keys()


class ModelCall(BaseModel):
    """A model call in the journal: all its responses, and the error that ended it, if any."""

    began: float
    ended: float = 0
    responses: list[dict[str, Any]] = []
    """See `_dumped`."""
    error: ErrorRecord | None = None
    transient: bool = False


class ModelRetry(BaseModel):
    """A model call that failed with a transient error and is retried."""

    model: str
    error: str = Field(description="The exception's name and message, at most 300 characters.")
    attempt: int = Field(description="The number of the next attempt.")
    max_attempts: int
    seconds: float = Field(description="Seconds until then.")


_retries = metrics.get_meter("adk_chat").create_counter(
    "adk_chat.model.retries", "{retry}", "Model calls retried after a transient error."
)


class DurableModel(BaseLlm):
    """An ADK model whose calls are journaled: a call that has finished is never made again.

    Partial responses are yielded as they arrive, so streaming stays live. A replay yields the same responses at once. A
    transient error (see `is_transient`) is retried as the journal's policy says. Any other error, and the last one, is
    raised as the model raised it, so ADK's error callbacks see what they see without Restate.
    """

    inner: BaseLlm
    journal: object
    agent: str
    branch: str | None
    invocation_id: str

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        """See `BaseLlm`."""
        journal = self.journal
        assert isinstance(journal, Journal)
        last = to_json(llm_request.contents[-1:], exclude_none=True, serialize_unknown=True)
        content = digest(self.branch, len(llm_request.contents), last)
        began = None
        for attempt in itertools.count(1):
            call = _Call(self.inner, llm_request, stream, journal)
            step = asyncio.create_task(
                journal.step(f"model {self.agent}", call.make, content, label=llm_request.model or self.model)
            )
            step.add_done_callback(call.end_of_partials)
            handed_out = 0
            try:
                while (partial := await call.partials.get()) is not None:
                    handed_out += 1
                    yield partial
                data = await step
                made = call.made or ModelCall.model_validate_json(data)
            finally:
                step.cancel()
            journal.advance(made.ended)
            began = began or made.began
            pause = journal.retry.pause(attempt, made.ended - began) if made.transient else None
            if pause is None:
                break
            if call.outcome.error is not None:
                _retries.add(1, {"model": self.model})
                self._say_retry(journal, call.outcome.error, attempt, pause.total_seconds())
                call.outcome = Outcome()  # the frames of its error hold the call
            if handed_out:
                raise journal.restart()
            await journal.sleep(pause, "until the model is asked again")
        for number in range(handed_out, len(made.responses)):
            yield call.given[number] if call.given else _restored(made.responses[number])
        if made.error is not None:
            error = call.outcome.error or made.error.rebuild()
            journal.errors_of_models.append(error)
            raise error

    def _say_retry(self, journal: Journal, error: BaseException, attempt: int, seconds: float) -> None:
        """Logs that the model is called again, and tells whoever watches the turn."""
        retry = ModelRetry(
            model=self.model,
            error=" ".join(f"{type(error).__name__}: {error}".split())[:_ERROR_CHARACTERS],
            attempt=attempt + 1,
            max_attempts=journal.retry.max_attempts,
            seconds=seconds,
        )
        logger.warning(
            "%s of %s failed: %s. Retrying in %g s: attempt %d of at most %d.",
            *(retry.model, self.agent, retry.error, retry.seconds, retry.attempt, retry.max_attempts),
        )
        if journal.on_model_retry is not None:
            # Its id and time are not the journal's: a replay does not make this event.
            journal.on_model_retry(
                Event(
                    id=str(uuid.uuid4()),
                    timestamp=time.time(),
                    invocation_id=self.invocation_id,
                    author=self.agent,
                    branch=self.branch,
                    partial=True,
                    custom_metadata={MODEL_RETRY: retry.model_dump(mode="json")},
                )
            )


class _Call:
    """One attempt at a model call, in the process that makes it."""

    def __init__(self, model: BaseLlm, request: LlmRequest, stream: bool, journal: Journal) -> None:
        self.partials: asyncio.Queue[LlmResponse | None] = asyncio.Queue()
        self.outcome: Outcome[None] = Outcome()
        self.made: ModelCall | None = None
        """The record of the call, if it was made in this process."""
        self.given: list[LlmResponse] = []
        """The responses, as the model returned them."""
        self._model = model
        self._request = request
        self._stream = stream
        self._journal = journal

    async def make(self) -> bytes:
        """Calls the model. Returns what is to be journaled."""
        made = ModelCall(began=time.time())
        made.error = await self.outcome.of(self._call(made.responses))
        made.transient = self.outcome.error is not None and is_transient(self.outcome.error)
        made.ended = time.time()
        try:
            data = _journaled(made)
        except ValueError as error:
            self.given = []
            made = ModelCall(began=made.began, ended=made.ended, error=self.outcome.fail(error))
            data = _journaled(made)
        self.made = made
        return data

    async def _call(self, received: list[dict[str, Any]]) -> None:
        for tool in self._request.tools_dict.values():
            if isinstance(tool, AbsentTool):
                raise tool.absence()
        async with asyncio.timeout(self._journal.step_timeout):
            await self._receive(received)

    def end_of_partials(self, _: object) -> None:
        """Called when the call is journaled, or when it is certain that it will not be."""
        self.partials.put_nowait(None)

    async def _receive(self, received: list[dict[str, Any]]) -> None:
        live = True
        places: dict[int, int] = {}
        async with aclosing(self._model.generate_content_async(self._request, stream=self._stream)) as responses:
            async for response in responses:
                _name_function_calls(response)
                # A complete response makes ADK run tools. So it, and all that follows, is yielded only once it is
                # journaled.
                live = live and bool(response.partial)
                # Before ADK and its callbacks may change it.
                received.append(_dumped(response))
                # A model may change a response and yield the same object again. Under ADK each would be seen as it was.
                before = places.get(id(response))
                if before is not None and not live:
                    self.given[before] = _restored(received[before])
                places[id(response)] = len(self.given)
                self.given.append(response)
                if live:
                    self.partials.put_nowait(response)


def durable_models(get_llm: Any) -> Any:
    """Makes `BaseLlmFlow._get_llm` return the model that an agent is about to call as a `DurableModel`."""

    async def get_durable_llm(self: object, invocation_context: InvocationContext) -> BaseLlm:
        model: BaseLlm = await get_llm(self, invocation_context)
        journal = Journal.current()
        if journal is None or isinstance(model, DurableModel):
            return model
        return DurableModel(
            model=model.model,
            inner=model,
            journal=journal,
            agent=getattr(invocation_context.agent, "name", "agent"),
            branch=invocation_context.branch,
            invocation_id=invocation_context.invocation_id,
        )

    return get_durable_llm


def _name_function_calls(response: LlmResponse) -> None:
    # ADK would do this after the step, with ids that depend on how many were made before.
    for part in (response.content.parts if response.content else None) or []:
        if part.function_call and not part.function_call.id:
            part.function_call.id = generate_client_function_call_id()


def _journaled(made: ModelCall) -> bytes:
    """Returns a call as the journal keeps it.

    Raises:
        ValueError: if it cannot be kept.
    """
    try:
        data = made.model_dump_json(exclude_none=True).encode()
        if data.count(b"{") + data.count(b"[") > values.MAX_DEPTH:
            from_json(data)
    except ValueError as error:  # a lone surrogate, or nested too deeply to be read back
        raise ValueError(f"The model's answer cannot be stored: {error}") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"The model's answer takes {len(data)} bytes; at most {MAX_BYTES} can be stored.")
    return data


def _dumped(response: LlmResponse) -> dict[str, Any]:
    """Returns the JSON of a response, and in it what JSON alone would lose."""
    kind = type(response)
    own = [name for name in kind.model_fields if name not in _FIELDS] if kind is not LlmResponse else []
    rich = [name for name in ("custom_metadata", *own) if getattr(response, name) is not None]
    data = response.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=set(rich), fallback=repr)
    if rich:
        data[_RICH] = {name: values.encode_leniently(getattr(response, name), name) for name in rich}
    if kind is not LlmResponse:
        data[_KIND] = values.name_of(kind)
    return data


def _restored(data: dict[str, Any]) -> LlmResponse:
    """Returns the response that was dumped. If its own class no longer exists, it is of ADK's class."""
    given = {name: value for name, value in data.items() if name not in (_RICH, _KIND)}
    rich = {name: values.decode(value) for name, value in data.get(_RICH, {}).items()}
    with contextlib.suppress(values.UnjournalableError, ValidationError):
        kind = values.resolve(data[_KIND]) if _KIND in data else LlmResponse
        response: LlmResponse = kind.model_validate({**given, **rich})
        return response
    return LlmResponse.model_validate(given | {k: v for k, v in rich.items() if k in _FIELDS})
