"""The page of the docs that lists what was compared with ADK, and the results."""

from pathlib import Path

from google.adk import version

from tests.fidelity.scenarios import GROUPS

PAGE = Path(__file__).parents[2] / "docs" / "fidelity.md"
COLUMNS = {
    "test_a_run_is_as_under_adk[plain-{}]": "plain",
    "test_a_run_is_as_under_adk[replay-{}]": "replaying",
    "test_a_run_that_fails_after_any_journal_entry_is_as_under_adk[plain-{}]": "failing",
    "test_a_streamed_run_is_as_under_adk[plain-{}]": "streaming",
}
HEAD = f"""\
# What runs as under ADK

This page is written by the tests (`make test`). Each line is a small agent with a scripted model and some messages of a
user, run under the `InMemoryRunner` of google-adk {version.__version__} and under adk_chat on a real restate-server.
Both must produce the same: events with content, author, branch, actions and order, the state of all scopes, the input
of each model, and the sequence of callbacks. Then the same session must answer one more message.

- **plain**: nothing goes wrong
- **replaying**: the server makes the handler replay at every await
- **failing**: for each journal entry in turn, an attempt breaks off right after it
- **streaming**: with partial responses; what a client sees live is compared too

In all four, each model or tool call in the journal was executed once.
"""
TAIL = """
## What is different

- If the agent raises, the turn ends with one more event that records it (`errorCode`, and `adk_chat_turn_failed` in its
  `customMetadata`). Under ADK there is only the exception.
- A model call that fails with a transient error (no connection, 408, 429, 5xx) is retried for up to two minutes.
- Tools that are plain functions run in a thread (`ADK_CHAT_TOOL_THREADS=0` runs them on the event loop, as ADK does).
- Code outside models and tools (callbacks, plugins, instruction providers, custom agents, functions of a workflow that
  take `ctx`) runs again on a replay, up to the point that the turn had reached. The state, artifacts and memory that it
  reads and writes are the same. Other side effects belong in a tool. Its timers start anew.
- A call that was running when its process died is repeated, since nobody knows how far it got.
- Remote agents (`RemoteA2aAgent`, LangGraph's) are called again on a replay, unless inside a tool.
- A rewind, and `rollback`, remove state keys that did not exist before, and keep the session's initial state.
- `run_live` (audio and video) needs a connection that lives as long as the conversation, and is refused.
"""


def write(outcomes: dict[str, bool]) -> None:
    """Write the page if all scenarios ran in all ways.

    Args:
        outcomes: whether a test passed, by its name.
    """
    lines = [HEAD]
    for group, scenarios in GROUPS.items():
        lines += [f"\n## {group}\n", f"| | {' | '.join(COLUMNS.values())} |", f"| --- |{' :-: |' * len(COLUMNS)}"]
        for scenario in scenarios:
            passed = [outcomes.get(name.format(scenario.id)) for name in COLUMNS]
            if None in passed:
                return
            lines.append(f"| {scenario.name} | {' | '.join('✓' if one else '✗' for one in passed)} |")
    PAGE.write_text("\n".join(lines) + "\n" + TAIL)
