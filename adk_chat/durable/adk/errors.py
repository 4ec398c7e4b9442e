"""What an exception of a model or a tool means, and how it is kept in the journal so that a replay raises it again."""

import contextlib
from collections.abc import Mapping
from types import MemberDescriptorType, SimpleNamespace
from typing import Any, cast

import httpx
from pydantic import BaseModel, ValidationError

from adk_chat.durable.adk import values
from adk_chat.durable.journal.errors import Raisable

_TRANSIENT_STATUS = {408, 429}
_SERVER_ERROR = 500
# aiohttp, the OpenAI SDK and Anthropic's name their connection errors so; none of them need be installed.
_TRANSIENT_NAMES = {"ClientConnectionError", "ClientPayloadError", "APIConnectionError"}


def is_transient(error: BaseException) -> bool:
    """Whether the same model call may succeed in a moment: no connection, a timeout, HTTP 408, 429 or 5xx."""
    response = getattr(error, "response", None)  # of httpx's HTTPStatusError, and of those of requests
    named: list[Any] = [getattr(error, name, None) for name in ("code", "status_code", "status")]
    status = next(filter(_is_status, [*named, getattr(response, "status_code", None)]), None)
    if status is not None:
        return bool(status in _TRANSIENT_STATUS or status >= _SERVER_ERROR)
    if isinstance(error, ConnectionError | TimeoutError | httpx.TransportError):
        return True
    return any(base.__name__ in _TRANSIENT_NAMES for base in type(error).__mro__)


def _is_status(code: object) -> bool:
    """Whether it is one of HTTP, and no code of a provider's own."""
    return isinstance(code, int) and 100 <= code < 600


_CHAIN = 8
"""How many exceptions of a chain, or of groups in groups, are kept."""
_TEXT_BYTES = 16 * 1024
_LOOKED_AT = (
    *("status_code", "status", "code", "reason", "reason_phrase", "message", "details", "headers", "text"),
    *("url", "method"),
)
"""What code asks of the response, or the request, that an exception of a client carries."""
_BUILT_IN = {"builtins", "asyncio.exceptions", "asyncio"}


class ObjectRecord(BaseModel):
    """An object that an exception carries, a response most often, by what code looks at."""

    type: str
    attributes: dict[str, Any] = {}

    @classmethod
    def of(cls, carried: object) -> "ObjectRecord":
        """Describe `carried`."""
        found: dict[str, Any] = {}
        for name in _LOOKED_AT:
            with contextlib.suppress(Exception):  # as httpx's text of a stream that was not read
                found[name] = getattr(carried, name)
        kept = {}
        # What a request says may be a secret, as may all else that an object has.
        of_request = not any(_is_status(found.get(name)) for name in ("status_code", "status"))
        for name, value in found.items():
            if name == "headers" and of_request:
                continue
            if isinstance(value, Mapping):
                value = {str(key): str(item) for key, item in value.items()}
            elif name in ("url", "reason") and value is not None:
                value = str(value)
            if isinstance(value, str | int | float | dict | list | None):
                with contextlib.suppress(values.UnjournalableError):
                    encoded = values.encode(value)
                    if len(str(encoded)) <= _TEXT_BYTES:
                        kept[name] = encoded
        return cls(type=values.name_of(type(carried)), attributes=kept)

    def rebuild(self) -> Any:
        """An object with these attributes, of a class of the same name; a response of httpx is one again."""
        kept = {name: values.decode(value) for name, value in self.attributes.items()}
        if self.type == "httpx:Response":
            # The text is what the body says once it is unpacked.
            headers = {key: value for key, value in kept.get("headers", {}).items() if key != "content-encoding"}
            request = httpx.Request("GET", kept["url"]) if "url" in kept else None
            return httpx.Response(kept["status_code"], headers=headers, text=kept.get("text", ""), request=request)
        return type(self.type.partition(":")[2], (SimpleNamespace,), {})(**kept)


