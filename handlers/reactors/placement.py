"""Placement: every run asks for a place, and gives it back when it is over."""

from __future__ import annotations

from core.contexts import PLATFORM
from core.messages.scheduling import ReleasePlacement, RequestPlacement
from handlers.reactors.wish import Wish
from projections.pending import Outlook

CLUSTER = "default"
"""Where containers run."""


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    asks = [
        Wish(
            PLATFORM,
            RequestPlacement(
                cluster_id=CLUSTER,
                tenant=container.tenant,
                container_id=container.container_id,
                run=container.run,
                cpu_milli=container.resources.cpu_milli,
                memory_mib=container.resources.memory_mib,
                at_ms=now_ms,
            ),
            f"{container.container_id}:{container.run}",
        )
        for container in views.pending.placements.values()
        if CLUSTER in views.scheduling.clusters
    ]
    releases = [
        Wish(
            PLATFORM,
            ReleasePlacement(cluster_id=place.cluster_id, container_id=place.container_id, run=place.run),
            f"{place.container_id}:{place.run}",
        )
        for place in views.pending.releases.values()
    ]
    return releases + asks
