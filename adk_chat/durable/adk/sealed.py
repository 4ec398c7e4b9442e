"""What is secret is written sealed: neither the Restate UI nor a log shows it in the clear."""

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
        key: the secret, of 32 bytes or more; by default one of this process alone, so that no other can read them.

    Raises:
        ValueError: the key is so short that it can be guessed.
    """

    def __init__(self, key: SecretStr | None = None) -> None:
        secret = os.urandom(32) if key is None else key.get_secret_value().encode()
        if len(secret) < _LEAST_BYTES:
            raise ValueError(f"is shorter than {_LEAST_BYTES} bytes: a key so short can be guessed.")
        self._fernet = Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret).digest()))

    def seal(self, credential: AuthCredential) -> str:
        """The credential as text that says nothing."""
        return self._fernet.encrypt(credential.model_dump_json(exclude_none=True).encode()).decode()

    def unseal(self, sealed: object) -> AuthCredential | None:
        """The credential; None if it was sealed with another key, or is none."""
        try:
            return AuthCredential.model_validate_json(self._fernet.decrypt(str(sealed).encode()))
        except (InvalidToken, ValueError):
            return None


_seal: ContextVar[Seal] = ContextVar("adk_chat_seal", default=Seal())  # noqa: B039 - it is never changed


def enter(seal: Seal) -> None:
    """Let what runs in the current context, and is made there, use that one."""
    _seal.set(seal)


def current_seal() -> Seal:
    """That of the service whose turn runs here; outside one, one of this process."""
    return _seal.get()
