"""The keys that verify tokens."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adk_chat.gateway.auth import tokens
from adk_chat.gateway.auth.tokens import AuthError
from tests.gateway.auth.bearer import AUDIENCE, SECRET, bearer, echo, guarded, settings
from tests.http_server import served
from tests.support import Json


def pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


RSA, OTHER_RSA = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
SESSIONS = "/apps/x/users/alice/sessions"


async def status(app: Any, headers: dict[str, str]) -> int:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get(SESSIONS, headers=headers)).status_code


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (RSA, "PS512"), (EC, "ES256"), (ED, "EdDSA")])
async def test_a_public_key_verifies_what_its_private_one_signed_and_no_more(key: Any, algorithm: str) -> None:
    app = guarded(Starlette(routes=[Route(SESSIONS, echo)]), settings(auth_key=pem(key), auth_issuer="me"))
    assert await status(app, bearer("alice", key, algorithm, iss="me")) == 200
    assert await status(app, bearer("bob", key, algorithm, iss="me")) == 403
    assert await status(app, bearer("alice", key, algorithm, iss="other")) == 401
    assert await status(app, bearer("alice", key, algorithm)) == 401
    assert await status(app, bearer("alice", OTHER_RSA, "RS256", iss="me")) == 401
    assert await status(app, bearer("alice", None, "none", iss="me")) == 401
    assert await status(app, forged(pem(key), iss="me")) == 401


def forged(public: str, **claims: Any) -> dict[str, str]:
    """A token signed by HMAC with a public key as the secret, which jwt.encode refuses to make."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    payload = {"sub": "alice", "aud": AUDIENCE, "exp": int(time.time()) + 60, **claims}
    signed = ".".join(part(json.dumps(value).encode()) for value in ({"alg": "HS256", "typ": "JWT"}, payload))
    signature = hmac.new(public.encode(), signed.encode(), hashlib.sha256).digest()
    return {"authorization": f"Bearer {signed}.{part(signature)}"}


class Issuer:
    """A JWKS endpoint."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"rsa": RSA, "ec": EC}
        self.asked = 0
        self.away = False

    async def __call__(self, request: Request) -> Response:
        self.asked += 1
        made = [
            {
                **json.loads(jwt.get_algorithm_by_name("RS256" if kid == "rsa" else "ES256").to_jwk(key.public_key())),
                "kid": kid,
                "use": "sig",
            }
            for kid, key in self.keys.items()
        ]
        secret = {"kty": "oct", "kid": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")}
        return JSONResponse({"keys": [*made, secret]}, status_code=500 if self.away else 200)


async def test_keys_of_a_jwks_endpoint_are_fetched_seldom_and_outlive_it() -> None:
    issuer = Issuer()
    issuer.away = True
    async with served(Starlette(routes=[Route("/jwks", issuer.__call__)])) as url:
        app = guarded(Starlette(routes=[Route(SESSIONS, echo)]), settings(auth_jwks_url=f"{url}/jwks"))
        good = bearer("alice", RSA, "RS256", {"kid": "rsa"})
        assert await status(app, good) == 503
        assert issuer.asked == 1

        issuer.away = False
        app = guarded(Starlette(routes=[Route(SESSIONS, echo)]), settings(auth_jwks_url=f"{url}/jwks"))
        assert await status(app, good) == 200
        assert await status(app, bearer("alice", EC, "ES256", {"kid": "ec"})) == 200
        assert await status(app, bearer("alice", OTHER_RSA, "RS256", {"kid": "rsa"})) == 401
        assert await status(app, bearer("alice", SECRET, "HS256", {"kid": "oct"})) == 401
        for kid in ("unknown", "other", None):
            assert await status(app, bearer("alice", RSA, "RS256", {"kid": kid} if kid else None)) == 401
        assert issuer.asked == 2
    assert await status(app, good) == 200


async def test_a_key_that_is_new_at_the_issuer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_PAUSE_SECONDS", 0)
    issuer = Issuer()
    async with served(Starlette(routes=[Route("/jwks", issuer.__call__)])) as url:
        app = guarded(Starlette(routes=[Route(SESSIONS, echo)]), settings(auth_jwks_url=f"{url}/jwks"))
        assert await status(app, bearer("alice", RSA, "RS256", {"kid": "rsa"})) == 200
        issuer.keys = {"rsa": OTHER_RSA, "ec": EC}
        monkeypatch.setattr(tokens, "_FRESH_SECONDS", 0)
        assert await status(app, bearer("alice", OTHER_RSA, "RS256", {"kid": "rsa"})) == 200
        assert await status(app, bearer("alice", RSA, "RS256", {"kid": "rsa"})) == 401


PRIVATE = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"auth_key": SECRET, "auth_audience": None}, "AUDIENCE is not set"),
        ({"auth_jwks_url": "https://issuer.example/jwks", "auth_audience": None}, "AUDIENCE is not set"),
        ({}, "no key"),
        ({"auth_key": SECRET, "auth_jwks_url": "https://issuer.example/jwks"}, "Both"),
        ({"auth_jwks_url": "file:///etc/passwd"}, "cannot be used"),
        ({"auth_key": "short"}, "guessed"),
        ({"auth_key": PRIVATE}, "not a readable public key"),
        ({"auth_key": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"}, "not a readable public key"),
        ({"auth_key": "".join(pem(RSA).splitlines()[1:-1])}, "not as PEM"),
        ({"auth_key": '{"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]}'}, "not as PEM"),
    ],
)
def test_settings_that_would_not_protect_are_refused(values: Json, sentence: str) -> None:
    with pytest.raises(AuthError, match=sentence):
        guarded(Starlette(), settings(**values))
