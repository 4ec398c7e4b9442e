"""JSON values: their type, and how any value or any bytes become JSON that can be stored."""

import logging
import re
from typing import Any

from pydantic import WithJsonSchema
from pydantic_core import PydanticSerializationError, to_jsonable_python

logger = logging.getLogger(__name__)

Json = dict[str, Any]
OBJECTS = WithJsonSchema({"type": "array", "items": {"type": "object"}})
"""The schema of lists of ADK's and genai's types. Their own schemas would hide ours in the Restate UI's playground."""

_SURROGATES = re.compile(
    rb"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\xed[\xa0-\xbf][\x80-\xbf])"
    rb"|\\.",
    re.DOTALL,
)
_MAY_HAVE_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def json_safe(state: Json) -> Json:
    """Returns `state` with every value as JSON.

    A value without a JSON form becomes its repr, with a warning, as in ADK's database session services.
    """
    try:
        safe: Json = to_jsonable_python(state)
    except PydanticSerializationError:
        logger.warning("Some values of the state have no JSON form and are stored as text: %s", sorted(state))
        safe = to_jsonable_python(state, serialize_unknown=True)
    return safe


def whole_characters(data: bytes) -> bytes:
    """Returns the JSON text with each lone surrogate replaced by U+FFFD.

    Clients that cut a text in the middle of an emoji send half a surrogate pair. It has no UTF-8 form.
    """
    if not _MAY_HAVE_LONE_SURROGATE.search(data):
        return data
    return _SURROGATES.sub(lambda found: "\ufffd".encode() if found["half"] else found[0], data)
