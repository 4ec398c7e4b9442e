"""A Prometheus that scrapes a stack, as deploy/prometheus says."""

import asyncio
import re
import runpy
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.conftest import free_port
from tests.killable import Killable
from tests.programs import find_prometheus

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
check = runpy.run_path(str(ROOT / ".ci" / "deploy.py"))
_METRIC = re.compile(r"\b((?:adk_chat|gen_ai|http|restate|process)_\w+)(?=[{\[ )]|$)")
_NOT_YET = {"adk_chat_model_retries_total"}
"""Nothing has happened yet that these count."""


class Prometheus(Killable):
    """Scrapes each second.

    Args:
        directory: for its data.
        offset: between the ports of the stack and the usual ones.
    """

    def __init__(self, directory: Path, offset: int) -> None:
        self._data = directory / "prometheus"
        self._config = directory / "prometheus.yml"
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"]["scrape_interval"] = "1s"
        config["rule_files"] = [str(DEPLOY / "prometheus" / "alerts.yml")]
        moved = re.sub(r"localhost:(\d+)", lambda port: f"127.0.0.1:{int(port[1]) + offset}", yaml.safe_dump(config))
        self._config.write_text(moved)
        self._port = free_port()

    async def start(self) -> None:
        """Start it."""
        arguments = (f"--config.file={self._config}", f"--storage.tsdb.path={self._data}", "--log.level=error")
        self._process = await asyncio.create_subprocess_exec(
            find_prometheus(lambda _: None), *arguments, f"--web.listen-address=127.0.0.1:{self._port}"
        )

    async def unanswered(self) -> list[str]:
        """What does not answer or has no data: targets, queries of the dashboard, and metrics that alerts are about."""
        named = {name for rule in check["alerts"](DEPLOY) for name in _METRIC.findall(rule["expr"])}
        assert len(named) > 8, named
        queries = ["up == 1", *check["queries"](DEPLOY), *(named - _NOT_YET)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self._port}/api/v1") as http:
            left: list[str] = queries
            for _ in range(100):
                left = [query for query in left if not await _answers(http, query)]
                if not left:
                    break
                await asyncio.sleep(0.2)
            down = (await http.get("/query", params={"query": "up == 0"})).json()["data"]["result"]
            return [*left, *(str(target["metric"]) for target in down)]


async def _answers(http: httpx.AsyncClient, query: str) -> bool:
    try:
        answer: dict[str, Any] = (await http.get("/query", params={"query": query})).json()
    except httpx.TransportError:
        return False
    assert answer["status"] == "success", answer
    return bool(answer["data"]["result"])
