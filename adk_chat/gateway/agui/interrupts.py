"""What an agent waits for from its user, as AG-UI's interrupts: approvals, credentials, answers to questions."""

import copy
from dataclasses import dataclass
from typing import Any

from ag_ui.core import Interrupt
from pydantic_core import from_json

from adk_chat.gateway.turns import RefusedError
from adk_chat.protocol.json import Json

CONFIRMATION, CREDENTIAL, INPUT = "adk_request_confirmation", "adk_request_credential", "adk_request_input"
_KINDS = {CONFIRMATION, CREDENTIAL, INPUT}
_APPROVAL: Json = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "payload": {}},
    "required": ["approved"],
}
_YES = {"approve", "approved", "accept", "accepted", "confirm", "confirmed", "yes", "ok", "true"}
_NO = {"reject", "rejected", "deny", "denied", "decline", "declined", "cancel", "cancelled", "canceled", "no", "false"}
_DECISIONS = ("approved", "confirmed", "accepted")


@dataclass(frozen=True)
class Question:
    """A call of ADK's own that the user has to answer."""

    id: str
    name: str
    args: Json
    invocation_id: str

    @property
    def call_id(self) -> str | None:
        """The tool call that waits for the answer."""
        if self.name == CONFIRMATION:
            return _string(self.args.get("originalFunctionCall", {}).get("id"))
        return _string(self.args.get("functionCallId")) if self.name == CREDENTIAL else None

    @property
    def tool(self) -> str | None:
        """The name of the tool whose call waits for an approval."""
        if self.name != CONFIRMATION:
            return None
        return _string(self.args.get("originalFunctionCall", {}).get("name"))

    def interrupt(self) -> Interrupt:
        """Returns it as an interrupt. An answer is described by its schema."""
        if self.name == CONFIRMATION:
            call, asked = self.args.get("originalFunctionCall", {}), self.args.get("toolConfirmation", {})
            metadata = {"adk": {"toolCall": {name: call.get(name) for name in ("name", "args")}}}
            if asked.get("payload") is not None:
                metadata["adk"]["payload"] = asked["payload"]
            message = asked.get("hint") or f"Do you approve the call of {call.get('name')}?"
            return Interrupt(
                id=self.id,
                reason="tool_call",
                message=message,
                tool_call_id=self.call_id,
                response_schema=_APPROVAL,
                metadata=metadata,
            )
        if self.name == CREDENTIAL:
            return Interrupt(
                id=self.id,
                reason="adk:credential",
                message="A tool needs your consent, or a credential.",
                tool_call_id=self.call_id,
                metadata={"adk": {"authUri": self._auth_uri()}},
            )
        schema = self.args.get("responseSchema") or self.args.get("response_schema")
        payload = self.args.get("payload")
        return Interrupt(
            id=self.id,
            reason="input_required",
            message=_string(self.args.get("message")),
            response_schema=schema if isinstance(schema, dict) else None,
            metadata=None if payload is None else {"adk": {"payload": payload}},
        )

    def answer(self, payload: Any, *, cancelled: bool = False) -> Json:
        """Returns the response to the call.

        Raises:
            RefusedError: 400, if the payload is not an answer to it.
        """
        if self.name == CONFIRMATION:
            return {"confirmed": False} if cancelled else self._decision(payload)
        if cancelled:
            return {"error": "The user did not answer."}
        if self.name == CREDENTIAL:
            return self._credential(payload)
        return payload if isinstance(payload, dict) else {"result": payload}

    def _decision(self, payload: Any) -> Json:
        given = payload if isinstance(payload, dict) else {"approved": payload}
        decided = next((given[name] for name in _DECISIONS if name in given), None)
        if isinstance(decided, str) and decided.strip().lower() in _YES | _NO:
            decided = decided.strip().lower() in _YES
        if not isinstance(decided, bool):
            raise RefusedError(400, f'The answer to {self.id} must say {{"approved": true}} or {{"approved": false}}.')
        return {"confirmed": decided, **({"payload": given["payload"]} if given.get("payload") is not None else {})}

    def _credential(self, payload: Any) -> Json:
        config: Json = copy.deepcopy(self.args.get("authConfig", {}))
        given = {"apiKey": payload} if isinstance(payload, str) else payload
        if not isinstance(given, dict):
            raise RefusedError(400, f'The answer to {self.id} must be an object, such as {{"authResponseUri": "..."}}.')
        if "exchangedAuthCredential" in given or "exchanged_auth_credential" in given:
            return given
        if "apiKey" in given:
            config["exchangedAuthCredential"] = {"authType": "apiKey", "apiKey": given["apiKey"]}
            return config
        oauth2 = config.setdefault("exchangedAuthCredential", {}).setdefault("oauth2", {})
        oauth2.update({name: given[name] for name in ("authResponseUri", "redirectUri", "authCode") if name in given})
        return config

    def _auth_uri(self) -> str | None:
        exchanged = self.args.get("authConfig", {}).get("exchangedAuthCredential") or {}
        return _string((exchanged.get("oauth2") or {}).get("authUri"))


def question_of(call: Json, invocation_id: str) -> Question | None:
    """Returns the question in a function call; None if it is a call of a tool."""
    if call.get("name") not in _KINDS or "id" not in call:
        return None
    return Question(call["id"], call["name"], call.get("args") or {}, invocation_id)


def parsed_content(content: str) -> Any:
    """Returns the value in the content of a tool message: JSON, or else the text itself."""
    try:
        return from_json(content)
    except ValueError:
        return content


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None
