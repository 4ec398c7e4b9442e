"""Which user a request to the gateway is about. What is not listed here is forbidden."""

import enum
import json
import re
from typing import Any
from urllib.parse import parse_qsl

from adk_chat.protocol.turn_id import TurnId


class Access(enum.Enum):
    """Who may make a request."""

    OPEN = "anybody"
    SHARED = "every user"
    USER = "the user that its path names"
    BODY = "the user that its body names"
    TOKEN = "every user, about what is theirs"
    NOBODY = "nobody"


class BodyError(Exception):
    """It is unclear which user the body is about."""


_OPEN = re.compile(r"/|/health|/ready|/version|/dev-ui(/.*)?")
_SHARED = re.compile(r"/list-apps")
_USER = re.compile(r"(?:/dev)?/apps/[^/]+/users/([^/]+)/.+")
_TURN = re.compile(r"/turns/([^/]+)/[^/]+")
_EVENTS = re.compile(r"/turns/([^/]+)/events")
_TOKEN = re.compile(r"/agui/.+|/copilotkit(/.+)?")
_BODY = re.compile(r"/run|/run_sse|/agent-identity/finalize")

# Path segments that another parser could read differently.
_AMBIGUOUS = re.compile(r"//|/\.{1,2}(/|$)|[\\\x00-\x1f\x7f]")

_NAMES = ("userId", "user_id")

SUBJECT = "adk_chat.subject"
"""The key under which a scope has the user of its token, if there is one."""
PARSED = "adk_chat.parsed_body"
"""The key under which a scope has the parsed body."""
NOTES = "adk_chat.access_log"
"""The key under which a scope collects what is logged of its request, if it is logged."""


def note_user(scope: Any, user: str) -> None:
    """Notes the user of a request, for the log."""
    if (notes := scope.get(NOTES)) is not None:
        notes["user"] = user


def route_path(scope: Any) -> str:
    """Returns the path as the router sees it: decoded, without the prefix of a proxy."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and (path + "/").startswith(root.rstrip("/") + "/") else path


def access(method: str, path: str) -> tuple[Access, str | None]:
    """Returns who may make a request, and the user in its path."""
    if _AMBIGUOUS.search(path):
        return Access.NOBODY, None
    if match := _USER.fullmatch(path):
        return Access.USER, match[1]
    if match := _TURN.fullmatch(path):
        return _of_turn(match[1])
    if _TOKEN.fullmatch(path):
        return Access.TOKEN, None
    if method == "POST" and _BODY.fullmatch(path):
        return Access.BODY, None
    if method in ("GET", "HEAD") and _OPEN.fullmatch(path):
        return Access.OPEN, None
    if method in ("GET", "HEAD") and _SHARED.fullmatch(path):
        return Access.SHARED, None
    return Access.NOBODY, None


def ticket(scope: Any) -> tuple[TurnId, str] | None:
    """Returns the ticket in a request for a turn's events, and that turn; None if there is none."""
    match = _EVENTS.fullmatch(route_path(scope))
    shown = [value for name, value in parse_qsl(scope["query_string"].decode("latin-1")) if name == "ticket"]
    if scope["method"] != "GET" or match is None or len(shown) != 1:
        return None
    try:
        return TurnId.parse(match[1]), shown[0]
    except ValueError:
        return None


def without_ticket(query: bytes) -> bytes:
    """Returns a query without its ticket, which must not get into traces and logs."""
    left = [pair for pair in query.split(b"&") if not pair.startswith(b"ticket=")]
    return b"&".join(left)


def users_in_query(query: bytes) -> set[str]:
    """Returns the users in a query."""
    return {value for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True) if name in _NAMES}


def parsed(scope: Any, body: bytes) -> Any:
    """Returns a JSON body, parsed once for each request; None if it is not JSON.

    Raises:
        BodyError: if an object in it names a user twice. Which one counts would depend on the parser.
    """
    if PARSED not in scope:
        try:
            scope[PARSED] = json.loads(body, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            scope[PARSED] = None
    return scope[PARSED]


def users_in_body(value: Any) -> set[Any]:
    """Returns the users that a parsed body names, in either spelling."""
    if not isinstance(value, dict):
        return set()
    return {user if isinstance(user := value[name], str) else None for name in _NAMES if name in value}


def _of_turn(text: str) -> tuple[Access, str | None]:
    try:
        return Access.USER, TurnId.parse(text).key.user_id
    except ValueError:
        return Access.NOBODY, None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in _NAMES:
        if names.count(name) > 1:
            raise BodyError(f"The body has {name} more than once; send it once.")
    return dict(pairs)
