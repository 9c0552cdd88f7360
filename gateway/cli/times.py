"""Durations and moments, as people type them and as they like to read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d{1,6})([smhd])", re.ASCII)


def duration_ms(text: str) -> int:
    """`90s`, `10m`, `2h`, `1d`. Raises `ValueError`."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError("a duration looks like 90s, 10m, 2h or 1d")
    return int(found[1]) * UNITS_MS[found[2]]


def span(ms: int) -> str:
    """`90 s`, `12 min`, `5 h`, `3 d`: rounded down, in the largest unit of which there are two."""
    for unit, name in (("d", "d"), ("h", "h"), ("m", "min")):
        if ms >= 2 * UNITS_MS[unit]:
            return f"{ms // UNITS_MS[unit]} {name}"
    return f"{max(0, ms) // 1000} s"


def moment(at_ms: int, now_ms: int) -> str:
    """`14:03 UTC, in 5 min`."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    day = "" if at_ms - now_ms < UNITS_MS["d"] // 2 else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M} UTC, in {span(at_ms - now_ms)}"
