"""CORS: the origins whose pages may use the gateway."""

import re
from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from adk_chat.gateway.streams.run_request import TURN_ID
from adk_chat.protocol.errors import RETRY_AFTER

_REGEX = "regex:"


class OriginError(ValueError):
    """Invalid allowed origin."""


def checked_origins(allow_origins: Sequence[str]) -> list[str]:
    """Returns the allowed origins, with regular expressions in a form that can be joined.

    Raises:
        OriginError: if one is not an origin. The message says which.
    """
    return [_checked(origin) for origin in allow_origins]


def _checked(origin: str) -> str:
    if not origin.startswith(_REGEX):
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/]+", origin):
            raise OriginError(
                f"--allow-origins {origin!r} is invalid. It should look like http://localhost:3000, without a path, "
                "or like regex:https://.*\\.example\\.com."
            )
        return origin
    pattern = origin.removeprefix(_REGEX)
    try:
        re.compile(pattern)
    except re.error as error:
        raise OriginError(f"--allow-origins {origin!r} is an invalid regular expression: {error}.") from error
    # (?i) at the start applies to a whole expression, and may be nowhere else.
    return _REGEX + re.sub(r"^\(\?([a-zA-Z]+)\)(.*)", r"(?\1:\2)", pattern, flags=re.DOTALL)


def cross_origin(app: ASGIApp, allow_origins: Sequence[str]) -> ASGIApp:
    """Returns the app with CORS for these origins, or the app itself if there are none.

    ADK's server has CORS inside, but does not expose the turn's id, and does not cover our refusals.

    Args:
        app: the app.
        allow_origins: origins, or `regex:` and a regular expression that matches whole origins, as in ADK's option.
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
