"""The check of requirements.lock."""

import ast
import re
import runpy
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
check = runpy.run_path(str(ROOT / ".ci" / "lock.py"))


def unmet(lock: str) -> list[str]:
    packages, wanted = [*check["locked"](lock)], check["wanted"]((ROOT / "pyproject.toml").read_text())
    return [sentence for each in check["environments"]() for sentence in check["unmet"](packages, wanted, each)]


def test_the_lock_is_complete() -> None:
    assert unmet(LOCK) == []


# Required by the project, by one of its packages, for an extra, for an extra of a package, and by Python 3.11.0.
@pytest.mark.parametrize("name", ["hypercorn", "h11", "h2", "cryptography", "async-timeout"])
def test_a_package_that_is_missing_is_missed(name: str) -> None:
    without, count = re.subn(rf"^{name}(\[.*\])?==.*\n( .*\n)+", "", LOCK, flags=re.MULTILINE)
    assert count == 1
    assert any(f" asks for {name}" in sentence for sentence in unmet(without))


def test_whatever_is_imported_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    asked = {canonicalize_name(Requirement(text).name) for text in project["dependencies"] + extras}
    distributions = packages_distributions()
    for path in (ROOT / "adk_chat").rglob("*.py"):
        for module in _imported(path):
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names and top not in ("adk_chat", "google", "opentelemetry"):
                assert asked & {canonicalize_name(name) for name in distributions[top]}, f"{path} imports {module}"
    assert asked >= {"google-adk", "google-genai", "opentelemetry-api", "opentelemetry-sdk"}  # share their top module


def _imported(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
    return found


def test_a_package_without_hashes_is_refused() -> None:
    with pytest.raises(SystemExit, match="h2 has to be pinned"):
        unmet("h2==4.4.1\n")
