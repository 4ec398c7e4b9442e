"""Credentials that users have granted: stored encrypted with the user, and exchanged once."""

from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.auth.auth_credential import AuthCredential
from google.adk.auth.auth_schemes import AuthScheme
from google.adk.auth.auth_tool import AuthConfig
from google.adk.auth.credential_service.base_credential_service import BaseCredentialService
from google.adk.auth.exchanger.base_credential_exchanger import ExchangeResult
from google.adk.auth.exchanger.oauth2_credential_exchanger import OAuth2CredentialExchanger
from google.adk.auth.refresher.oauth2_credential_refresher import OAuth2CredentialRefresher
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.state import State
from typing_extensions import override

from adk_chat.durable.adk.run_once import run_once
from adk_chat.durable.adk.sealed import Seal, current_seal
from adk_chat.durable.journal.keys import digest

_PREFIX = f"{State.USER_PREFIX}credential:"


class UserCredentials(BaseCredentialService):
    """ADK's credential service in the `user:` state, encrypted: a user consents once for all sessions of the app.

    A credential is stored with the event of the tool that saved it. That of a toolset gets an event of its own, because
    ADK saves it without one. A credential that was encrypted with another key is ignored, and the user is asked again.

    Args:
        seal: encrypts the credentials.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    @override
    async def load_credential(
        self, auth_config: AuthConfig, callback_context: CallbackContext
    ) -> AuthCredential | None:
        return self._seal.unseal(callback_context.state.get(f"{_PREFIX}{auth_config.credential_key}"))

    @override
    async def save_credential(self, auth_config: AuthConfig, callback_context: CallbackContext) -> None:
        if auth_config.exchanged_auth_credential is None:
            return
        key, sealed = f"{_PREFIX}{auth_config.credential_key}", self._seal.seal(auth_config.exchanged_auth_credential)
        callback_context.state[key] = sealed
        if callback_context.function_call_id is None:
            invocation = callback_context.get_invocation_context()
            actions = EventActions(state_delta={key: sealed})
            event = Event(invocation_id=invocation.invocation_id, author="user", actions=actions)
            await invocation.session_service.append_event(invocation.session, event)


def exchange_once(exchange: Any) -> Any:
    """Makes `OAuth2CredentialExchanger.exchange` a step: an authorization code is redeemed once."""

    async def exchange_or_replay(
        self: OAuth2CredentialExchanger, auth_credential: AuthCredential, auth_scheme: AuthScheme | None = None
    ) -> ExchangeResult:
        async def make() -> ExchangeResult:
            made: ExchangeResult = await exchange(self, auth_credential, auth_scheme)
            return made

        def dump(made: ExchangeResult) -> list[object]:
            return [current_seal().seal(made.credential), made.was_exchanged]

        def load(kept: tuple[str, bool]) -> ExchangeResult | None:
            credential = current_seal().unseal(kept[0])
            return None if credential is None else ExchangeResult(credential, kept[1])

        found: ExchangeResult | None = await run_once("exchange credential", _about(auth_credential), make, dump, load)
        return found or await make()  # it was sealed with another key

    return exchange_or_replay


def refresh_once(refresh: Any) -> Any:
    """Makes `OAuth2CredentialRefresher.refresh` a step: a token is refreshed once."""

    async def refresh_or_replay(
        self: OAuth2CredentialRefresher, auth_credential: AuthCredential, auth_scheme: AuthScheme | None = None
    ) -> AuthCredential:
        async def make() -> AuthCredential:
            made: AuthCredential = await refresh(self, auth_credential, auth_scheme)
            return made

        seal = current_seal()
        about = _about(auth_credential)
        found: AuthCredential | None = await run_once("refresh credential", about, make, seal.seal, seal.unseal)
        return found or await make()

    return refresh_or_replay


def _about(credential: AuthCredential) -> str:
    return digest(credential.model_dump_json(exclude_none=True))
