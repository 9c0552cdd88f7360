"""What the hypervisor app calls things: small numbers for ids, CPUs and whole GPUs, three statuses.

Only what is the caller's tenants' own, or everybody's, is there at this door; to the
operator, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from gateway.deployments import Status, own, status_of
from gateway.exchange import caller_of, fields, known
from gateway.readers import VIEWS
from gateway.refusals import Refused, invalid, malformed
from projections.clusters import Cluster
from projections.deployments import Deployment
from projections.views import Views

W = TypeVar("W", bound=Struct)

STATUS: dict[Status, Literal["Pending", "Running", "Completed"]] = {
    "pending": "Pending",
    "partial": "Running",
    "running": "Running",
    "completed": "Completed",
    "cancelled": "Completed",
}
Cpus = Annotated[float, Meta(gt=0, le=10**9)]
"""Whole or with thousandths, but no finer: `milli_cpu` refuses what is."""


class WhichCluster(Struct, frozen=True):
    id: int | None = None
    cluster_name: str | None = None


class WhichDeployment(Struct, frozen=True):
    id: int | None = None
    deployment_name: str | None = None


class ClusterJson(Struct, frozen=True):
    """A cluster of machines has what those have in all that may be given work."""

    id: int
    name: str
    total_ram: int
    total_cpu: float
    total_gpu: int
    available_ram: int
    available_cpu: float
    available_gpu: int


class DeploymentJson(Struct, frozen=True):
    """What is required is so for each replica, where there are several."""

    id: int
    name: str
    cluster_id: int
    image_path: str
    ram_required: int
    cpu_required: float
    gpu_required: int
    priority: int
    status: Literal["Pending", "Running", "Completed"]


def cluster_json(views: Views, cluster: Cluster) -> ClusterJson:
    offers = [offer for offer in cluster.offers.values() if offer.open]
    held = [
        place.share
        for offer in offers
        for place in views.scheduling.held_on(cluster.cluster_id, offer.node_id)
    ]
    memory_mib = sum(offer.memory_mib for offer in offers)
    cpu_milli = sum(offer.cpu_milli for offer in offers)
    gpus = sum(offer.gpus for offer in offers)
    return ClusterJson(
        id=cluster.ordinal,
        name=cluster.name,
        total_ram=memory_mib,
        total_cpu=cpu_milli / 1000,
        total_gpu=gpus,
        available_ram=_left(memory_mib, (share.memory_mib for share in held)),
        available_cpu=_left(cpu_milli, (share.cpu_milli for share in held)) / 1000,
        available_gpu=_left(gpus * 1000, (share.gpus * share.gpu_milli for share in held)) // 1000,
    )


def deployment_json(request: web.Request, deployment: Deployment) -> DeploymentJson:
    cluster = request.app[VIEWS].scheduling.cluster(deployment.cluster_id)
    assert cluster is not None  # clusters stay
    status, _ = status_of(request, deployment)
    return DeploymentJson(
        id=deployment.ordinal,
        name=deployment.name,
        cluster_id=cluster.ordinal,
        image_path=deployment.ref,
        ram_required=deployment.share.memory_mib,
        cpu_required=deployment.share.cpu_milli / 1000,
        gpu_required=deployment.share.gpus,
        priority=deployment.priority,
        status=STATUS[status],
    )


def milli_cpu(field: str, cpus: float) -> int:
    milli = Decimal(str(cpus)) * 1000
    if milli != int(milli):
        raise invalid(field, "a CPU has a thousand parts, and no finer ones")
    return int(milli)


async def which(request: web.Request, kind: type[W]) -> W:
    """What the query names; if it names nothing, what the body does, with any method."""
    query = {name: request.query[name] for name in kind.__struct_fields__ if name in request.query}
    if not query and request.can_read_body:
        return known(kind, await fields(request))
    try:
        return msgspec.convert(query, kind, strict=False)
    except msgspec.ValidationError as no:
        raise malformed(no, "query") from no


def cluster_at(request: web.Request, asked: WhichCluster) -> Cluster:
    caller, id, name = caller_of(request), asked.id, asked.cluster_name
    if id is None and name is None:
        raise Refused(400, "Either id or cluster_name must be provided")
    for cluster in request.app[VIEWS].scheduling.clusters.values():
        is_meant = cluster.name == name if id is None else cluster.ordinal == id
        if is_meant and cluster.owner in ("", *caller.tenants):
            if name not in (None, cluster.name):
                raise Refused(400, "The id and the cluster_name are not those of one cluster")
            return cluster
    raise Refused(404, "Cluster not found")


def deployment_at(request: web.Request, asked: WhichDeployment) -> Deployment:
    """Of several that have had the name, the one that lives, else the latest."""
    caller, views = caller_of(request), request.app[VIEWS].deployments
    id, name = asked.id, asked.deployment_name
    if id is not None:
        deployment = own(caller, views.numbered(id))
        if name not in (None, deployment.name):
            raise Refused(400, "The id and the deployment_name are not those of one deployment")
        return deployment
    if name is None:
        raise Refused(400, "Either id or deployment_name must be provided")
    named = [found for tenant in caller.tenants if (found := views.named(tenant, name))]
    return own(caller, max(named, key=lambda one: (one.outcome is None, one.ordinal), default=None))


def _left(total: int, held: Iterable[int]) -> int:
    """Machines may come back smaller than what they hold."""
    return max(0, total - sum(held))
