"""The beginning of a run of a Runner: its journal is opened, and its services become durable."""

import random
import time
import uuid
from typing import Any

import restate
from google.adk import platform
from google.adk.platform import time as platform_time
from google.adk.platform import uuid as platform_uuid
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner

from adk_chat.durable.adk import sealed, seams
from adk_chat.durable.adk.sealed import Seal, current_seal
from adk_chat.durable.adk.services import make_durable
from adk_chat.durable.journal.journal import Journal, JournalOptions
from adk_chat.durable.journal.retry import RetryPolicy
from adk_chat.durable.journal.seams import running_context

_any_random = random.Random()


class DurablePlugin(BasePlugin):
    """A plugin whose presence makes the runs of a Runner durable inside a Restate handler."""

    run_options: "restate.RunOptions[Any] | None" = None
    """How a model call that fails with a transient error is retried."""
    seal: Seal | None = None
    """Encrypts journaled credentials; None for a key of this process."""


async def open_journal(context: restate.Context, options: JournalOptions, seal: Seal | None = None) -> Journal:
    """Opens the journal of `context` for ADK: ids, times and random numbers come from it, and `seal` encrypts in it.

    Raises what `Journal.open` raises.
    """
    seal = seal or current_seal()

    def enter() -> None:
        platform_uuid.set_id_provider(_new_id)
        platform_time.set_time_provider(_time)
        platform.set_random_provider(_random)
        sealed.enter(seal)

    return await Journal.open(context, options, enter)


def prepared_runs(get_session: Any) -> Any:
    """Makes `Runner._get_or_create_session`, with which each run begins, prepare the run first."""

    async def prepare_and_get_session(self: Runner, **arguments: Any) -> Any:
        await _prepare(self)
        return await get_session(self, **arguments)

    return prepare_and_get_session


async def _prepare(runner: Runner) -> None:
    plugins = runner.plugin_manager.plugins
    context = running_context()
    plugin = next((plugin for plugin in plugins if isinstance(plugin, DurablePlugin)), None)
    if context is not None and plugin is not None:
        await open_journal(context, JournalOptions(RetryPolicy.of(plugin.run_options)), plugin.seal)
        runner.auto_create_session = True
    journal = Journal.current()
    if journal is not None:
        make_durable(runner)
        if journal.runs == 0:
            seams.forget_failures(plugins, f"e-{journal.id_prefix}")
        journal.runs += 1


def _new_id() -> str:
    journal = Journal.current()
    return str(uuid.uuid4()) if journal is None else journal.new_id()


def _random() -> random.Random:
    journal = Journal.current()
    return _any_random if journal is None else journal.random()


def _time() -> float:
    journal = Journal.current()
    return time.time() if journal is None else journal.time()
