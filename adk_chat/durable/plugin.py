"""`RestatePlugin`: the durability of this package for a Runner that a Restate handler of one's own runs."""

from typing import Any

import restate
from google.adk.agents.invocation_context import InvocationContext
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from pydantic import SecretStr
from typing_extensions import override

from adk_chat.durable import seams
from adk_chat.durable.journal import Journal
from adk_chat.durable.retry import RetryPolicy
from adk_chat.durable.sealed import Seal
from adk_chat.durable.services import make_durable


class RestatePlugin(BasePlugin):
    """Makes the model and tool calls of an ADK app durable when a Runner runs it inside a Restate handler.

    Takes the place of `restate.ext.adk.RestatePlugin`. As there, a session that does not exist is created by its first
    message. Outside a Restate handler the plugin does nothing.

    Args:
        run_options: how a model call that fails with a transient error is retried; by default 6 attempts in 2 minutes.
        credential_key: the secret that journaled credentials of users are encrypted with, 32 bytes or more; by default
            one of this process, so that a turn that goes on in another one asks for them again.

    Raises:
        ValueError: the key is too short.
    """

    def __init__(
        self, *, run_options: "restate.RunOptions[Any] | None" = None, credential_key: str | None = None
    ) -> None:
        from adk_chat.durable.install import install  # which imports this module

        super().__init__(name="restate_plugin")
        install()
        self.run_options = run_options
        self.seal = None if credential_key is None else _seal(credential_key)

    @override
    async def before_run_callback(self, *, invocation_context: InvocationContext) -> None:
        """Refuse `run_live` inside a Restate handler."""
        if seams.running_context() is not None and invocation_context.live_request_queue is not None:
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


async def _prepare(runner: Runner) -> None:
    plugins = runner.plugin_manager.plugins
    context = seams.running_context()
    plugin = next((plugin for plugin in plugins if isinstance(plugin, RestatePlugin)), None)
    if context is not None and plugin is not None:
        await Journal.open(context, RetryPolicy.of(plugin.run_options), seal=plugin.seal)
        runner.auto_create_session = True
    journal = Journal.current()
    if journal is not None:
        make_durable(runner)
        if journal.runs == 0:
            seams.forget_failures(plugins, f"e-{journal.id_prefix}")
        journal.runs += 1


def install() -> None:
    """Let durability see to each run of a Runner as it begins."""
    seams.before_run(_prepare)
