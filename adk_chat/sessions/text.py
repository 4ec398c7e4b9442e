"""JSON with half a character in it, as clients send that cut a text in the middle of an emoji."""

import re

_SURROGATES = re.compile(
    rb"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\xed[\xa0-\xbf][\x80-\xbf])"
    rb"|\\.",
    re.DOTALL,
)
_MAY_HAVE_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def whole_characters(data: bytes) -> bytes:
    """The JSON, half a character being U+FFFD: it has no form in UTF-8, and nothing could be kept of it."""
    if not _MAY_HAVE_HALF.search(data):
        return data
    return _SURROGATES.sub(lambda found: "\ufffd".encode() if found["half"] else found[0], data)
