"""Bearer tokens, and the keys that verify them."""

import asyncio
import base64
import binascii
import logging
import math
import time
from typing import Any, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from adk_chat.settings import Settings

_logger = logging.getLogger(__name__)

_RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
_EC = ["ES256", "ES384", "ES512"]
_ED = ["EdDSA"]
_SECRET = ["HS256", "HS384", "HS512"]

_SECRET_BYTES = 32
_LEEWAY_SECONDS = 10
_FETCH_SECONDS = 5
_FRESH_SECONDS = 300
_PAUSE_SECONDS = 10
_STALE_SECONDS = 3600


class AuthError(Exception):
    """The settings of access control are invalid. Nothing should be served with them."""


class TokenError(Exception):
    """The token is invalid."""


class KeysError(Exception):
    """The signing keys are unavailable."""


class Verifier:
    """Verifies tokens for one audience."""

    def __init__(self, keys: "_Keys", audience: str, issuer: str | None) -> None:
        self._keys = keys
        self._audience = audience
        self._issuer = issuer

    async def subject(self, token: str) -> str:
        """Returns the subject of a token.

        Raises:
            TokenError: if it is expired, malformed, for another audience, or not signed with a trusted key.
            KeysError: if the signing keys are unavailable.
        """
        try:
            key, algorithms = await self._keys.find(jwt.get_unverified_header(token).get("kid"))
            claims = jwt.decode(
                token,
                key,
                algorithms,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "sub", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise TokenError("The token has expired. Get a new one.") from None
        except jwt.PyJWTError as error:
            raise TokenError(f"The token is invalid: {str(error).rstrip('.')}.") from None
        if not claims["sub"]:
            raise TokenError("The token has no subject.")
        return str(claims["sub"])


def verifier(settings: Settings) -> Verifier | None:
    """Returns the verifier that the settings describe; None if they require no tokens.

    Raises:
        AuthError: if they are incomplete, contradictory, or would not protect anything.
    """
    key = settings.auth_key.get_secret_value() if settings.auth_key else None
    url = settings.auth_jwks_url
    if not key and not url:
        if settings.auth_audience or settings.auth_issuer:
            raise AuthError("An auth audience or issuer is set, but no key: set ADK_CHAT_AUTH_JWKS_URL or _AUTH_KEY.")
        return None
    if key and url:
        raise AuthError("Both ADK_CHAT_AUTH_JWKS_URL and ADK_CHAT_AUTH_KEY are set: choose one.")
    if not settings.auth_audience:
        raise AuthError(
            "ADK_CHAT_AUTH_AUDIENCE is not set, so a token for any other service of that issuer would open this one: "
            "set it to the audience that your tokens have."
        )
    keys = _Jwks(url) if url else _Fixed(key or "")
    return Verifier(keys, settings.auth_audience, settings.auth_issuer)


class _Keys(Protocol):
    async def find(self, kid: str | None) -> tuple[Any, list[str]]:
        """Returns the key with that id, and the algorithms that are safe with it."""


class _Fixed:
    """A single key: a public key as PEM, otherwise a secret."""

    def __init__(self, text: str) -> None:
        if "-----BEGIN" in text:
            self._key, self._algorithms = _public(text)
        else:
            self._key, self._algorithms = _secret(text), _SECRET

    async def find(self, kid: str | None) -> tuple[Any, list[str]]:
        return self._key, self._algorithms


class _Jwks:
    """The keys of a JWKS endpoint. An unknown key id triggers a new fetch, at most every few seconds.

    While the endpoint is unreachable, the known keys remain valid for an hour.
    """

    def __init__(self, url: str) -> None:
        try:
            self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=_FETCH_SECONDS)
        except jwt.PyJWTError as error:
            raise AuthError(f"ADK_CHAT_AUTH_JWKS_URL {url!r} cannot be used: {error}") from error
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = -math.inf
        self._fetching = asyncio.Lock()

    async def find(self, kid: str | None) -> tuple[Any, list[str]]:
        if kid not in self._keys or (not self._cooling() and _since(self._fetched) > _FRESH_SECONDS):
            async with self._fetching:
                if not self._cooling():
                    await self._fetch()
        if kid in self._keys and _since(self._fetched) < _STALE_SECONDS:
            key = self._keys[kid].key
            return key, _algorithms(key)
        if self._fetched < self._tried:
            raise KeysError("The signing keys are unavailable. Try again in a minute.")
        raise TokenError("The token is signed with an unknown key.")

    def _cooling(self) -> bool:
        return _since(self._tried) < _PAUSE_SECONDS

    async def _fetch(self) -> None:
        self._tried = time.monotonic()
        try:
            keys = await asyncio.to_thread(self._client.get_signing_keys)
        except (jwt.PyJWTError, OSError, ValueError) as error:
            _logger.warning("The signing keys cannot be fetched from %s: %s", self._client.uri, error)
        else:
            self._keys = {key.key_id: key for key in keys if key.key_id}
            self._fetched = time.monotonic()


def _since(moment: float) -> float:
    return time.monotonic() - moment


def _algorithms(key: Any) -> list[str]:
    """Returns the algorithms of a public key's type; none for anything else, such as a published secret."""
    if isinstance(key, RSAPublicKey):
        return _RSA
    if isinstance(key, EllipticCurvePublicKey):
        return _EC
    return _ED if isinstance(key, Ed25519PublicKey | Ed448PublicKey) else []


def _public(text: str) -> tuple[Any, list[str]]:
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthError("ADK_CHAT_AUTH_KEY looks like PEM, but is not a readable public key.") from error
    if not (algorithms := _algorithms(key)):
        raise AuthError("ADK_CHAT_AUTH_KEY is of a kind that cannot sign tokens: use RSA, EC or Ed25519.")
    return key, algorithms


def _secret(text: str) -> bytes:
    """Returns a secret. Refuses public keys: if one were used as a secret, everybody could sign."""
    secret = text.encode()
    if len(secret) < _SECRET_BYTES:
        raise AuthError(f"ADK_CHAT_AUTH_KEY is shorter than {_SECRET_BYTES} bytes: a secret so short can be guessed.")
    if _is_public(text):
        raise AuthError("ADK_CHAT_AUTH_KEY is a public key, but not as PEM: put it between its BEGIN and END lines.")
    return secret


def _is_public(text: str) -> bool:
    if text.lstrip().startswith(("{", "ssh-", "ecdsa-", "http://", "https://")):
        return True
    try:
        load_der_public_key(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        return False
    return True
