"""`python -m bench [commands] [failover] [replay] [platform]`: all of them, if none is named."""

from __future__ import annotations

import importlib
import platform
import sys

import uvloop

NAMES = ("commands", "replay", "failover", "platform")


def main() -> None:
    chosen = sys.argv[1:] or NAMES
    if unknown := [name for name in chosen if name not in NAMES]:
        raise SystemExit(f"no such bench: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    print(f"Python {platform.python_version()}, {platform.machine()}; ratios travel, absolute figures do not")
    for name in chosen:
        uvloop.run(importlib.import_module(f"bench.{name}").main())


main()
