"""What a container-minute costs at any moment."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from core.messages.billing import BillingEvent, PricesPublished

DEFAULT_MINUTE_NANOS = 10_000_000
"""One cent, until other prices are published."""


class Prices:
    def __init__(self) -> None:
        self._from_ms: list[int] = []
        self._minute_nanos: list[int] = []

    def minute_nanos(self, at_ms: int) -> int:
        """Billionths of a dollar for a minute that begins at `at_ms`."""
        later = bisect_right(self._from_ms, at_ms)
        return self._minute_nanos[later - 1] if later else DEFAULT_MINUTE_NANOS

    def state(self) -> Any:
        return [self._from_ms, self._minute_nanos]

    def apply(self, tenant: str, position: int, event: BillingEvent) -> None:
        match event:
            case PricesPublished(from_ms=from_ms, minute_nanos=minute_nanos):
                place = bisect_right(self._from_ms, from_ms)
                self._from_ms.insert(place, from_ms)
                self._minute_nanos.insert(place, minute_nanos)
