"""The check of the files in deploy/."""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.programs import find_prometheus

ROOT = Path(__file__).parents[2]
check = runpy.run_path(str(ROOT / ".ci" / "deploy.py"))


# A base image without a tag; an unknown key; a setting that there is not; a misspelled field, in what Kubernetes
# knows, in what the operator passes on to it, and in the operator's own; an unknown section of a unit; a dashboard
# that was changed by hand; queries that are none.
BROKEN = [
    ("Dockerfile", "FROM python:3.11-slim\n", "FROM python\n"),
    ("compose.yaml", "    healthcheck:\n", "    healthchecks:\n"),
    ("kubernetes/settings.yaml", "ADK_CHAT_INGRESS_URL", "ADK_CHAT_INGRES_URL"),
    ("kubernetes/gateway.yaml", "periodSeconds", "periodSecond"),
    ("kubernetes/endpoint.yaml", "readinessProbe", "readynessProbe"),
    ("kubernetes/restate.yaml", "storageRequestBytes", "storageRequest"),
    ("systemd/restate-server.service", "[Service]", "[Services]"),
    ("grafana/adk-chat.json", "Turns now", "Turns then"),
    ("prometheus/alerts.yml", "max(adk_chat_turns_paused)", "max(adk_chat_turns_paused"),
]
AGAIN = [
    ("kubernetes/endpoint.yaml", "averageUtilization", "averageUse"),
    ("kubernetes/restate.yaml", "matchLabels", "matchLabel"),
    ("grafana/adk-chat.json", "sum by (outcome)", "sum by outcome)"),
]
ONCE_MORE = [("kubernetes/endpoint.yaml", "cluster: restate", "clusters: restate")]


@pytest.mark.parametrize("broken", [BROKEN, AGAIN, ONCE_MORE])
def test_every_broken_file_is_seen(broken: list[tuple[str, str, str]], tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    for name, right, wrong in broken:
        path = tmp_path / "deploy" / name
        text = path.read_text()
        assert right in text
        path.write_text(text.replace(right, wrong))
    said = [*check["problems"](tmp_path / "deploy")]
    can_be_seen = {Path(name).name for name, _, _ in broken if shutil.which("systemd-analyze") or "systemd" not in name}
    assert {sentence.partition(":")[0] for sentence in said} == can_be_seen, said


def test_prometheus_takes_its_configuration_and_the_alerts_fire() -> None:
    promtool = find_prometheus(lambda _: None).with_name("promtool")
    for arguments in (("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")):
        done = subprocess.run(
            [promtool, *arguments], cwd=ROOT / "deploy" / "prometheus", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
