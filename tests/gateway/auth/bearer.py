"""Access control for tests: its settings, tokens, and an app that would answer everything."""

import time
from typing import Any

import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adk_chat.gateway.auth.control import guarded as guarded_by
from adk_chat.gateway.auth.tickets import Tickets
from adk_chat.gateway.auth.tokens import verifier
from adk_chat.settings import Settings
from tests.support import Json

SECRET = "a secret that is long enough to be one"
AUDIENCE = "chat"


def settings(**values: Any) -> Settings:
    return Settings(**{"auth_audience": AUDIENCE, **values})


def guarded(app: Any, settings: Settings) -> Any:
    return guarded_by(app, verifier(settings), Tickets())


def token(subject: str, key: Any = SECRET, algorithm: str = "HS256", headers: Json | None = None, **claims: Any) -> str:
    claims = {"sub": subject, "aud": AUDIENCE, "exp": time.time() + 60, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers)


def bearer(*args: Any, **values: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(*args, **values)}"}


async def echo(request: Request) -> Response:
    return JSONResponse({"path": request.url.path, "bytes": len(await request.body())})
