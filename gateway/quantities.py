"""CPU and memory as people write them (`0.5`, `512m`, `1g`, `64Mi`), as the integers we count in."""

from __future__ import annotations

import re
from decimal import Decimal
from math import ceil

from gateway.refusals import invalid

_CPU = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)(m?)", re.ASCII)
_MEMORY = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([bkmgt]?)i?b?", re.IGNORECASE | re.ASCII)
_UNIT = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MIB = 1 << 20


def milli_cpu(text: str) -> int:
    """`0.5` and `500m` are 500, rounded up. Raises `ValueError`."""
    found = _CPU.fullmatch(text.strip())
    milli = ceil(Decimal(found[1]) * (1 if found[2] else 1000)) if found else 0
    if milli < 1:
        raise ValueError("a CPU limit looks like 0.5 or 500m")
    return milli


def mebibytes(text: str) -> int:
    """`512m` and `512Mi` are 512, `1g` is 1024; a plain number is bytes; rounded up. Raises `ValueError`."""
    found = _MEMORY.fullmatch(text.strip())
    mib = ceil(Decimal(found[1]) * _UNIT[found[2].lower()] / _MIB) if found else 0
    if mib < 1:
        raise ValueError("a memory limit looks like 512m, 1g or 64Mi")
    return mib


def resources(cpu_limit: str | None, memory_limit: str | None) -> dict[str, int]:
    """Both limits as fields of `Resources`, as far as given. Refuses with 422 naming the field."""
    found: dict[str, int] = {}
    for field, text, name, read in (
        ("cpu_limit", cpu_limit, "cpu_milli", milli_cpu),
        ("memory_limit", memory_limit, "memory_mib", mebibytes),
    ):
        if text is not None:
            try:
                found[name] = read(text)
            except ValueError as no:
                raise invalid(field, str(no)) from no
    return found


def cpu_text(milli: int) -> str:
    """500 is `0.5`."""
    return f"{Decimal(milli) / 1000:f}"


def memory_text(mib: int) -> str:
    """512 is `512m`."""
    return f"{mib}m"
