"""The check of the files in deploy/."""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.programs import find_prometheus

ROOT = Path(__file__).parents[2]
check = runpy.run_path(str(ROOT / ".ci" / "deploy.py"))


# A base image without a tag; an unknown key; a field that is misspelled, in what Kubernetes knows, in what the operator
# passes on to it, and in the operator's own; a unit with an unknown section.
BROKEN = [
    ("Dockerfile", "FROM python:3.13-slim\n", "FROM python\n"),
    ("compose.yaml", "    healthcheck:\n", "    healthchecks:\n"),
    ("kubernetes/gateway.yaml", "periodSeconds", "periodSecond"),
    ("kubernetes/endpoint.yaml", "readinessProbe", "readynessProbe"),
    ("kubernetes/endpoint.yaml", "averageUtilization", "averageUse"),
    ("kubernetes/endpoint.yaml", "cluster: restate", "clusters: restate"),
    ("kubernetes/restate.yaml", "storageRequestBytes", "storageRequest"),
    ("kubernetes/restate.yaml", "matchLabels", "matchLabel"),
    ("systemd/restate-server.service", "[Service]", "[Services]"),
    ("grafana/adk-chat.json", "Turns now", "Turns then"),
    ("grafana/adk-chat.json", "sum by (outcome)", "sum by outcome)"),
    ("prometheus/alerts.yml", "max(adk_chat_turns_paused)", "max(adk_chat_turns_paused"),
]


@pytest.mark.parametrize(
    ("name", "right", "wrong"), BROKEN, ids=[f"{name}: {wrong.strip()}" for name, _, wrong in BROKEN]
)
def test_a_broken_file_is_seen(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    if name.startswith("systemd") and shutil.which("systemd-analyze") is None:
        pytest.skip("There is no systemd to ask.")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    path = tmp_path / "deploy" / name
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    assert any(path.name in said for said in check["problems"](tmp_path / "deploy"))


def test_prometheus_takes_its_configuration_and_the_alerts_fire() -> None:
    promtool = find_prometheus(lambda _: None).with_name("promtool")
    for arguments in (("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")):
        done = subprocess.run(
            [promtool, *arguments], cwd=ROOT / "deploy" / "prometheus", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
