"""Launching: every instance an image has launched becomes a container."""

from __future__ import annotations

from core.messages.containers import CreateContainer
from handlers.reactors.wish import Wish
from projections.pending import Outlook


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    wishes = []
    for launched in views.pending.launches.values():
        launch, instance = launched.launch, launched.instance
        create = CreateContainer(
            container_id=instance.container_id,
            image_id=launch.image_id,
            name=instance.name,
            ref=launch.ref,
            hostname=launch.hostname,
            resources=launch.resources,
            port=launch.port,
            owner=launch.by,
            at_ms=now_ms,
        )
        wishes.append(Wish(launched.tenant, create, instance.container_id))
    return wishes
