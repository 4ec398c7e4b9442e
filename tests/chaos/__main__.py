"""`python -m tests.chaos [--seconds 600] [--seed N] [--users 16] [--cluster]`: exits with 1 if a promise is broken."""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path

from adk_chat.dev.binary import find_restate_server
from tests.chaos.run import chaos


def main() -> None:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--cluster", action="store_true", help="three nodes of Restate")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        run = (Path(directory), options.seed, options.seconds, options.users)
        found = asyncio.run(chaos(find_restate_server(print), *run, cluster=options.cluster))
    print(json.dumps(found.counts, indent=1))  # noqa: T201
    for wrong in found.wrong:
        print(wrong)  # noqa: T201
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
