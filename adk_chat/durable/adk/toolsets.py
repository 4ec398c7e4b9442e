"""The tools that a toolset lists for a model call stay the same on a replay.

So an MCP server that is down changes nothing that has happened: finished calls are recorded. A call that is not
recorded is made as usual, and fails as usual.
"""

from typing import Any

from google.adk.agents.readonly_context import ReadonlyContext
from google.adk.models.llm_request import LlmRequest
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.base_toolset import BaseToolset
from google.adk.tools.tool_context import ToolContext
from pydantic import BaseModel
from typing_extensions import override

from adk_chat.durable.adk.errors import ErrorRecord
from adk_chat.durable.journal import keys
from adk_chat.durable.journal.journal import Journal
from adk_chat.durable.journal.keys import Key


class _Listing(BaseModel):
    """A list of tools in the journal: their names, and whether they are long-running; or the error."""

    tools: dict[str, bool] = {}
    error: ErrorRecord | None = None


class AbsentTool(BaseTool):
    """A tool that was listed when the model was called, and is not listed on the replay."""

    def __init__(self, name: str, *, is_long_running: bool, toolset: str) -> None:
        super().__init__(name=name, description="", is_long_running=is_long_running)
        self._toolset = toolset

    def absence(self) -> RuntimeError:
        """Returns the error of any use of it."""
        return RuntimeError(
            f"{self._toolset} listed the tool {self.name} when the turn first used it, and no longer does."
        )

    @override
    async def process_llm_request(self, *, tool_context: ToolContext, llm_request: LlmRequest) -> None:
        llm_request.tools_dict[self.name] = self

    @override
    async def run_async(self, *, args: dict[str, Any], tool_context: ToolContext) -> Any:
        raise self.absence()


def listed_as_before(list_tools: Any) -> Any:
    """Makes `BaseToolset.get_tools_with_prefix` list the tools that an earlier attempt has seen."""

    async def list_or_replay(self: BaseToolset, readonly_context: ReadonlyContext | None = None) -> list[BaseTool]:
        found: list[BaseTool] = []
        problem: Exception | None = None
        try:
            found = await list_tools(self, readonly_context)
        except Exception as error:
            problem = error
        journal = Journal.current()
        if journal is None:
            if problem is not None:
                raise problem
            return found
        if journal.pump.over is not None:
            raise journal.pump.over
        toolset = type(self).__name__
        made = _Listing(
            tools={tool.name: tool.is_long_running for tool in found},
            error=None if problem is None else ErrorRecord.of(problem),
        )
        key = Key(f"tools of {toolset}", keys.current_path())
        kept = _Listing.model_validate_json(
            journal.record_here(key, made.model_dump_json(exclude_defaults=True).encode)
        )
        if kept.error is not None:
            raise problem or kept.error.rebuild()
        if kept.tools == made.tools and problem is None:
            return found
        there = {tool.name: tool for tool in found}
        return [
            there.get(name) or AbsentTool(name, is_long_running=long, toolset=toolset)
            for name, long in kept.tools.items()
        ]

    return list_or_replay
