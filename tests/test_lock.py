"""The check of requirements.lock."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
check = runpy.run_path(str(ROOT / ".ci" / "lock.py"))


def unmet(lock: str) -> list[str]:
    packages, wanted = [*check["locked"](lock)], check["wanted"]((ROOT / "pyproject.toml").read_text())
    return [sentence for each in check["environments"]() for sentence in check["unmet"](packages, wanted, each)]


def test_the_lock_is_complete() -> None:
    assert unmet(LOCK) == []


# Asked for by the project, by a package of it, for an extra, for an extra of a package, and by Python 3.11.0.
@pytest.mark.parametrize("name", ["hypercorn", "h11", "h2", "cryptography", "async-timeout"])
def test_a_package_that_is_missing_is_missed(name: str) -> None:
    without, count = re.subn(rf"^{name}(\[.*\])?==.*\n( .*\n)+", "", LOCK, flags=re.MULTILINE)
    assert count == 1
    assert any(f" asks for {name}" in sentence for sentence in unmet(without))


def test_a_package_without_hashes_is_refused() -> None:
    with pytest.raises(SystemExit, match="h2 has to be pinned"):
        unmet("h2==4.4.1\n")
