"""What the kernel must be told, and asked, about our processes."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def dies_with_parent(number: signal.Signals) -> Callable[[], None]:
    """To be run in a child between fork and exec: the kernel sends it this signal when we are gone."""
    parent = os.getpid()

    def arrange() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # gone already, before we could ask
            os._exit(1)

    return arrange


def kill_group(pid: int) -> None:
    """The process and all it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def born(pid: int) -> int:
    """When a living process started, in ticks since boot; 0 for one that is no more, or is a zombie.

    With this a pid can be told from another process that got the same number.
    """
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(rest[18])


def memory_kib(pid: int) -> int:
    """Its proportional share of memory; 0 if it is gone or may not be asked."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
