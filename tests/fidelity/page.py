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
Both must come to the same: events with content, author, branch, actions and order, state of all scopes, what each model
was asked, and the sequence of callbacks. One message more must be answered in the same session afterwards.

- **plain**: nothing goes wrong
- **replaying**: the server makes the handler replay at every await
- **failing**: for each entry of the journal in turn, an attempt breaks off right after it
- **streaming**: with partial responses, and what is seen live compared as well

In all four, each call of a model or a tool that got into the journal was executed once.
"""
TAIL = """
## What is different

- A turn whose agent raises ends with one more event, which says so (`errorCode`, and `adk_chat_turn_failed` in its
  `customMetadata`). Under ADK the exception is all there is.
- A model call that fails with what may pass (no connection, 408, 429, 5xx) is made again, for two minutes at most.
- Plain functions as tools run in a thread (`ADK_CHAT_TOOL_THREADS=0` runs them on the event loop, as ADK does).
- Code outside models and tools (callbacks, plugins, instruction providers, custom agents, functions of a workflow that
  take `ctx`) runs again on a replay, up to where the turn had got to. What it reads and writes as state, artifacts or
  memory is what it was; what it does to the world outside it should do in a tool. Its timers begin anew.
- A call that was under way when its process died is made again, since nobody knows how far it had got.
- Agents that are somewhere else (`RemoteA2aAgent`, LangGraph's) are called again on a replay, unless in a tool.
- A rewind, and `rollback`, take a key of the state away that was not there, and leave what a session was created with.
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
