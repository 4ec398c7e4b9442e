"""The check of the files in deploy/."""

import runpy
import shutil
from pathlib import Path

import pytest

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
