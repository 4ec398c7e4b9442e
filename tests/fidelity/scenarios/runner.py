"""Arguments of the Runner and the App."""

from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.agents.context_cache_config import ContextCacheConfig
from google.adk.agents.llm_agent import LlmAgent
from google.adk.agents.sequential_agent import SequentialAgent
from google.adk.apps.app import App, EventsCompactionConfig, ResumabilityConfig
from google.adk.apps.llm_event_summarizer import LlmEventSummarizer
from google.adk.plugins.reflect_retry_tool_plugin import ReflectAndRetryToolPlugin
from google.adk.plugins.save_files_as_artifacts_plugin import SaveFilesAsArtifactsPlugin
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.load_memory_tool import load_memory_tool
from google.adk.tools.long_running_tool import LongRunningFunctionTool
from google.adk.tools.preload_memory_tool import preload_memory_tool
from google.genai import types

from tests.fidelity.run import called
from tests.fidelity.scenario import Say, Scenario
from tests.fidelity.scenarios.tools import answering, begin, broken, confirm, confirmed_tool, slow, spending, write
from tests.fidelity.script import call, parts, say, script


def agent(*answers: Any, **attributes: Any) -> LlmAgent:
    """An agent of one scripted model."""
    return LlmAgent(name="agent", model=script(*answers), **attributes)


def app(name: str, root: Any, **attributes: Any) -> App:
    """An app with more than an agent."""
    return App(name=name, root_agent=root, **attributes)


async def keep(callback_context: CallbackContext) -> None:
    """Keep the session in memory."""
    called("keep")
    await callback_context.add_session_to_memory()


def upload(events: object) -> list[types.Part]:
    """A file that the user sends along."""
    return [types.Part(inline_data=types.Blob(mime_type="text/plain", data=b"a file", display_name="a.txt"))]


calling = parts(call("slow", name="a"))
counted = types.GenerateContentResponseUsageMetadata(prompt_token_count=500)

SCENARIOS = [
    Scenario(
        "state_delta", agent("a", "b"), [Say("x", state_delta={"k": 1, "user:k": 2, "app:k": 3, "temp:k": 4}), "y"]
    ),
    Scenario(
        "max_llm_calls reached",
        agent(*[calling] * 5, tools=[slow]),
        [Say("go", run_config={"max_llm_calls": 2}), "again"],
        fails=True,
    ),
    Scenario(
        "get_session_config",
        agent("a", "b", "c"),
        ["1", "2", Say("3", run_config={"get_session_config": {"num_recent_events": 1}})],
    ),
    Scenario(
        "custom metadata", agent("a", "b"), [Say("x", run_config={"custom_metadata": {"trace": "t-1", "n": [1]}}), "y"]
    ),
    Scenario("a file from the user", agent("a", "b"), [Say("look", parts=upload), "y"]),
    Scenario(
        "input blobs saved as artifacts",
        agent("a", "b"),
        [Say("look", parts=upload, run_config={"save_input_blobs_as_artifacts": True}), "y"],
    ),
    Scenario(
        "files saved by the plugin",
        app("files_by_plugin", agent("a", "b"), plugins=[SaveFilesAsArtifactsPlugin()]),
        [Say("look", parts=upload), "y"],
    ),
    Scenario(
        "compaction by interval",
        app(
            "compaction_by_interval",
            agent("a", "b", "c", "d"),
            events_compaction_config=EventsCompactionConfig(
                compaction_interval=2,
                overlap_size=1,
                summarizer=LlmEventSummarizer(llm=script("summary 1", "summary 2", name="events")),
            ),
        ),
        ["1", "2", "3", "4"],
    ),
    Scenario(
        "compaction by tokens",
        app(
            "compaction_by_tokens",
            agent(*(say(f"answer {n}", usage_metadata=counted) for n in range(6))),
            events_compaction_config=EventsCompactionConfig(
                token_threshold=100,
                event_retention_size=2,
                compaction_interval=100,
                overlap_size=0,
                summarizer=LlmEventSummarizer(llm=script("summary 1", "summary 2", "summary 3", name="events")),
            ),
        ),
        ["1", "2", "3"],
    ),
    Scenario(
        "compaction by the agent's own model",
        app(
            "compaction_by_own_model",
            LlmAgent(name="agent", model=script("a", "b", "summary", "c", name="events")),
            events_compaction_config=EventsCompactionConfig(compaction_interval=2, overlap_size=0),
        ),
        ["1", "2", "3"],
    ),
    Scenario(
        "context caching",
        app(
            "context_caching", agent("a", "b"), context_cache_config=ContextCacheConfig(min_tokens=0, cache_intervals=2)
        ),
        ["1", "2"],
    ),
    Scenario(
        "resumption of a confirmation",
        app(
            "resumption_of_a_confirmation",
            SequentialAgent(
                name="sequence",
                sub_agents=[
                    LlmAgent(name="one", model=script(spending, "spent", name="m1"), tools=confirmed_tool),
                    LlmAgent(name="two", model=script("two", name="m2")),
                ],
            ),
            resumability_config=ResumabilityConfig(is_resumable=True),
        ),
        ["go", Say(parts=confirm(True).parts, resume=True)],
    ),
    Scenario(
        "resumption of a long-running tool",
        app(
            "resumption_of_a_long_running_tool",
            agent(parts(call("begin", job="j")), "finished", tools=[LongRunningFunctionTool(begin)]),
            resumability_config=ResumabilityConfig(is_resumable=True),
        ),
        ["go", Say(parts=answering("begin", status="done"), resume=True)],
    ),
    Scenario(
        "rewind",
        agent(
            parts(call("write", key="k", value="1")), "a", parts(call("write", key="k", value="2")), "b", tools=[write]
        ),
        ["1", "2", Say("3", rewind=True)],
    ),
    Scenario(
        "a session kept in memory, and found again",
        agent(
            "kept",
            parts(call("load_memory", query="umbrella")),
            "found",
            tools=[load_memory_tool],
            after_agent_callback=keep,
        ),
        ["my umbrella is red", "what about my umbrella?"],
    ),
    Scenario("memory that is preloaded", agent("a", "b", tools=[preload_memory_tool])),
    Scenario(
        "memory that the model asks for", agent(parts(call("load_memory", query="x")), "b", tools=[load_memory_tool])
    ),
    Scenario(
        "reflect and retry",
        app(
            "reflect_and_retry",
            agent(parts(call("broken")), "gave up", tools=[broken]),
            plugins=[ReflectAndRetryToolPlugin(max_retries=2)],
        ),
    ),
    Scenario(
        "reflect and retry, with an agent as a tool between the failures",
        app(
            "reflect_around_an_agent",
            agent(
                parts(call("broken")),
                parts(call("expert", request="why?")),
                parts(call("broken")),
                "gave up",
                tools=[broken, AgentTool(LlmAgent(name="expert", model=script("no idea", name="of expert")))],
            ),
            plugins=[ReflectAndRetryToolPlugin(max_retries=3)],
        ),
    ),
]
