"""Writes adk-chat.json, the dashboard, with Grafana's own SDK. Run it with: python deploy/grafana/dashboard.py."""

from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders.common import VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable, Row
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef

PATH = Path(__file__).with_name("adk-chat.json")
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_RATE = "[$__rate_interval]"


class Graph(NamedTuple):
    """A panel.

    Args:
        title: above the graph.
        unit: of the axis, as Grafana names units.
        said: what to look for, shown on demand.
        queries: in PromQL, by what the legend says.
    """

    title: str
    unit: str
    said: str
    queries: dict[str, str]


def _quantiles(metric: str) -> dict[str, str]:
    rates = f'sum by (le) (rate({metric}_bucket{{app=~"$app"}}{_RATE}))'
    return {f"p{round(q * 100)}": f"histogram_quantile({q}, {rates})" for q in (0.5, 0.95, 0.99)}


ROWS: dict[str, list[Graph]] = {
    "Turns": [
        Graph(
            "Turns that ended",
            "ops",
            "Per second, by outcome. A failed turn has an error event and an entry in the log.",
            {"{{outcome}}": f'sum by (outcome) (rate(adk_chat_turns_ended_total{{app=~"$app"}}{_RATE}))'},
        ),
        Graph(
            "Turns now",
            "short",
            "Waiting means for a slot of Restate. Paused turns block their sessions until somebody acts.",
            {
                "running": 'sum(adk_chat_turns_running{app=~"$app"})',
                "queued": "max(adk_chat_turns_queued)",
                "waiting": "max(adk_chat_turns_waiting)",
                "retrying": "max(adk_chat_turns_retrying)",
                "paused": "max(adk_chat_turns_paused)",
            },
        ),
        Graph(
            "Time to the first token",
            "s",
            "From the start of the turn. The model is most of it.",
            _quantiles("adk_chat_turn_time_to_first_token_seconds"),
        ),
        Graph("Duration of turns", "s", "From start to end.", _quantiles("adk_chat_turn_duration_seconds")),
        Graph(
            "Tokens",
            "short",
            "Per second, as models report them.",
            {"{{type}}": f'sum by (type) (rate(adk_chat_tokens_total{{app=~"$app"}}{_RATE}))'},
        ),
        Graph(
            "Model calls that were retried",
            "ops",
            "After a transient error: no connection, 408, 429 or 5xx.",
            {"retries": f"sum(rate(adk_chat_model_retries_total{_RATE})) or vector(0)"},
        ),
        Graph(
            "Model calls",
            "s",
            "The 95th percentile by model, as ADK measures it.",
            {
                "{{gen_ai_request_model}}": "histogram_quantile(0.95, sum by (le, gen_ai_request_model) "
                f'(rate(gen_ai_client_operation_duration_seconds_bucket{{gen_ai_agent_name!="warm_up"}}{_RATE})))'
            },
        ),
    ],
    "Gateways": [
        Graph(
            "Requests",
            "reqps",
            "By status. 503 means that Restate or the handlers do not answer.",
            {
                "{{http_response_status_code}}": "sum by (http_response_status_code) "
                f"(rate(http_server_request_duration_seconds_count{_RATE}))"
            },
        ),
        Graph(
            "Duration of requests",
            "s",
            "The 95th percentile by route. A stream lasts as long as its turn.",
            {
                "{{http_route}}": "histogram_quantile(0.95, sum by (le, http_route) "
                f"(rate(http_server_request_duration_seconds_bucket{_RATE})))"
            },
        ),
        Graph(
            "Gateways whose handlers answer",
            "short",
            "All of them, if everything is well.",
            {"answering": "sum(adk_chat_handlers_answering)", "gateways": "count(adk_chat_handlers_answering)"},
        ),
    ],
    "Restate": [
        Graph(
            "Slots",
            "short",
            "Handlers that run, and how many may. Each model or tool that works holds one.",
            {
                "used": "sum(restate_invoker_concurrency_slots_acquired - restate_invoker_concurrency_slots_released)",
                "limit": "sum(restate_invoker_concurrency_limit)",
            },
        ),
        Graph(
            "Records not applied yet",
            "short",
            "By partition. If it keeps growing, the node has too little CPU or its disk is too slow.",
            {"{{partition}}": "max by (partition) (restate_partition_applied_lsn_lag)"},
        ),
        Graph(
            "Data on disk",
            "bytes",
            "Sessions, journals that are kept, and the log.",
            {"{{instance}}": "sum by (instance) (restate_rocksdb_total_sst_files_size_bytes)"},
        ),
    ],
    "Processes": [
        Graph("CPU", "short", "Cores.", {"{{instance}}": f'rate(process_cpu_seconds_total{{job="adk-chat"}}{_RATE})'}),
        Graph("Memory", "bytes", "", {"{{instance}}": 'process_resident_memory_bytes{job="adk-chat"}'}),
        Graph(
            "Event loop blocked",
            "percentunit",
            "Code of an agent that blocks makes all users of its process wait. The log names the line.",
            {"{{instance}}": f"rate(adk_chat_event_loop_blocked_seconds_total{_RATE})"},
        ),
    ],
}


def written() -> str:
    """Returns the dashboard as JSON."""
    board = (
        Dashboard("adk_chat")
        .uid("adk-chat")
        .tags(["adk-chat"])
        .refresh("30s")
        .time("now-1h", "now")
        .with_variable(DatasourceVariable("datasource").type("prometheus").label("Data source"))
        .with_variable(
            QueryVariable("app")
            .datasource(_SOURCE)
            .query("label_values(adk_chat_turns_ended_total, app)")
            .include_all(True)
            .all_value(".*")
            .multi(True)
            .label("App")
        )
    )
    for title, graphs in ROWS.items():
        board = board.with_row(Row(title))
        for graph in graphs:
            board = board.with_panel(_panel(graph))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _panel(graph: Graph) -> Panel:
    panel = Panel().title(graph.title).unit(graph.unit).datasource(_SOURCE).span(8).height(8).min(0).fill_opacity(10)
    legend = VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM).display_mode(LegendDisplayMode.LIST)
    panel = panel.legend(legend)
    if graph.said:
        panel = panel.description(graph.said)
    for (label, query), name in zip(graph.queries.items(), "ABCDE", strict=False):
        panel = panel.with_target(Dataquery().ref_id(name).expr(query).legend_format(label))
    return panel


if __name__ == "__main__":
    PATH.write_text(written())
