"""Stopping: a run that has no node, or whose node is lost, is ended here, for there is no agent to do it.

Should a node be given it meanwhile, nothing is lost: the run has ended, so its
place is released, what its agent reports of it is passed over, and what runs of
it is removed.
"""

from __future__ import annotations

from core.messages.containers import ReportStopped
from handlers.reactors.wish import Wish
from projections.pending import Outlook


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    return [*_unplaced(views, now_ms), *_lost(views, now_ms)]


def _unplaced(views: Outlook, now_ms: int) -> list[Wish]:
    return [
        Wish(
            container.tenant,
            ReportStopped(
                container_id=container.container_id,
                run=container.run,
                ending="stopped",
                exit_code=-1,
                detail="stopped before a node was found for it",
                at_ms=now_ms,
            ),
            f"{container.container_id}:{container.run}",
        )
        for container in views.pending.unplaced_stops.values()
    ]


def _lost(views: Outlook, now_ms: int) -> list[Wish]:
    wishes = []
    for (container_id, run), leaving in views.scheduling.leaving().items():
        node, container = views.fleet.node(leaving.node_id), views.containers.container(container_id)
        if container is None or (leaving.node_id and (node is None or not node.lost)):
            continue
        if container.run != run or container.status == "stopped":
            continue
        report = ReportStopped(
            container_id=container_id,
            run=run,
            ending="lost" if leaving.node_id else "evicted" if container.wanted else "stopped",
            exit_code=-1,
            detail=f"node {leaving.node_id} was lost" if leaving.node_id else "no machine ran it yet",
            at_ms=now_ms,
        )
        wishes.append(Wish(container.tenant, report, f"{container_id}:{run}"))
    return wishes
