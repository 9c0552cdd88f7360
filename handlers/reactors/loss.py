"""Loss: a node whose agent has not been heard for twenty seconds is given up, until it returns."""

from __future__ import annotations

from core.contexts import PLATFORM
from core.messages.fleet import LoseNode
from handlers.reactors.wish import Wish
from projections.pending import Outlook

LOST_AFTER_MS = 20_000


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    return [
        Wish(PLATFORM, LoseNode(node_id=node.node_id, at_ms=now_ms), f"{node.node_id}:{node.since}")
        for node in views.fleet.nodes()
        if not node.lost and views.hearts.silent_ms(node.node_id, now_ms) > LOST_AFTER_MS
    ]
