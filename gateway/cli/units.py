"""CPUs, memory and GPUs, as people type them and as they like to read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gateway.cli.times import duration_ms
from gateway.quantities import mebibytes, milli_cpu


class Read(click.ParamType[int]):
    """What `read` makes of the text, or the reason why it makes nothing of it."""

    def __init__(self, name: str, read: Callable[[str], int]) -> None:
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else self._read(value)
        except ValueError as no:
            self.fail(str(no), param, ctx)


CPU = Read("cpu", milli_cpu)
MEMORY = Read("memory", mebibytes)
DURATION = Read("duration", duration_ms)


def thousandths(milli: int) -> str:
    """Of CPUs or GPUs: 500 is `0.5`."""
    return f"{milli / 1000:g}"


def memory(mib: int) -> str:
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:.4g} GiB"
