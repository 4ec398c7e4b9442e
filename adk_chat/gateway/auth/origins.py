"""CORS: which pages of other origins may use the gateway."""

import re
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from adk_chat.gateway.streams.run_request import TURN_ID
from adk_chat.protocol.errors import RETRY_AFTER

_REGEX = "regex:"


class OriginError(ValueError):
    """An origin that is to be allowed is none."""


def checked_origins(allow_origins: Sequence[str]) -> list[str]:
    """What is allowed, in a form in which regular expressions can be joined to one.

    Raises:
        OriginError: says which cannot be an origin.
    """
    return [_checked(origin) for origin in allow_origins]


def _checked(origin: str) -> str:
    if not origin.startswith(_REGEX):
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/]+", origin):
            raise OriginError(
                f"--allow-origins {origin!r} is no origin: it should look like http://localhost:3000, without a path, "
                "or like regex:https://.*\\.example\\.com."
            )
        return origin
    pattern = origin.removeprefix(_REGEX)
    try:
        re.compile(pattern)
    except re.error as error:
        raise OriginError(f"--allow-origins {origin!r} is no regular expression: {error}.") from error
    # (?i) at the start counts for all of an expression, and may not be anywhere else.
    return _REGEX + re.sub(r"^\(\?([a-zA-Z]+)\)(.*)", r"(?\1:\2)", pattern, flags=re.DOTALL)


def cross_origin(app: ASGIApp, allow_origins: Sequence[str]) -> ASGIApp:
    """The app, of which pages of these origins may read the answers; the app itself if there are none.

    ADK's server does the same inside, but does not let them read the turn's id, and knows nothing of our refusals.

    Args:
        app: the app.
        allow_origins: as ADK's option of that name: origins, or `regex:` and a regular expression for all of one.
    """
    if not allow_origins:
        return app
    patterns = [origin.removeprefix(_REGEX) for origin in allow_origins if origin.startswith(_REGEX)]
    return CORSMiddleware(
        app,
        allow_origins=[origin for origin in allow_origins if not origin.startswith(_REGEX)],
        allow_origin_regex="|".join(patterns) or None,
        allow_credentials=True,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=[TURN_ID, *RETRY_AFTER],
    )
