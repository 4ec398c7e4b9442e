"""`RestatePlugin`: makes a Runner durable that a Restate handler of your own runs."""

from typing import Any

import restate
from google.adk.agents.invocation_context import InvocationContext
from pydantic import SecretStr
from typing_extensions import override

from adk_chat.durable.adk.run import DurablePlugin
from adk_chat.durable.adk.sealed import Seal
from adk_chat.durable.journal.seams import running_context
from adk_chat.durable.patches import install


class RestatePlugin(DurablePlugin):
    """Makes the model and tool calls of an ADK app durable when a Runner runs it inside a Restate handler.

    It replaces `restate.ext.adk.RestatePlugin`. As there, a message to a session that does not exist creates the
    session. Outside a Restate handler the plugin does nothing.

    Args:
        run_options: how a model call that fails with a transient error is retried; by default 6 attempts in 2 minutes.
        credential_key: the secret that encrypts journaled credentials of users, 32 bytes or more. By default each
            process has its own, so a turn that continues in another process asks for them again.

    Raises:
        ValueError: if the key is too short.
    """

    def __init__(
        self, *, run_options: "restate.RunOptions[Any] | None" = None, credential_key: str | None = None
    ) -> None:
        super().__init__(name="restate_plugin")
        install()
        self.run_options = run_options
        self.seal = None if credential_key is None else _seal(credential_key)

    @override
    async def before_run_callback(self, *, invocation_context: InvocationContext) -> None:
        """Refuses `run_live` inside a Restate handler.

        Raises:
            restate.TerminalError: 400, for `run_live`.
        """
        if running_context() is not None and invocation_context.live_request_queue is not None:
            raise restate.TerminalError(
                "run_live was called in a Restate handler, where it cannot be durable: it needs a connection that "
                "lives as long as the conversation. Call run_async, or run_live outside Restate.",
                400,
            )


def _seal(key: str) -> Seal:
    try:
        return Seal(SecretStr(key))
    except ValueError as error:
        raise ValueError(f"RestatePlugin: credential_key {error}") from None
