"""One line of the log for each request to the gateway."""

import logging
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from adk_chat.gateway.auth.access import NOTES, route_path
from adk_chat.gateway.streams.run_request import TURN_ID

logger = logging.getLogger("adk_chat.access")

_PROBES = ("/health", "/ready")
_OK, _FAILED, _LEFT = 200, 500, 499
"""499 is nginx's status for a request whose client left before it was answered."""


class AccessLog:
    """ASGI middleware, outside all other, that logs a request when its answer has ended.

    A line has the method, the route (or the path, if no route matches), the status, the milliseconds, and if known the
    user and the turn. It has no query and no token. Probes that succeed are logged at DEBUG.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        notes: dict[str, str] = {}
        scope[NOTES] = notes
        status, whole = _LEFT, False

        async def noting(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                if (turn := Headers(raw=message["headers"]).get(TURN_ID)) is not None:
                    notes["turn_id"] = turn
            elif message["type"] == "http.response.body":
                whole = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            status = _FAILED if status == _LEFT else status
            raise
        finally:
            _log(scope, status, whole, (time.monotonic() - began) * 1000, notes)


def _log(scope: Scope, status: int, whole: bool, milliseconds: float, notes: dict[str, str]) -> None:
    path, parameters = route_path(scope), scope.get("path_params", {})
    level = logging.DEBUG if path in _PROBES and status == _OK else logging.INFO
    if not logger.isEnabledFor(level):
        return
    fields: dict[str, Any] = {
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", None) or path,
        "status": status,
        "ms": round(milliseconds, 1),
        "user": notes.get("user") or parameters.get("user_id"),
        "turn_id": notes.get("turn_id") or parameters.get("turn_id"),
        "broke_off": None if whole else True,
    }
    said = {"user": fields["user"], "turn": fields["turn_id"]}
    more = "".join(f" {name}={value}" for name, value in said.items() if value)
    text = f"{fields['method']} {fields['route']} {status} {fields['ms']:.0f} ms{more}{'' if whole else ' (broke off)'}"
    # One request is one line, whatever its path contains.
    text = "".join(character if character.isprintable() else "?" for character in text)
    logger.log(level, "%s", text, extra={"fields": fields})
