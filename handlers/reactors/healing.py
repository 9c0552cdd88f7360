"""Healing: what ended unasked runs again, soon at first and then less and less often; the evicted at once."""

from __future__ import annotations

from core.messages.containers import RestartContainer
from handlers.reactors.wish import Wish
from projections.pending import Outlook

BACK_OFF_MS = 1_000
BACK_OFF_MS_MAX = 300_000


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    return [
        Wish(
            ended.tenant,
            RestartContainer(container_id=ended.container_id, run=ended.run, at_ms=now_ms),
            f"{ended.container_id}:{ended.run}",
        )
        for ended in views.pending.restarts.values()
        if now_ms >= ended.ended_ms + back_off_ms(ended.in_a_row)
    ]


def back_off_ms(in_a_row: int) -> int:
    """How long to wait after so many failures: 1 s, 2 s, 4 s, up to five minutes; not at all after none."""
    if not in_a_row:
        return 0
    doublings = min(in_a_row - 1, BACK_OFF_MS_MAX.bit_length())
    return min(BACK_OFF_MS << doublings, BACK_OFF_MS_MAX)
