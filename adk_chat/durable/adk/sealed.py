"""Encryption of credentials, so that neither the Restate UI nor a log shows them."""

import base64
import hashlib
import os
from contextvars import ContextVar

from cryptography.fernet import Fernet, InvalidToken
from google.adk.auth.auth_credential import AuthCredential
from pydantic import SecretStr

_LEAST_BYTES = 32


class Seal:
    """Encrypts credentials.

    Args:
        key: the secret, 32 bytes or more; by default a random one, so that no other process can decrypt them.

    Raises:
        ValueError: if the key is too short.
    """

    def __init__(self, key: SecretStr | None = None) -> None:
        secret = os.urandom(32) if key is None else key.get_secret_value().encode()
        if len(secret) < _LEAST_BYTES:
            raise ValueError(f"is shorter than {_LEAST_BYTES} bytes: a key so short can be guessed.")
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret).digest()))

    def seal(self, credential: AuthCredential) -> str:
        """Returns the encrypted credential."""
        return self._fernet.encrypt(credential.model_dump_json(exclude_none=True).encode()).decode()

    def unseal(self, sealed: object) -> AuthCredential | None:
        """Returns the decrypted credential; None if it was encrypted with another key."""
        try:
            return AuthCredential.model_validate_json(self._fernet.decrypt(str(sealed).encode()))
        except (InvalidToken, ValueError):
            return None


_seal: ContextVar[Seal] = ContextVar("adk_chat_seal", default=Seal())  # noqa: B039 - it is never changed


def enter(seal: Seal) -> None:
    """Uses a seal in the current context and in contexts copied from it."""
    _seal.set(seal)


def current_seal() -> Seal:
    """Returns the seal of the service whose turn is running, or a seal of this process."""
    return _seal.get()
