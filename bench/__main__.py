"""`python -m bench [NAME ...]`: what the platform costs, if none is named; the scheduler's take longer.

platform: commands, replay, failover, platform, placements
scheduler: scheduling, overload, optimum (which needs the extra of that name)
"""

from __future__ import annotations

import importlib
import platform
import sys

import uvloop

PLATFORM = ("commands", "replay", "failover", "platform", "placements")
NAMES = (*PLATFORM, "scheduling", "overload", "optimum")


def main() -> None:
    chosen = sys.argv[1:] or PLATFORM
    if unknown := [name for name in chosen if name not in NAMES]:
        raise SystemExit(f"no such bench: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    print(f"Python {platform.python_version()}, {platform.machine()}; ratios travel, absolute figures do not")
    for name in chosen:
        uvloop.run(importlib.import_module(f"bench.{name}").main())


main()
