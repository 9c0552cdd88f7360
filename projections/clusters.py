"""The clusters: what each of their nodes may be given, whose they are, and who may have how much there."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from core.messages.scheduling import (
    VIRTUAL,
    ClusterCreated,
    ClusterId,
    ClusterRepacked,
    NodeCarried,
    NodeOffered,
    NodeReserved,
    NodeWithdrawn,
    QuotaLifted,
    QuotaSet,
    Totals,
)

Change = NodeOffered | NodeWithdrawn | NodeCarried | NodeReserved | QuotaSet | QuotaLifted | ClusterRepacked


class Offer(Struct, frozen=True):
    """What a node may be given in all; `open` is False once it has been withdrawn.

    `carrier` is whose agent runs what is placed there, where that is not the node's own.
    """

    node_id: str
    cpu_milli: int
    memory_mib: int
    open: bool
    gpus: int = 0
    gpu_model: str = ""
    carrier: str = ""


class Quota(Struct, frozen=True):
    """Limits, None where there is none; `borrow_percent` more of each may be borrowed."""

    tenant: str
    cpu_milli: int | None
    memory_mib: int | None
    gpu_milli: int | None
    borrow_percent: int
    weight: int


class Cluster(Struct, frozen=True):
    """`owner` is the tenant it is for, '' for everybody; `totals` is what it has if no machines are in it."""

    cluster_id: ClusterId
    ordinal: int
    name: str
    at_ms: int
    owner: str = ""
    totals: Totals | None = None
    offers: dict[str, Offer] = {}
    quotas: dict[str, Quota] = {}


def created(event: ClusterCreated, ordinal: int) -> Cluster:
    cluster = Cluster(event.cluster_id, ordinal, event.name, event.at_ms, event.owner, event.totals)
    if (totals := event.totals) is None:
        return cluster
    return _offering(cluster, Offer(VIRTUAL, totals.cpu_milli, totals.memory_mib, True, totals.gpus))


def changed(cluster: Cluster, event: Change) -> Cluster:
    match event:
        case NodeOffered(node_id=id, cpu_milli=cpu, memory_mib=memory, gpus=gpus, gpu_model=model):
            return _offering(cluster, Offer(id, cpu, memory, True, gpus, model))
        case NodeWithdrawn(node_id=id):
            known = cluster.offers.get(id)
            return _offering(cluster, replace(known, open=False)) if known else cluster
        case NodeCarried(node_id=id, carrier=carrier):
            known = cluster.offers.get(id)
            return _offering(cluster, replace(known, carrier=carrier)) if known else cluster
        case QuotaSet(tenant=tenant):
            quota = Quota(
                tenant,
                event.cpu_milli,
                event.memory_mib,
                event.gpu_milli,
                event.borrow_percent,
                event.weight,
            )
            return replace(cluster, quotas={**cluster.quotas, tenant: quota})
        case QuotaLifted(tenant=tenant):
            left = {name: quota for name, quota in cluster.quotas.items() if name != tenant}
            return replace(cluster, quotas=left)
        case NodeReserved() | ClusterRepacked():
            return cluster


def _offering(cluster: Cluster, offer: Offer) -> Cluster:
    return replace(cluster, offers={**cluster.offers, offer.node_id: offer})
