"""How often something may be tried, for each key: a burst, then a steady rate (GCRA, one number a key)."""

from __future__ import annotations

KEYS_MAX = 50_000


class Throttle:
    """`limit` tries in `window_s` seconds; 0 lets everything pass. Times are any steady clock's."""

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit, self._window_s = limit, window_s
        self._free_at: dict[str, float] = {}

    def take(self, key: str, now: float) -> float:
        """Seconds to wait before the next try; 0 if this one may go ahead, and is counted."""
        if not self._limit:
            return 0.0
        if len(self._free_at) >= KEYS_MAX:
            self._free_at = {k: at for k, at in self._free_at.items() if at > now}
        step = self._window_s / self._limit
        free_at = max(self._free_at.get(key, 0.0), now)
        wait = free_at + step - now - self._window_s
        if wait > 1e-9:
            return wait
        self._free_at[key] = free_at + step
        return 0.0

    def give_back(self, key: str) -> None:
        """The try turned out not to count."""
        if key in self._free_at:
            self._free_at[key] -= self._window_s / self._limit
