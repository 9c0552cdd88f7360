"""Launching: every instance of an image and every replica of a deployment becomes a container."""

from __future__ import annotations

from core.messages.catalog import Resources
from core.messages.containers import CreateContainer
from handlers.reactors.wish import Wish
from projections.deployments import Deployment
from projections.pending import Outlook

CPU_MILLI_MAX = 1_024_000
MEMORY_MIB_MIN, MEMORY_MIB_MAX = 6, 64 << 20
"""What an engine can be told; a cluster of fixed totals may count in other dimensions."""


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
    for container_id, deployment in views.pending.replicas.items():
        wishes.append(Wish(deployment.tenant, _replica(container_id, deployment, now_ms), container_id))
    return wishes


def _replica(container_id: str, deployment: Deployment, now_ms: int) -> CreateContainer:
    share = deployment.share
    return CreateContainer(
        container_id=container_id,
        image_id=deployment.image_id or deployment.deployment_id,
        name=container_id,
        ref=deployment.ref,
        hostname=deployment.hostname,
        resources=Resources(
            cpu_milli=min(share.cpu_milli, CPU_MILLI_MAX),
            memory_mib=min(max(share.memory_mib, MEMORY_MIB_MIN), MEMORY_MIB_MAX),
            gpus=share.gpus,
            gpu_milli=share.gpu_milli,
            gpu_models=share.gpu_models,
        ),
        port=deployment.port,
        owner=deployment.owner,
        at_ms=now_ms,
        deployment_id=deployment.deployment_id,
    )
