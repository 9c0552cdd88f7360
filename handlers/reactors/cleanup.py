"""Cleanup: containers and deployments go after their image, and it stops counting those that are gone."""

from __future__ import annotations

from core.contexts import PLATFORM
from core.messages.catalog import RetireInstance
from core.messages.containers import DeleteContainer
from core.messages.deployments import EndDeployment
from handlers.reactors.wish import Wish
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
    endings = [
        Wish(
            PLATFORM,
            EndDeployment(
                cluster_id=deployment.cluster_id,
                deployment_id=deployment.deployment_id,
                outcome="cancelled",
                at_ms=now_ms,
            ),
            deployment.deployment_id,
        )
        for deployment in views.pending.endings.values()
    ]
    return endings + deletions + retirements