class ErrorRecord(BaseModel):
    """An exception as the journal keeps it: its class and the bases of that, and all that code may look at.

    Of arguments and attributes, those that have a form in JSON are kept, exceptions, and what can be of other objects.
    """

    type: str
    message: str
    bases: list[str] = []
    args: list[Any] = []
    attributes: dict[str, Any] = {}
    errors: dict[str, "ErrorRecord | list[ErrorRecord]"] = {}
    """The exceptions that led to it, and those of a group."""
    objects: dict[str, ObjectRecord] = {}

    @classmethod
    def of(cls, error: BaseException, depth: int = 0) -> "ErrorRecord":
        """Describe `error`."""
        kind = type(error)
        record = cls(
            type=values.name_of(kind),
            message=_said(error),
            bases=[values.name_of(base) for base in kind.__mro__[1:] if issubclass(base, BaseException)],
            args=[*_encodable(dict(enumerate(_made_of(error)))).values()],
        )
        chained = {"__cause__": error.__cause__, "__context__": error.__context__, **_attributes(error)}
        for name, value in chained.items():
            if isinstance(value, BaseException):
                if depth < _CHAIN and value is not error:
                    record.errors[name] = cls.of(value, depth + 1)
            elif encoded := _encodable({name: value}):
                record.attributes |= encoded
            elif not callable(value):
                record.objects[name] = ObjectRecord.of(value)
        if isinstance(error, BaseExceptionGroup):
            record.args = record.args[:1]
            record.errors["exceptions"] = [cls.of(one, depth + 1) for one in error.exceptions if depth < _CHAIN]
        record.attributes["__suppress_context__"] = error.__suppress_context__
        return record

    def rebuild(self) -> Raisable:
        """An exception of the same class with the same message; where there is no such class any more, of a new one.

        That has the nearest base that there is. A class whose message needs what could not be kept is derived from.
        """
        module, _, qualname = self.type.partition(":")
        name = qualname.split(".")[-1]
        for base in (kind for kind in map(_class_of, [self.type, *self.bases]) if kind is not None):
            if not issubclass(base, Raisable):
                continue
            with contextlib.suppress(Exception):
                if values.name_of(base) == self.type and _said(error := self._made(base)) == self.message:
                    return error
            with contextlib.suppress(Exception):  # of a class that cannot be made, or derived from
                return self._made(type(name, (base,), {"__module__": module, "__str__": lambda _: self.message}))
        return cast(Exception, type(name, (RuntimeError,), {"__module__": module})(self.message))

    def _made(self, kind: Any) -> Raisable:
        args = [values.decode(arg) for arg in self.args]
        if kind is ValidationError:
            return _validation_error(*args)
        if issubclass(kind, BaseExceptionGroup):
            members = self.errors.get("exceptions", [])
            args = [*args, [one.rebuild() for one in members if isinstance(one, ErrorRecord)]]
        # Somebody's own constructor may take, and do, anything; that of Python's class sets what is in no dictionary.
        built_in = next(base for base in kind.__mro__ if base.__module__ in _BUILT_IN)
        error = built_in.__new__(kind, *args)
        with contextlib.suppress(TypeError):
            built_in.__init__(error, *args)
        for name, value in self.attributes.items():
            _set(error, name, values.decode(value))
        for name, carried in self.objects.items():
            _set(error, name, carried.rebuild())
        for name, record in self.errors.items():
            if isinstance(record, ErrorRecord):
                _set(error, name, record.rebuild())
        error.__suppress_context__ = bool(self.attributes.get("__suppress_context__", False))
        return cast(Raisable, error)


def _said(error: BaseException) -> str:
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception as broken:
        return f"<{type(error).__name__} whose text cannot be had: {type(broken).__name__}>"


def _made_of(error: BaseException) -> tuple[Any, ...]:
    """What Python's own class is to be made of: `OSError.args` lacks the name of the file."""
    if isinstance(error, ValidationError):
        lines: list[Any] = [dict(line) for line in error.errors(include_url=False)]
        for line in lines:
            if "error" in line.get("ctx", {}):  # that of a validator
                line["ctx"] = {**line["ctx"], "error": str(line["ctx"]["error"])}
        return error.title, lines
    if isinstance(error, OSError) and error.filename is not None:
        return (error.errno, error.strerror, error.filename, None, error.filename2)[: 5 if error.filename2 else 3]
    return error.args


def _validation_error(title: str, lines: list[Any]) -> ValidationError:
    for line in lines:
        line.pop("msg")
        if "error" in line.get("ctx", {}):
            line["ctx"]["error"] = ValueError(line["ctx"]["error"])
    return ValidationError.from_exception_data(title, lines)


def _attributes(error: BaseException) -> dict[str, Any]:
    """All that is on it, be it in its dictionary, in slots, or in what Python's own classes have."""
    names: list[str] = []
    for base in type(error).__mro__:
        slots = getattr(base, "__slots__", ()) if base.__module__ not in _BUILT_IN else ()
        names += [slots] if isinstance(slots, str) else slots
        names += [name for name, found in vars(base).items() if isinstance(found, MemberDescriptorType)]
    found = {name: getattr(error, name, None) for name in names if not name.startswith("__")}
    return {**{name: value for name, value in found.items() if value is not None}, **vars(error)}


def _set(error: BaseException, name: str, value: Any) -> None:
    with contextlib.suppress(AttributeError, TypeError):  # a property
        setattr(error, name, value)


def _class_of(name: str) -> Any:
    """The class of that name, if it is there still and an exception."""
    try:
        found = values.resolve(name)
    except Exception:  # whatever a module does that is imported
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _encodable(given: Mapping[Any, Any]) -> dict[Any, Any]:
    encoded = {}
    for key, value in given.items():
        with contextlib.suppress(values.UnjournalableError):
            encoded[key] = values.encode(value)
    return encoded
