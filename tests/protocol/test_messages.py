"""The size of a message, from the bytes that it came as."""

import json

import pytest

from adk_chat.protocol.errors import TooLargeError
from adk_chat.protocol.messages import Message


@pytest.mark.parametrize(
    ("parts", "is_accepted"),
    [
        ([{"text": "x" * 100}], True),
        ([{"text": "x" * 400}], True),
        ([{"text": "x" * 1000}], False),
        # 1e15 is written as 1000000000000000.0.
        ([{"functionResponse": {"name": "f", "response": {"numbers": [1e15] * 100}}}], False),
    ],
)
def test_a_message_is_as_large_as_it_is_passed_on(parts: list[object], is_accepted: bool) -> None:
    data = json.dumps({"session_id": "s", "parts": parts}).replace("1000000000000000.0", "1e15").encode()
    message = Message.model_validate_json(data)
    message.received(data)
    if is_accepted:
        message.check(message.content(), 1000)
    else:
        with pytest.raises(TooLargeError):
            message.check(message.content(), 1000)
