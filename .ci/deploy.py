"""Checks the files in deploy/ by the schemas and tools of those who read them.

The Dockerfile is checked by hadolint, compose.yaml by Compose's schema, the manifests by those of Kubernetes, the units
by systemd where there is one, and queries by a parser of PromQL. Kubernetes knows no resources of the Restate operator:
what these pass on to it is checked as the resource of Kubernetes that it becomes, the rest by the schemas below.
"""

import json
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import promql_parser
import yaml

from adk_chat.settings import check_names

KUBERNETES = "1.33"
"""The oldest version that the manifests have to suit."""
EXPOSED = 4.0
"""The most that systemd may say a unit is exposed, of ten."""
OPERATOR: dict[str, dict[str, Any]] = {
    # From restate-operator 3.1, crd/restatedeployments.yaml: the part that is not of Kubernetes.
    "RestateDeployment": {
        "type": "object",
        "required": ["register"],
        "additionalProperties": False,
        "properties": {
            "register": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": {"cluster": {"type": "string"}, "cloud": {"type": "string"}, "url": {"type": "string"}},
            },
            "drainDelaySeconds": {"type": "integer", "minimum": 0},
        },
    },
    # From crd/restateclusters.yaml: what is used of it.
    "RestateCluster": {
        "type": "object",
        "required": ["compute", "storage"],
        "additionalProperties": False,
        "properties": {
            "cluster": {"additionalProperties": False, "properties": {"autoProvision": {"type": "boolean"}}},
            "compute": {
                "required": ["image"],
                "additionalProperties": False,
                "properties": {
                    "image": {"type": "string"},
                    "replicas": {"type": "integer", "minimum": 1},
                    "resources": {"type": "object"},
                },
            },
            "storage": {
                "required": ["storageRequestBytes"],
                "additionalProperties": False,
                "properties": {"storageRequestBytes": {"type": "integer"}, "storageClassName": {"type": "string"}},
            },
            "security": {
                "additionalProperties": False,
                "properties": {
                    "networkPeers": {
                        "additionalProperties": False,
                        "properties": {name: {"type": "array"} for name in ("ingress", "admin", "node")},
                    }
                },
            },
            "config": {"type": "string"},
        },
    },
}
IGNORED = {"Kustomization"}


def problems(deploy: Path) -> Iterator[str]:
    """Yields what is wrong with the files of the directory, each with the name of its file."""
    compose = deploy / "compose.yaml"
    yield from _said_by("hadolint", deploy / "Dockerfile")
    yield from _said_by("check-jsonschema", "--builtin-schema", "vendor.compose-spec", compose)
    for path in sorted((deploy / "kubernetes").glob("*.yaml")):
        for resource in yaml.safe_load_all(path.read_text()):
            yield from (f"{path.name}: {said}" for said in _wrong_with(resource))
    for path in sorted((deploy / "systemd").glob("*.service")):
        yield from _unit(path)
    for path in sorted(path for path in deploy.rglob("*") if path.is_file() and path.suffix != ".json"):
        try:
            check_names(re.findall(r"\bADK_CHAT_[A-Z_]+", path.read_text()))
        except ValueError as error:
            yield f"{path.name}: {error}"
    yield from _dashboard(deploy / "grafana")
    for rule in alerts(deploy):
        yield from (f"alerts.yml: {rule['alert']}: {said}" for said in _query(rule["expr"]))


def queries(deploy: Path) -> list[str]:
    """Returns the queries of the dashboard, with values for Grafana's variables."""
    board = json.loads((deploy / "grafana" / "adk-chat.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return [query.replace("$__rate_interval", "1m").replace("$app", ".*") for query in found]


def alerts(deploy: Path) -> list[dict[str, Any]]:
    """Returns the rules of the alerts."""
    groups = yaml.safe_load((deploy / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard(grafana: Path) -> Iterator[str]:
    """Yields what is wrong with the dashboard, which Grafana's SDK writes and mypy therefore checks."""
    if runpy.run_path(str(grafana / "dashboard.py"))["written"]() != (grafana / "adk-chat.json").read_text():
        yield "adk-chat.json: is outdated: python deploy/grafana/dashboard.py"
    for query in queries(grafana.parent):
        yield from (f"adk-chat.json: {said}" for said in _query(query))


def _query(query: str) -> Iterator[str]:
    try:
        promql_parser.parse(query)
    except ValueError as error:
        yield f"{query}: {error}"


def _said_by(command: str, *arguments: str | Path) -> Iterator[str]:
    """Yields what a command prints if it fails. It is one of this environment, or on PATH."""
    here = Path(sys.executable).with_name(command)
    done = subprocess.run(
        [str(here if here.exists() else command), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        yield f"{Path(arguments[-1]).name}: {(done.stdout + done.stderr).strip()}"


def _wrong_with(resource: dict[str, Any]) -> Iterator[str]:
    kind, name = resource["kind"], resource.get("metadata", {}).get("name")
    try:
        if kind in OPERATOR:
            spec = dict(resource["spec"])
            own = spec.pop("restate", None) if kind == "RestateDeployment" else spec
            jsonschema.validate(own, OPERATOR[kind])
            for like in _as_kubernetes(kind, resource["metadata"], spec):
                kubernetes_validate.validate(like, KUBERNETES, strict=True)
        elif kind not in IGNORED:
            kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        path = ".".join(map(str, error.path))
        yield f"{kind} {name}: {path}: {error.message}"


def _as_kubernetes(kind: str, metadata: Any, spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields resources of Kubernetes with what the operator passes on to it."""
    if kind == "RestateDeployment":
        if (autoscaling := spec.pop("autoscaling", None)) is not None:
            target = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": metadata["name"]}
            scaled = {"scaleTargetRef": target, **autoscaling}
            yield {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": metadata,
                "spec": scaled,
            }
        yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    else:
        for peers in spec.get("security", {}).get("networkPeers", {}).values():
            policy = {"podSelector": {}, "ingress": [{"from": peers}]}
            yield {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": metadata,
                "spec": policy,
            }
        container = {"name": "restate", "image": "x", "resources": spec["compute"].get("resources", {})}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def _unit(path: Path) -> Iterator[str]:
    if shutil.which("systemd-analyze") is None:
        return
    # Of what a unit starts, only its being there can be checked, and it is not there.
    text = "".join(
        "ExecStart=/bin/true\n" if line.startswith("ExecStart=") else line
        for line in path.read_text().splitlines(keepends=True)
    )
    with tempfile.TemporaryDirectory() as directory:
        unit = Path(directory) / path.name.replace("@", "@8000")
        unit.write_text(text)
        yield from _said_by("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
        threshold = f"--threshold={EXPOSED * 10:.0f}"
        yield from _said_by("systemd-analyze", "security", "--offline=yes", "--no-pager", threshold, unit)


def main() -> None:
    """Checks deploy/."""
    found = [*problems(Path(__file__).parents[1] / "deploy")]
    if found:
        sys.exit("\n".join(["deploy/ has files that do not work:", *found]))


if __name__ == "__main__":
    main()
