"""Cleanup: containers go after their image, and an image stops counting the containers that are gone."""

from __future__ import annotations

from core.messages.catalog import RetireInstance
from core.messages.containers import DeleteContainer
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
    return deletions + retirements
