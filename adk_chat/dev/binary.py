"""Finds the restate-server binary: in the environment, on PATH, or in its npm package."""

import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from adk_chat.dev.npm import InstallError, Package, install

VERSION = "1.7.12"
_SHA512 = {
    "linux-x64": "URotJ1AIqaSCDkRMl4OrQfTLH+NYuOZb3ZsP7wxxiuAB6pncgPhTUYSvegTF5PTrAShnNyHNpju9kjf2O3QxoA==",
    "linux-arm64": "aV7YxWvPhp88MjQtObGDhDCTwCBa68wwZOAMmJqDreO0auHYuSfOqabEx4I90coZsx3zShNusppbTPKprOa+dw==",
    "darwin-x64": "ZRS1kk3S4pzIiup2IRRQ3eHoKJSZ43FG4rDe7UbGFWwZ/Yz0xSDa4/3/kiuwaMHXWs/CsKtJe0shx8JCR0DO1g==",
    "darwin-arm64": "pHrZMaaeBJxXTgI19WG/aJvxuUDQ2nhSDEEJVseTZQiTEdJ7hboPlhvYacgXIE2iMnLMmWkN5XIlXqosHK8Byg==",
}
_MACHINES = {"x86_64": "x64", "amd64": "x64", "arm64": "arm64", "aarch64": "arm64"}


def find_restate_server(say: Callable[[str], None]) -> Path:
    """Returns the binary to run. `say` is called before an installation, which takes a while.

    Raises:
        InstallError: if there is none. The message says what to do.
    """
    named = os.environ.get("RESTATE_SERVER_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise InstallError(f"RESTATE_SERVER_BIN is {named}, which is not an executable file.")
        return Path(named)
    on_path = shutil.which("restate-server")
    if on_path:
        return Path(on_path)
    system = f"{sys.platform}-{_MACHINES.get(platform.machine().lower())}"
    if system not in _SHA512:
        raise InstallError(
            f"There is no restate-server for {platform.system()} on {platform.machine()}. "
            "Build it, and set RESTATE_SERVER_BIN to its path."
        )
    package = Package(f"@restatedev/restate-server-{system}", VERSION, _SHA512[system], 220)
    home = install(package, say, "install restate-server yourself and set RESTATE_SERVER_BIN to its path")
    return home / "bin" / "restate-server"
