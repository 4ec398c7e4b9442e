"""Loads the agents that the command line names: whatever `adk web` loads."""

import asyncio
import importlib
import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dotenv import dotenv_values
from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.cli.service_registry import load_services_module
from google.adk.cli.utils.agent_loader import AgentLoader, is_single_agent_directory
from google.adk.models.google_llm import Gemini
from google.adk.models.registry import LLMRegistry
from google.adk.workflow import BaseNode

from adk_chat.agents.assistant import GEMINI_SETTINGS, assistant
from adk_chat.process.tracebacks import own_traceback

logger = logging.getLogger(__name__)

_ROOT = re.compile(r"\b(root_agent|app)\b")


class AgentError(Exception):
    """The agent cannot be used. The message says why."""


class Loaded(NamedTuple):
    """Apps, the default one first, and directory names that are aliases of app names."""

    apps: list[App]
    aliases: dict[str, str]


async def load(spec: str | None, model: str | None = None) -> Loaded:
    """Loads the directory of an agent, a directory of agents, or `package.module:attribute`.

    A directory follows ADK's convention: `agent.py` or `__init__.py` with `root_agent` or `app`, or `root_agent.yaml`,
    with an optional `.env` beside them and `services.py` or `services.yaml` in the directory above. Modules are
    imported while the event loop runs, as by ADK's server. One that runs a loop of its own is imported in a thread.

    Args:
        spec: the name; None for the default assistant.
        model: the assistant's model.

    Raises:
        AgentError: if nothing is there, it cannot be imported, or its model is unknown.
    """
    try:
        return _checked(spec, model)
    except AgentError as error:
        if "running event loop" not in str(error.__cause__):
            raise
    return await asyncio.to_thread(_checked, spec, model)


def _checked(spec: str | None, model: str | None) -> Loaded:
    try:
        loaded = Loaded([assistant(model)], {}) if spec is None else _load(spec)
        for app in loaded.apps:
            _check_models(app, alone=len(loaded.apps) == 1)
    except AgentError:
        raise
    except BaseException as error:  # importing a user's module may raise anything
        if _is_interrupted():
            raise
        raise AgentError(f"{spec or 'The assistant'} cannot be loaded.\n{own_traceback(error).strip()}") from error
    return loaded


def _is_interrupted() -> bool:
    """Returns whether the user pressed Ctrl-C, as opposed to an imported module that raised."""
    task = asyncio.current_task() if threading.current_thread() is threading.main_thread() else None
    return task is not None and task.cancelling() > 0


def _check_models(app: App, *, alone: bool) -> None:
    """Refuses the only app if it cannot answer at all. Logs which agents cannot.

    Raises:
        AgentError: if the only app cannot answer.
    """
    agents = [agent for agent in _agents(app.root_agent) if isinstance(agent, LlmAgent)]
    failed: dict[str, Exception] = {}
    for agent in agents:
        if isinstance(agent.model, str) and agent.model:
            try:
                _resolve(agent.name, agent.model)
            except Exception as why:  # a registered model class may raise anything
                failed[agent.name] = why
    # An agent that is not the root may never be called.
    if alone and failed and (len(failed) == len(agents) or getattr(app.root_agent, "name", None) in failed):
        raise next(iter(failed.values()))
    for name, failure in failed.items():
        logger.warning("%s cannot answer: %s", name if name == app.name else f"{name} of {app.name}", failure)


def _resolve(agent: str, model: str) -> None:
    kind = LLMRegistry.resolve(model)
    # Any class but ADK's own may find its key in another way, or need none.
    if kind is Gemini and not any(map(os.environ.get, GEMINI_SETTINGS)):
        raise AgentError(
            f"The agent {agent} uses {model}, and there is no key for it: set GOOGLE_API_KEY, or "
            "GOOGLE_GENAI_USE_VERTEXAI with GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION, or choose another model."
        )


def _load(spec: str) -> Loaded:
    directory = Path(spec)
    if directory.is_dir():
        named = directory.name not in ("", "..")  # a symbolic link keeps its own name
        return _load_directory(directory.parent.resolve() / directory.name if named else directory.resolve())
    module, colon, attribute = spec.partition(":")
    if not colon:
        raise AgentError(f"{spec} is neither a directory nor package.module:attribute.")
    sys.path.insert(0, str(Path.cwd()))
    found = getattr(importlib.import_module(module), attribute, None)
    if found is None:
        raise AgentError(f"{module} has no {attribute}.")
    return Loaded([_as_app(found, getattr(found, "name", attribute))], {})


def _load_directory(directory: Path) -> Loaded:
    package = directory / "__init__.py"
    known = is_single_agent_directory(directory)  # for a package, ADK's loader finds out when it loads it
    single = known or (package.is_file() and _ROOT.search(package.read_text()))
    above = directory.parent if single else directory
    load_services_module(str(above))
    # ADK's loader would follow a symbolic link and use the name of its target.
    loader = AgentLoader(str(directory if known and not directory.is_symlink() else above))
    names = [directory.name] if single else loader.list_agents()
    here = dotenv_values(Path(".env").absolute())  # an agent may change the directory
    found: dict[str, App] = {}
    for name in names:
        try:
            _prefer_env_of(above / name, here)
            found[name] = _as_app(loader.load_agent(name), name)
        except BaseException as error:
            if len(names) == 1 or _is_interrupted():
                raise
            logger.warning("%s cannot be loaded and is left out.\n%s", name, own_traceback(error).strip())
    apps: list[App] = []
    aliases: dict[str, str] = {}
    for name, app in found.items():
        others = {told for other in found if other != name for told in (other, found[other].name)}
        if app.name != name and app.name in others:
            logger.warning("The app of %s is called %s, as is another one. It is served as %s.", name, app.name, name)
            app = app.model_copy(update={"name": name})
        apps.append(app)
        if name != app.name:
            aliases[name] = app.name
    if not apps:
        raise AgentError(
            f"{directory} has no agent. Name a directory that has an agent.py, an __init__.py or a root_agent.yaml, "
            "with root_agent or app in it; or one that has such directories in it."
        )
    return Loaded(apps, aliases)


def _prefer_env_of(agent: Path, here: Mapping[str, str | None]) -> None:
    """Makes the agent's own `.env` override that of the current directory, `here`."""
    beside = dotenv_values(agent / ".env")
    for name in beside.keys() & here.keys():
        if os.environ.get(name) == here[name]:
            del os.environ[name]


def _as_app(found: object, name: str) -> App:
    if isinstance(found, App):
        return found
    if isinstance(found, BaseNode):
        return App(name=name, root_agent=found)
    raise AgentError(f"{name} is a {type(found).__name__}. It must be an ADK agent or App.")


def _agents(node: BaseNode | None) -> list[BaseNode]:
    if node is None:
        return []
    children = node.sub_agents if isinstance(node, BaseAgent) else []
    return [node, *(agent for child in children for agent in _agents(child))]
