"""What an exception of a model or a tool means, and how the journal keeps it for a replay."""

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
# The names that aiohttp, the OpenAI SDK and Anthropic's use for connection errors. None of them need be installed.
_TRANSIENT_NAMES = {"ClientConnectionError", "ClientPayloadError", "APIConnectionError"}


def is_transient(error: BaseException) -> bool:
    """Returns whether a retry may succeed: no connection, a timeout, or HTTP 408, 429 or 5xx."""
    response = getattr(error, "response", None)  # of httpx's and requests' HTTP errors
    named: list[Any] = [getattr(error, name, None) for name in ("code", "status_code", "status")]
    status = next(filter(_is_status, [*named, getattr(response, "status_code", None)]), None)
    if status is not None:
        return bool(status in _TRANSIENT_STATUS or status >= _SERVER_ERROR)
    if isinstance(error, ConnectionError | TimeoutError | httpx.TransportError):
        return True
    return any(base.__name__ in _TRANSIENT_NAMES for base in type(error).__mro__)


def _is_status(code: object) -> bool:
    """Returns whether a code is an HTTP status, and not a provider's own code."""
    return isinstance(code, int) and 100 <= code < 600


_CHAIN = 8
"""How many exceptions of a chain, or of nested groups, are kept."""
_TEXT_BYTES = 16 * 1024
_LOOKED_AT = (
    *("status_code", "status", "code", "reason", "reason_phrase", "message", "details", "headers", "text"),
    *("url", "method"),
)
"""The attributes that code reads of the response or request in a client's exception."""
_BUILT_IN = {"builtins", "asyncio.exceptions", "asyncio"}


class ObjectRecord(BaseModel):
    """An object that an exception carries, mostly a response, with the attributes that code reads."""

    type: str
    attributes: dict[str, Any] = {}

    @classmethod
    def of(cls, carried: object) -> "ObjectRecord":
        """Returns the record of an object."""
        found: dict[str, Any] = {}
        for name in _LOOKED_AT:
            with contextlib.suppress(Exception):  # such as the text of a stream that was not read
                found[name] = getattr(carried, name)
        kept = {}
        # A request may contain secrets, and so may any other attribute.
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
        """Returns an object with these attributes whose class has the same name; for httpx, a real response."""
        kept = {name: values.decode(value) for name, value in self.attributes.items()}
        if self.type == "httpx:Response":
            # The text is the body after decompression.
            headers = {key: value for key, value in kept.get("headers", {}).items() if key != "content-encoding"}
            request = httpx.Request("GET", kept["url"]) if "url" in kept else None
            return httpx.Response(kept["status_code"], headers=headers, text=kept.get("text", ""), request=request)
        return type(self.type.partition(":")[2], (SimpleNamespace,), {})(**kept)


class ErrorRecord(BaseModel):
    """An exception as the journal keeps it: its class and base classes, arguments and attributes.

    It keeps those arguments and attributes that are JSON or exceptions, and a description of other objects.
    """

    type: str
    message: str
    bases: list[str] = []
    args: list[Any] = []
    attributes: dict[str, Any] = {}
    errors: dict[str, "ErrorRecord | list[ErrorRecord]"] = {}
    """The exceptions that caused it, and those of a group."""
    objects: dict[str, ObjectRecord] = {}

    @classmethod
    def of(cls, error: BaseException, depth: int = 0) -> "ErrorRecord":
        """Returns the record of an exception."""
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
        """Returns an exception of the same class with the same message.

        If the class no longer exists, it is a new class that derives from the nearest base class that does. If its
        message depends on what could not be kept, it is a subclass with that message.
        """
        module, _, qualname = self.type.partition(":")
        name = qualname.split(".")[-1]
        for base in (kind for kind in map(_class_of, [self.type, *self.bases]) if kind is not None):
            if not issubclass(base, Raisable):
                continue
            with contextlib.suppress(Exception):
                if values.name_of(base) == self.type and _said(error := self._made(base)) == self.message:
                    return error
            with contextlib.suppress(Exception):  # a class that cannot be instantiated, or subclassed
                return self._made(type(name, (base,), {"__module__": module, "__str__": lambda _: self.message}))
        return cast(Exception, type(name, (RuntimeError,), {"__module__": module})(self.message))

    def _made(self, kind: Any) -> Raisable:
        args = [values.decode(arg) for arg in self.args]
        if kind is ValidationError:
            return _validation_error(*args)
        if issubclass(kind, BaseExceptionGroup):
            members = self.errors.get("exceptions", [])
            args = [*args, [one.rebuild() for one in members if isinstance(one, ErrorRecord)]]
        # A user's constructor may take or do anything, so only that of Python's own base class is called.
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
        return f"<{type(error).__name__} whose text is not available: {type(broken).__name__}>"


def _made_of(error: BaseException) -> tuple[Any, ...]:
    """Returns the arguments for Python's own base class. `OSError.args` lacks the file name."""
    if isinstance(error, ValidationError):
        lines: list[Any] = [dict(line) for line in error.errors(include_url=False)]
        for line in lines:
            if "error" in line.get("ctx", {}):  # from a validator
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
    """Returns all attributes, from the instance dictionary, slots, and Python's own classes."""
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
    """Returns the exception class with that name, if it still exists."""
    try:
        found = values.resolve(name)
    except Exception:  # importing a module may raise anything
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _encodable(given: Mapping[Any, Any]) -> dict[Any, Any]:
    encoded = {}
    for key, value in given.items():
        with contextlib.suppress(values.UnjournalableError):
            encoded[key] = values.encode(value)
    return encoded
