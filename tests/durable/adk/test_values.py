"""Python values in the journal."""

import enum
import json
import math
import re
import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import httpx
import pytest
from google.genai import types
from pydantic import BaseModel, PrivateAttr, model_serializer

from adk_chat.durable.adk.errors import ErrorRecord, is_transient
from adk_chat.durable.adk.values import UnjournalableError, UnkeepableError, decode, encode, encode_leniently
from tests.durable.workshop import Point, Weather
from tests.gemini import error as gemini_error


class Color(enum.Enum):
    """An enum."""

    RED = "red"


class Url(str):
    """A subclass of str."""


class Attributes(dict[str, Any]):
    """A subclass of dict."""


class Pair(NamedTuple):
    """A tuple with untyped fields."""

    x: Any
    y: Any


class Anything(BaseModel):
    """A model with untyped fields."""

    x: Any = None
    y: Any = None
    _seen: int = PrivateAttr(default=3)


@dataclass(frozen=True, slots=True)
class Box:
    """The same as a dataclass."""

    x: Any
    y: Any = None


VALUES: list[Any] = [
    None,
    True,
    1,
    1.5,
    float("inf"),
    "text",
    [1, [None]],
    {"a": {"b": []}},
    {"$type": "not ours"},
    {1: "one"},
    (1, 2),
    {3, 4},
    b"\xff\x00",
    date(2026, 1, 2),
    timedelta(seconds=3),
    Decimal("1.10"),
    Color.RED,
    Point(1, (2, 3)),
    Weather.model_validate({"city": "Oslo", "at": "2026-01-02T03:04:05Z"}),
    types.Part.from_bytes(data=b"\xff", mime_type="image/png"),
    range(1, 9, 2),
    defaultdict(list, {"a": [1]}),
    defaultdict(None, {1: (2,)}),
    Url("https://example.com"),
    Attributes(a=(1,)),
    Pair(date(2026, 1, 2), (1,)),
    Anything(x=date(2026, 1, 2), y=Anything(x={1, 2})),
    Box(date(2026, 1, 2), Anything()),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_equal_and_of_its_type(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    assert (back, type(back)) == (value, type(value))
    assert getattr(back, "default_factory", None) is getattr(value, "default_factory", None)


class Local:
    """A type that pydantic does not know."""


class Contrary(BaseModel):
    """Raises when it is compared or dumped."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("incomparable")

    @model_serializer
    def _dump(self) -> str:
        raise RuntimeError("not to be dumped")


class Unfinished(BaseModel):
    """Has an untyped field whose value cannot be kept."""

    lock: Any = None


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        Local(),
        (Local(),),
        [lambda: None],
        Contrary(),
        Unfinished(lock=threading.Lock()),
        defaultdict(partial(list)),
        defaultdict(lambda: 1),
    ],
)
def test_what_does_not_survive_is_refused(value: Any) -> None:
    with pytest.raises(UnjournalableError):
        encode(value)


def test_what_does_not_survive_is_kept_as_an_event_would_hold_it() -> None:
    circle: list[Any] = []
    circle.append(circle)
    iterator = iter((1, 2))
    kept = encode_leniently({"a": [Local, 1], "b": iterator, "c": math.nan}, "it")
    back = decode(json.loads(json.dumps(kept)))
    assert (back["a"], back["b"], math.isnan(back["c"])) == ([repr(Local), 1], repr(iterator), True)
    assert list(iterator) == [1, 2]
    assert decode(encode_leniently(Contrary(), "it")) == repr(Contrary())
    assert decode({"$type": "no.such:Class", "value": {"x": 1}}) == {"x": 1}
    for gone in ("no.such:Class", "json:dumps"):
        assert decode({"$type": "parts", "value": [gone, {"x": 1}]}) == {"x": 1}
    assert decode(encode_leniently(defaultdict(partial(list), a=[1]), "it")) == {"a": [1]}
    for value, said in ((circle, "it[0][0]"), ({"deep": ["\ud83d"]}, "it.deep[0] is not valid Unicode text")):
        with pytest.raises(UnkeepableError, match=re.escape(said)):
            encode_leniently(value, "it")


class KeptFromJsonError(Exception):
    """Its message comes from an attribute that has no JSON, as with aiohttp's errors."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __str__(self) -> str:
        return f"locked: {self.lock.locked()}"


def test_an_exception_is_rebuilt() -> None:
    from google.genai.errors import ServerError

    status, body = gemini_error(503, "UNAVAILABLE")
    for raised in (
        ServerError(status, body),
        KeyError("k"),
        ValueError("said", 1),
        UnicodeDecodeError("a", b"b", 0, 1, "c"),
        KeptFromJsonError(),
    ):
        record = ErrorRecord.model_validate_json(ErrorRecord.of(raised).model_dump_json())
        back = record.rebuild()
        assert str(back) == str(raised)
        assert type(back).__name__ == type(raised).__name__
        assert isinstance(back, type(raised))
        assert type(back) is type(raised) or isinstance(raised, KeptFromJsonError)
    assert getattr(ErrorRecord.of(ServerError(status, body)).rebuild(), "status", None) == "UNAVAILABLE"


def test_an_exception_keeps_the_response_that_it_carries_and_no_secret_of_the_request() -> None:
    request = httpx.Request("GET", "http://x/", headers={"authorization": "Bearer secret"})
    response = httpx.Response(418, request=request, headers={"retry-after": "3"}, text="tea")
    with pytest.raises(httpx.HTTPStatusError) as raised:
        response.raise_for_status()
    kept = ErrorRecord.of(raised.value).model_dump_json()
    assert "secret" not in kept
    back = ErrorRecord.model_validate_json(kept).rebuild()
    assert isinstance(back, httpx.HTTPStatusError)
    assert (back.response.status_code, back.response.headers["retry-after"], back.response.text) == (418, "3", "tea")
    assert str(back.request.url) == "http://x/"


def test_an_exception_whose_class_is_gone_has_the_nearest_base_that_is_not() -> None:
    gone = type("GoneError", (KeptFromJsonError, OSError), {"__module__": "no.such.module"})
    back = ErrorRecord.model_validate_json(ErrorRecord.of(gone()).model_dump_json()).rebuild()
    assert (type(back).__name__, str(back)) == ("GoneError", "locked: False")
    assert isinstance(back, KeptFromJsonError)
    assert isinstance(ErrorRecord.of(SystemExit(3)).rebuild(), RuntimeError)


@pytest.mark.parametrize(
    ("status", "transient"),
    [(400, False), (401, False), (404, False), (408, True), (429, True), (500, True), (529, True)],
)
def test_which_answers_may_pass(status: int, transient: bool) -> None:
    from google.genai.errors import APIError

    assert is_transient(APIError(status, {})) is transient


def test_which_other_errors_may_pass() -> None:
    assert is_transient(ConnectionResetError())
    assert is_transient(TimeoutError())
    request = httpx.Request("GET", "http://x")
    for status in (404, 503):
        error = httpx.HTTPStatusError("", request=request, response=httpx.Response(status, request=request))
        assert is_transient(error) is (status == 503)
    assert not is_transient(type("Coded", (Exception,), {"code": 1008})())
    assert is_transient(type("APIConnectionError", (Exception,), {})())
    assert not is_transient(ValueError())
    assert not is_transient(FileNotFoundError())
