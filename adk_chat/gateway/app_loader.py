"""The apps of the gateway, which ADK's server loads by name."""

from collections.abc import Mapping
from typing import Any

from google.adk.apps.app import App
from google.adk.cli.utils.base_agent_loader import BaseAgentLoader
from google.adk.tools.computer_use.computer_use_toolset import ComputerUseToolset
from typing_extensions import override


class Apps(BaseAgentLoader):
    """Apps that are loaded already.

    Args:
        apps: the apps, by name.
        aliases: aliases, with the names of their apps. An app with an alias is listed under it.
    """

    def __init__(self, apps: Mapping[str, App], aliases: Mapping[str, str] | None = None) -> None:
        self._aliases = aliases or {}
        listed = {name: alias for alias, name in self._aliases.items()}
        self._apps = {listed.get(name, name): app for name, app in apps.items()}
        self._names = {**apps, **self._apps}

    @override
    def load_agent(self, agent_name: str) -> App:
        app = self._names.get(agent_name)
        if app is None:
            raise ValueError(f"There is no app {agent_name!r}. The apps are: {', '.join(self._apps)}.")
        return app

    @override
    def list_agents(self) -> list[str]:
        return sorted(self._apps)

    @override
    def list_agents_detailed(self) -> list[dict[str, Any]]:
        return [_described(name, self._apps[name]) for name in self.list_agents()]


def _described(name: str, app: App) -> dict[str, Any]:
    agent = app.root_agent
    return {
        "name": name,
        "root_agent_name": getattr(agent, "name", name),
        "description": getattr(agent, "description", ""),
        "language": "python",
        "is_computer_use": any(isinstance(tool, ComputerUseToolset) for tool in getattr(agent, "tools", [])),
    }
