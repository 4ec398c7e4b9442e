"""What is secret is written sealed: neither the Restate UI nor a log shows it in the clear."""

import base64
import hashlib
import os

from cryptography.fernet import Fernet, InvalidToken
from google.adk.auth.auth_credential import AuthCredential
from pydantic import SecretStr

_key = Fernet(base64.urlsafe_b64encode(os.urandom(32)))
"""That of this process alone, unless there is one in the settings."""


def use(key: SecretStr) -> None:
    """Seal with that key from now on, in this process."""
    global _key
    digest = hashlib.sha256(key.get_secret_value().encode()).digest()
    _key = Fernet(base64.urlsafe_b64encode(digest))


def seal(credential: AuthCredential) -> str:
    """The credential as text that says nothing."""
    return _key.encrypt(credential.model_dump_json(exclude_none=True).encode()).decode()


def unseal(sealed: object) -> AuthCredential | None:
    """The credential; None if it was sealed with another key, or is none."""
    try:
        return AuthCredential.model_validate_json(_key.decrypt(str(sealed).encode()))
    except (InvalidToken, ValueError):
        return None
