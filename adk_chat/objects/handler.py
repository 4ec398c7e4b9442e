"""Registers handlers. Bad input is answered with a 4xx and one sentence, and never retried."""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import restate
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json
from restate.serde import Serde

from adk_chat.durable import Journal
from adk_chat.durable.journal import seams
from adk_chat.durable.journal.attempt import clear_frames
from adk_chat.protocol.errors import STATUS, sentence
from adk_chat.protocol.json import whole_characters
from adk_chat.protocol.limits import ENGINE_BYTES, sized
from adk_chat.protocol.messages import Message

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)
_NOTHING = (b"", b"null")


@dataclass(frozen=True)
class _Rejected:
    sentence: str
    status: int = 400


class _Input(Serde[Any]):
    """Parses a request, or says in one sentence what is wrong with it. The SDK would answer an exception with 500."""

    def __init__(self, model: type[BaseModel], most: int) -> None:
        self._model = model
        self._most = most

    def deserialize(self, buf: bytes) -> BaseModel | _Rejected:
        if len(buf) > self._most:  # parsing it would block the event loop
            return _Rejected(f"The request takes {len(buf)} bytes; at most {self._most} are accepted.", 413)
        data = bytes(buf)
        try:
            request = self._model.model_validate_json(b"{}" if data.strip() in _NOTHING else data)
        except ValidationError as error:
            whole = whole_characters(data)
            return _Rejected(sentence(error)) if whole == data else self.deserialize(whole)
        if isinstance(request, Message):
            request.received(data)
        return request

    def serialize(self, obj: Any) -> bytes:
        raise NotImplementedError


class _Output(Serde[Any]):
    def deserialize(self, buf: bytes) -> Any:
        raise NotImplementedError

    def serialize(self, obj: Any) -> bytes:
        return bytes(obj)


def terminal(error: BaseException) -> restate.TerminalError | None:
    """Returns the terminal error for an exception: those of the session contract have their status in `STATUS`.

    Anything else raised here is a bug or damaged data. It would fail the same way in every attempt and block the
    object's key, so it is final and logged. Returns None for errors that the SDK or the engine handles.
    """
    if isinstance(error, restate.TerminalError):
        return error
    if type(error).__module__.startswith("restate"):
        return None
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), None)
    if status is None:
        logger.error("A handler failed because of a bug or damaged data.", exc_info=error)
        return restate.TerminalError(f"adk_chat has a bug, or its data is damaged: {error!r}. See its log.", 500)
    return restate.TerminalError(str(error), status)


def of_app(request: type[M], app: str) -> type[M]:
    """Returns the request type with examples that name the app, for the playground of the Restate UI."""
    extra = request.model_config.get("json_schema_extra")

    def named(schema: dict[str, Any]) -> None:
        if callable(extra):
            cast(Callable[[dict[str, Any]], None], extra)(schema)
        else:
            schema.update(extra or {})
        of_session = (
            {"session_id": example} if isinstance(example, str) else example for example in schema["examples"]
        )
        schema["examples"] = [{"app_name": app, **example} for example in of_session]

    attributes = {"model_config": ConfigDict(json_schema_extra=named), "__doc__": request.__doc__}
    return cast(type[M], type(request.__name__, (request,), {**attributes, "__module__": request.__module__}))


def handler(
    virtual_object: restate.VirtualObject, request: type[M], *, most: int = ENGINE_BYTES, **options: Any
) -> Callable[[Callable[[Any, M], Awaitable[Any]]], Callable[[Any, M], Awaitable[Any]]]:
    """Registers a function as a handler of `virtual_object` that takes `request` as JSON and returns JSON.

    Invalid input is answered with 400, more than `most` bytes with 413, and an exception as `terminal` says.
    """

    def register(function: Callable[[Any, M], Awaitable[Any]]) -> Callable[[Any, M], Awaitable[Any]]:
        @functools.wraps(function)
        async def run(ctx: Any, body: M | _Rejected) -> bytes:
            if isinstance(body, _Rejected):
                raise restate.TerminalError(body.sentence, body.status)
            try:
                answer = await function(ctx, body)
                # JSON has no infinity or NaN. ADK's JSON has null for them.
                data = to_json(answer, by_alias=True, exclude_none=isinstance(answer, BaseModel), inf_nan_mode="null")
                return sized(data, "The answer")
            except Exception as error:
                failure = terminal(error)
                if failure is None:
                    raise
                # A request can take 32 MB. With the frames that hold it, it would stay until a garbage collection.
                clear_frames(error)
                try:
                    raise failure from (None if failure is error else error)
                finally:
                    del failure
            except seams.AttemptOver as over:
                if Journal.current() is None:  # a journal does this when it closes
                    clear_frames(over)
                raise

        signature = inspect.signature(function, eval_str=True)
        ctx, body = signature.parameters.values()
        shown = signature.replace(parameters=[ctx, body.replace(annotation=request)])
        run.__signature__ = shown  # type: ignore[attr-defined]
        register_run = virtual_object.handler(input_serde=_Input(request, most), output_serde=_Output(), **options)
        return cast(Callable[[Any, M], Awaitable[Any]], register_run(run))

    return register
