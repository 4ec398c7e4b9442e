"""Loading the agent that the command line names."""

import importlib
import os
import sys
from pathlib import Path

from google.adk.agents.base_agent import BaseAgent
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.cli.utils.agent_loader import AgentLoader, is_single_agent_directory
from google.adk.models.google_llm import Gemini
from google.adk.models.registry import LLMRegistry
from google.adk.workflow import BaseNode

from adk_chat.agents.assistant import GEMINI_SETTINGS, assistant
from adk_chat.failures import own_traceback


class AgentError(Exception):
    """The agent cannot be used; the message says why."""


def load_app(spec: str | None, model: str | None = None) -> App:
    """The app that `spec` names: a directory by ADK's convention, or `package.module:attribute`.

    Args:
        spec: the name; None for the default assistant.
        model: the assistant's model.

    Raises:
        AgentError: there is nothing there, it does not import, or its model is not known.
    """
    try:
        app = assistant(model) if spec is None else _load(spec)
        for agent in _agents(app.root_agent):
            if isinstance(agent, LlmAgent) and isinstance(agent.model, str) and agent.model:
                _resolve(agent.name, agent.model)
    except AgentError:
        raise
    except Exception as error:  # whatever somebody else's module does when it is imported
        raise AgentError(f"{spec or 'The assistant'} cannot be loaded.\n{own_traceback(error).strip()}") from error
    return app


def _resolve(agent: str, model: str) -> None:
    kind = LLMRegistry.resolve(model)
    # Anything else than ADK's own class may have a key, or none, in a way of its own.
    if kind is Gemini and not any(map(os.environ.get, GEMINI_SETTINGS)):
        raise AgentError(
            f"The agent {agent} uses {model}, and there is no key for it: set GOOGLE_API_KEY, or "
            "GOOGLE_GENAI_USE_VERTEXAI with GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION, or choose another model."
        )


def _load(spec: str) -> App:
    directory = Path(spec)
    if directory.is_dir():
        if not is_single_agent_directory(directory):
            raise AgentError(f"{spec} has no agent.py. Name a directory that has one, with root_agent or app in it.")
        return _as_app(AgentLoader(str(directory)).load_agent(directory.resolve().name), directory.resolve().name)
    module, colon, attribute = spec.partition(":")
    if not colon:
        raise AgentError(f"{spec} is neither a directory nor package.module:attribute.")
    sys.path.insert(0, str(Path.cwd()))
    found = getattr(importlib.import_module(module), attribute, None)
    if found is None:
        raise AgentError(f"{module} has no {attribute}.")
    return _as_app(found, getattr(found, "name", attribute))


def _as_app(found: object, name: str) -> App:
    if isinstance(found, App):
        return found
    if isinstance(found, BaseNode):
        return App(name=name, root_agent=found)
    raise AgentError(f"{name} is a {type(found).__name__}; it must be an agent or an App of ADK.")


def _agents(node: BaseNode | None) -> list[BaseNode]:
    if node is None:
        return []
    children = node.sub_agents if isinstance(node, BaseAgent) else []
    return [node, *(agent for child in children for agent in _agents(child))]
