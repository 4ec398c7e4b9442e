"""Checks that requirements.lock is complete: everything that a locked package requires, extras included, is locked too.

The requirements are read from the metadata of the installed packages, and evaluated for each Python and each system
that the project supports. A complete lock is installed without resolving anything, the same on any day.
"""

import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SYSTEMS = {"linux": "Linux", "darwin": "Darwin"}

Environment = dict[str, str]


def environments() -> Iterator[Environment]:
    """Yields the environments in which markers are evaluated."""
    for python in PYTHONS:
        for platform, system in SYSTEMS.items():
            yield {
                "python_version": python,
                "python_full_version": f"{python}.0",
                "sys_platform": platform,
                "platform_system": system,
            }


def locked(lock: str) -> Iterator[Requirement]:
    """Yields the packages of a lock.

    Raises:
        SystemExit: if one is not pinned to a version and its hashes.
    """
    for line in lock.replace("\\\n", "").splitlines():
        required, hashed, _ = line.partition("--hash=sha256:")
        package = Requirement(required)
        if not hashed or [pin.operator for pin in package.specifier] != ["=="]:
            sys.exit(f"requirements.lock: {package.name} has to be pinned with == and to its hashes.")
        yield package


def wanted(pyproject: str) -> list[Requirement]:
    """Returns the project's own requirements, including those for development."""
    content = tomllib.loads(pyproject)
    return [*map(Requirement, content["project"]["dependencies"] + content["dependency-groups"]["dev"])]


@cache
def installed(name: str) -> tuple[str | None, list[Requirement]]:
    """Returns an installed package's version and requirements; none if it is for another Python or system."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None, []
    return found.version, [*map(Requirement, found.requires or [])]


def unmet(packages: list[Requirement], wanted: list[Requirement], environment: Environment) -> Iterator[str]:
    """Yields a sentence for each requirement that the packages do not meet."""

    def holds(required: Requirement, extra: str = "") -> bool:
        return required.marker is None or required.marker.evaluate({**environment, "extra": extra})

    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in filter(holds, packages)}
    asked = [("pyproject.toml", each) for each in filter(holds, wanted)]
    seen: set[tuple[str, str]] = set()
    while asked:
        by, required = asked.pop()
        name = canonicalize_name(required.name)
        version = versions.get(name)
        if version is None or not required.specifier.contains(version, prereleases=True):
            yield f"{by} asks for {required}, and the lock has {version or 'none'}"
            continue
        found, requires = installed(name)
        if found not in (None, version):
            yield f"{name} is installed as {found}, and the lock has {version}"
        for extra in {"", *required.extras} - {extra for of, extra in seen if of == name}:
            seen.add((name, extra))
            asked += [(name, each) for each in requires if holds(each, extra)]


def main() -> None:
    """Checks the lock of this project."""
    root = Path(__file__).parents[1]
    packages = [*locked((root / "requirements.lock").read_text())]
    asked = wanted((root / "pyproject.toml").read_text())
    found = {sentence for environment in environments() for sentence in unmet(packages, asked, environment)}
    if found:
        sys.exit("\n".join(["requirements.lock is not complete; `make lock` mends it:", *sorted(found)]))


if __name__ == "__main__":
    main()
