"""Stopping: a run that no node has been given is ended here, for there is no agent to do it.

Should a node be given it meanwhile, nothing is lost: the run has ended, so its
place is released, what its agent reports of it is passed over, and what runs of
it is removed.
"""

from __future__ import annotations

from core.messages.containers import ReportStopped
from handlers.reactors.wish import Wish
from projections.pending import Outlook


def plan(views: Outlook, now_ms: int) -> list[Wish]:
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
