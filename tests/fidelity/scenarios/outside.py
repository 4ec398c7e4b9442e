"""External things: MCP servers and credentials."""

import sys
from pathlib import Path
from typing import Any

from fastapi.openapi.models import APIKey, APIKeyIn
from google.adk.agents.llm_agent import LlmAgent
from google.adk.auth.auth_credential import AuthCredential, AuthCredentialTypes
from google.adk.auth.auth_tool import AuthConfig
from google.adk.events.event import Event
from google.adk.tools.authenticated_function_tool import AuthenticatedFunctionTool
from google.adk.tools.mcp_tool.mcp_session_manager import StdioConnectionParams
from google.adk.tools.mcp_tool.mcp_toolset import McpToolset
from google.adk.tools.tool_context import ToolContext
from google.genai import types
from mcp import StdioServerParameters

from tests.fidelity import mcp_server
from tests.fidelity.run import executed
from tests.fidelity.scenario import Say, Scenario
from tests.fidelity.scenarios.tools import last_call
from tests.fidelity.script import call, parts, script

key = AuthConfig(
    auth_scheme=APIKey(**{"in": APIKeyIn.header, "name": "X-Key"}),
    raw_auth_credential=AuthCredential(auth_type=AuthCredentialTypes.API_KEY),
    credential_key="town",
)


async def enter(gate: str, credential: AuthCredential) -> dict[str, Any]:
    """Enter with a credential that ADK provides."""
    executed("enter", gate)
    return {"gate": gate, "with": credential.api_key}


async def knock(gate: str, tool_context: ToolContext) -> dict[str, Any]:
    """Enter with a credential that the tool asks for."""
    executed("knock", gate)
    credential = tool_context.get_auth_response(key)
    if credential is None:
        tool_context.request_credential(key)
        return {"status": "waiting"}
    return {"gate": gate, "with": credential.api_key}


def supply(events: list[Event]) -> list[types.Part]:
    """The user's answer to a request for a credential."""
    asked = last_call("adk_request_credential", events)
    config = AuthConfig.model_validate((asked.args or {})["authConfig"])
    config.exchanged_auth_credential = AuthCredential(auth_type=AuthCredentialTypes.API_KEY, api_key="secret")
    response = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    answer = types.FunctionResponse(id=asked.id, name="adk_request_credential", response=response)
    return [types.Part(function_response=answer)]


def town() -> McpToolset:
    """The local MCP server's tools."""
    server = StdioServerParameters(command=sys.executable, args=[str(Path(mcp_server.__file__))])
    return McpToolset(connection_params=StdioConnectionParams(server_params=server, timeout=20))


def agent(*answers: Any, tools: list[Any]) -> LlmAgent:
    """An agent with tools."""
    return LlmAgent(name="agent", model=script(*answers), tools=tools)


SCENARIOS = [
    Scenario(
        "an MCP toolset over stdio: two calls at once, and a tool that fails",
        agent(
            parts(call("population", city="Rome"), call("population", city="Ys")),
            "3 and 0",
            parts(call("fail", city="Ys")),
            "no",
            tools=[town()],
        ),
        ["a", "b"],
    ),
    Scenario(
        "a credential that the tool asks for",
        agent(parts(call("knock", gate="north")), "in", "inside", tools=[knock]),
        ["go", Say(parts=supply)],
    ),
    Scenario(
        "a credential that ADK sees to",
        agent(
            parts(call("enter", gate="north")),
            "in",
            "inside",
            tools=[AuthenticatedFunctionTool(func=enter, auth_config=key)],
        ),
        ["go", "again"],
    ),
]
