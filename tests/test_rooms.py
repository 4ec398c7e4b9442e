"""The rooms of the package: each imports only those below it, and no two modules import each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "adk_chat"

# From the bottom to the top; docs/how-it-works.md says what each does.
ROOMS = (
    "settings",
    "protocol",
    "restate_api",
    "streaming",
    "process",
    "dev",
    "sessions",
    "durable.journal",
    "durable.adk",
    "durable",
    "agents",
    "objects",
    "turns",
    "endpoint",
    "gateway",
    "terminal",
    "service",
    "cli",
)
ONLY = {"terminal": {"settings", "protocol"}}
"""Rooms that know even less: the terminal is a client like any other."""


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[name.removesuffix("__init__").rstrip(".")] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """The modules of ours that a module imports, at its import or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "adk_chat":
            module = (node.module or "").removeprefix("adk_chat").lstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                yield inner if inner in known else module
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("adk_chat.") for a in node.names if a.name.startswith("adk_chat."))


def room(module: str) -> str:
    """The room of a module: the longest one that its name begins with."""
    found = [one for one in ROOMS if module == one or module.startswith(f"{one}.")]
    return max(found, key=len, default="")


def test_rooms_import_only_what_is_below_them() -> None:
    known = modules()
    level = {one: number for number, one in enumerate(ROOMS)}
    wrong = []
    for name, path in known.items():
        here = room(name)
        if not here:  # the package itself, which exports public names, and __main__
            assert name in ("", "__main__"), f"{name} is in no room; add it to ROOMS."
            continue
        for imported in imports(name, path, known):
            there = room(imported)
            if not there or level[there] > level[here]:
                wrong.append(f"{name} imports {imported or 'adk_chat'}")
            elif here in ONLY and there not in (here, *ONLY[here]):
                wrong.append(f"{name} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other() -> None:
    known = modules()
    graph = {name: {one for one in imports(name, path, known) if one != name} for name, path in known.items()}
    while leaves := [name for name, needs in graph.items() if not needs & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, f"These import each other: {sorted(graph)}"
