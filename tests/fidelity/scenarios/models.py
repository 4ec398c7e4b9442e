"""What models do besides answering."""

from typing import Any

from google.adk.agents.llm_agent import LlmAgent
from google.adk.models.llm_response import LlmResponse
from google.genai import types

from tests.fidelity.scenario import Scenario
from tests.fidelity.scenarios.tools import slow
from tests.fidelity.script import call, chunks, parts, say, script


def agent(*answers: Any, **attributes: Any) -> LlmAgent:
    """An agent of one scripted model."""
    return LlmAgent(name="agent", model=script(*answers), **attributes)


usage = types.GenerateContentResponseUsageMetadata(
    prompt_token_count=7, candidates_token_count=3, total_token_count=10, cached_content_token_count=2
)
grounding = types.GroundingMetadata(
    web_search_queries=["restate"],
    grounding_chunks=[types.GroundingChunk(web=types.GroundingChunkWeb(uri="https://example.com", title="Example"))],
)
stop = types.FinishReason.STOP
picture = types.Part(inline_data=types.Blob(mime_type="image/png", data=b"\x89PNG not really"))
code = types.Part(executable_code=types.ExecutableCode(code="1+1", language=types.Language.PYTHON))
result = types.Part(code_execution_result=types.CodeExecutionResult(outcome=types.Outcome.OUTCOME_OK, output="2"))
signed = types.Part(
    function_call=types.FunctionCall(name="slow", args={"name": "s"}), thought_signature=b"signature \xff\x00"
)

SCENARIOS = [
    Scenario("many chunks", agent(chunks(*(f"{n} " for n in range(30))), chunks("a", "b")), ["a", "b"]),
    Scenario("several responses from one call", agent([say("first"), say("second"), say("third")])),
    Scenario(
        "text in chunks, then a call",
        agent([*chunks("let me ", "see"), parts(call("slow", name="a"))], chunks("do", "ne"), tools=[slow]),
    ),
    Scenario(
        "a function call that arrives in chunks",
        agent([parts(call("slow"), partial=True), parts(call("slow", name="a"))], chunks("do", "ne"), tools=[slow]),
    ),
    Scenario(
        "function calls split over responses",
        agent([parts(call("slow", name="a")), parts(call("slow", name="b"))], "done", tools=[slow]),
    ),
    Scenario(
        "usage, finish reason, model version and more",
        agent(
            say(
                "counted",
                usage_metadata=usage,
                finish_reason=stop,
                model_version="m-1",
                avg_logprobs=-0.25,
                custom_metadata={"a": [1, None]},
                turn_complete=True,
            )
        ),
    ),
    Scenario(
        "grounding and citations",
        agent(
            say(
                "found",
                grounding_metadata=grounding,
                citation_metadata=types.CitationMetadata(citations=[types.Citation(uri="https://example.com")]),
            )
        ),
    ),
    Scenario("pictures, code and its result", agent(parts("see", picture, code, result), "and"), ["a", "b"]),
    Scenario("a thought signature", agent(parts(signed), "done", tools=[slow]), ["a", "b"]),
    Scenario(
        "an error in the response",
        agent(LlmResponse(error_code="RESOURCE", error_message="used up")),
        ["a", "b"],
        fails=True,
    ),
    Scenario(
        "a safety block",
        agent(LlmResponse(error_code="SAFETY", error_message="blocked", finish_reason=types.FinishReason.SAFETY)),
        fails=True,
    ),
    Scenario("MAX_TOKENS", agent(say("cut o", finish_reason=types.FinishReason.MAX_TOKENS)), ["a", "b"]),
    Scenario("an answer of nothing", agent(parts()), ["a", "b"]),
    Scenario("an answer without content", agent(LlmResponse()), ["a", "b"]),
    Scenario("no answer at all", agent([]), ["a", "b"]),
    Scenario(
        "an error in the middle of chunks",
        agent([*chunks("so ", "far")[:2], LlmResponse(error_code="X", error_message="y")]),
        fails=True,
    ),
    Scenario(
        "text and several calls",
        agent(parts("well", call("slow", name="a"), "and", call("slow", name="b")), "ok", tools=[slow]),
    ),
]
