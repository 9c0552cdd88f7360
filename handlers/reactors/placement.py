"""Placement: every run asks for a place, and gives it back, or hands it on, when it is over."""

from __future__ import annotations

from core.contexts import PLATFORM
from core.messages.scheduling import PassPlacement, ReleasePlacement, RequestPlacement
from handlers.reactors.wish import Wish
from projections.containers import Container
from projections.pending import Outlook

CLUSTER = "default"
"""Where the instances of images run."""


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    asks = [
        Wish(PLATFORM, _request(container, now_ms), f"{container.container_id}:{container.run}")
        for container in views.pending.placements.values()
        if CLUSTER in views.scheduling.clusters
    ]
    releases = [
        Wish(
            PLATFORM,
            ReleasePlacement(
                cluster_id=place.cluster_id,
                container_id=place.container_id,
                run=place.run,
                at_ms=now_ms,
            ),
            f"{place.container_id}:{place.run}",
        )
        for place in views.pending.releases.values()
    ]
    passes = [
        Wish(
            PLATFORM,
            PassPlacement(
                cluster_id=place.cluster_id,
                container_id=place.container_id,
                run=place.run,
                at_ms=now_ms,
            ),
            f"{place.container_id}:{place.run}",
        )
        for place in views.pending.passes.values()
    ]
    return releases + passes + asks


def _request(container: Container, now_ms: int) -> RequestPlacement:
    resources = container.resources
    return RequestPlacement(
        cluster_id=CLUSTER,
        tenant=container.tenant,
        container_id=container.container_id,
        run=container.run,
        cpu_milli=resources.cpu_milli,
        memory_mib=resources.memory_mib,
        at_ms=now_ms,
        gpus=resources.gpus,
        gpu_milli=resources.gpu_milli,
        gpu_models=resources.gpu_models,
    )
