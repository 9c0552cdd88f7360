"""Cleanup: what has done its work is complete, and containers and deployments go after their image."""

from __future__ import annotations

from core.contexts import PLATFORM
from core.messages.catalog import RetireInstance
from core.messages.containers import DeleteContainer
from core.messages.deployments import EndDeployment, Outcome
from handlers.reactors.wish import Wish
from projections.deployments import Deployment
from projections.pending import Outlook


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    deletions = [
        Wish(
            container.tenant,
            DeleteContainer(container_id=container.container_id, at_ms=now_ms),
            container.container_id,
        )
        for container in views.pending.deletions.values()
    ]
    retirements = [
        Wish(
            gone.tenant,
            RetireInstance(image_id=gone.image_id, container_id=gone.container_id),
            gone.container_id,
        )
        for gone in views.pending.retirements.values()
    ]
    endings = [_end(deployment, "cancelled", now_ms) for deployment in views.pending.endings.values()]
    endings += [_end(deployment, "completed", now_ms) for deployment in views.pending.completions.values()]
    return endings + deletions + retirements


def _end(deployment: Deployment, outcome: Outcome, now_ms: int) -> Wish:
    command = EndDeployment(
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.deployment_id,
        outcome=outcome,
        at_ms=now_ms,
        done=outcome == "completed",
    )
    return Wish(PLATFORM, command, f"{deployment.deployment_id}:{outcome}")
