"""What each event changes in a cluster: tried out by a decision, or done for good by the log."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec.structs import replace

from core.messages.deployments import DeploymentEnded, DeploymentScaled, DeploymentSubmitted
from core.messages.scheduling import (
    VIRTUAL,
    ClusterCreated,
    ClusterRepacked,
    NodeCarried,
    NodeOffered,
    NodeReserved,
    NodeWithdrawn,
    PlacementPassed,
    PlacementQueued,
    PlacementReleased,
    QuotaLifted,
    QuotaSet,
    RunEvicted,
    RunPlaced,
    SchedulingEvent,
)
from handlers.cluster import Cluster, Deployment, Node
from handlers.quota import Quota
from handlers.request import Request
from handlers.room import Need


def evolve(cluster: Cluster, event: SchedulingEvent) -> Cluster:
    """The same cluster, changed in place; a new one where it is created."""
    if isinstance(event, ClusterCreated):
        cluster = Cluster(name=event.name, owner=event.owner, strict=event.strict)
    apply(cluster, event)
    for need in _arrived(cluster, event):
        cluster.books.learn(need)
    cluster.books.journal.clear()
    return cluster


def apply(cluster: Cluster, event: SchedulingEvent) -> None:
    books = cluster.books
    books.tick(event.at_ms)
    match event:
        case ClusterCreated(totals=totals):
            if totals is not None:
                books.offer(
                    VIRTUAL,
                    Node(totals.cpu_milli, totals.memory_mib, totals.gpus, offered=True, virtual=True),
                )
        case NodeOffered(node_id=node_id):
            books.offer(node_id, Node(event.cpu_milli, event.memory_mib, event.gpus, event.gpu_model))
        case NodeWithdrawn(node_id=node_id):
            books.offer(node_id, replace(cluster.nodes[node_id], offered=False))
        case NodeCarried(node_id=node_id, carrier=carrier):
            books.offer(node_id, replace(cluster.nodes[node_id], carrier=carrier))
        case QuotaSet(tenant=tenant):
            books.limit(tenant, quota_of(event))
        case QuotaLifted(tenant=tenant):
            books.limit(tenant, None)
        case PlacementQueued():
            books.ask(request_of(cluster, event))
        case RunPlaced(container_id=container_id, run=run, node_id=node_id, devices=devices):
            books.place(f"{container_id}/{run}", node_id, devices, cluster.now_ms)
        case RunEvicted(container_id=container_id, run=run, cause=cause):
            counts = cause == "preempted" and not cluster.strict
            books.evict(f"{container_id}/{run}", cluster.now_ms, counts=counts)
        case NodeReserved(node_id=node_id, container_id=container_id, run=run):
            books.reserve(node_id, f"{container_id}/{run}")
        case PlacementReleased(container_id=container_id, run=run):
            books.release(f"{container_id}/{run}")
        case PlacementPassed(container_id=container_id, run=run):
            books.hand_on(f"{container_id}/{run}")
        case DeploymentSubmitted(deployment_id=id, replicas=replicas):
            books.deploy(id, Deployment(replicas, digest_of(event), event.name if event.unique else ""))
            for number in range(1, replicas + 1):
                books.ask(replica_of(cluster, event, number))
        case DeploymentScaled(deployment_id=id, added=added, removed=removed):
            known, model = cluster.deployments[id], next(iter(books.replicas[id].values()))
            books.deploy(id, replace(known, serial=known.serial + len(added)))
            for key in [k for k, one in books.replicas[id].items() if one.container_id in removed]:
                books.release(key)
            for nth, container_id in enumerate(added, start=1):
                books.ask(another(cluster, model, container_id, nth))
        case DeploymentEnded(deployment_id=id):
            for key in list(books.replicas.get(id, ())):
                books.release(key)
            books.deploy(id, None)
        case ClusterRepacked():
            pass


def _arrived(cluster: Cluster, event: SchedulingEvent) -> list[Need]:
    """The needs of the requests that came with the event."""
    match event:
        case PlacementQueued():
            return [request_of(cluster, event).need]
        case DeploymentSubmitted(replicas=replicas):
            return [replica_of(cluster, event, 1).need] * replicas
        case DeploymentScaled(deployment_id=id, added=added):
            return [next(iter(cluster.books.replicas[id].values())).need] * len(added)
        case _:
            return []


def request_of(cluster: Cluster, queued: PlacementQueued) -> Request:
    return Request(
        tenant=queued.tenant,
        container_id=queued.container_id,
        run=queued.run,
        cpu_milli=queued.cpu_milli,
        memory_mib=queued.memory_mib,
        gpus=queued.gpus,
        gpu_milli=queued.gpu_milli if queued.gpus else 0,
        gpu_models=queued.gpu_models if queued.gpus else (),
        priority=queued.priority,
        at_ms=queued.at_ms,
        sequence=cluster.arrivals + 1,
        since_ms=queued.at_ms,
    )


def replica_of(cluster: Cluster, submitted: DeploymentSubmitted, number: int) -> Request:
    """The first run of the replica of that `number`."""
    share, id = submitted.share, submitted.deployment_id
    return Request(
        tenant=submitted.tenant,
        container_id=f"{id}-{number}",
        run=1,
        cpu_milli=share.cpu_milli,
        memory_mib=share.memory_mib,
        gpus=share.gpus,
        gpu_milli=share.gpu_milli if share.gpus else 0,
        gpu_models=share.gpu_models if share.gpus else (),
        priority=submitted.priority,
        preemptible=submitted.preemptible,
        gang=id if submitted.gang else "",
        gang_size=submitted.replicas if submitted.gang else 1,
        at_ms=cluster.now_ms,
        sequence=cluster.arrivals + number,
        since_ms=cluster.now_ms,
        deployment=id,
        duration_ms=submitted.duration_ms,
    )


def another(cluster: Cluster, like: Request, container_id: str, nth: int) -> Request:
    """One more replica, which arrives as the `nth` of those that arrive now."""
    return replace(
        like,
        container_id=container_id,
        run=1,
        node_id=None,
        devices=(),
        at_ms=cluster.now_ms,
        since_ms=cluster.now_ms,
        sequence=cluster.arrivals + nth,
        evictions=0,
    )


def digest_of(submitted: DeploymentSubmitted) -> str:
    """The same for the same deployment, whenever it is submitted."""
    said = msgspec.json.encode(replace(submitted, at_ms=0), order="sorted")
    return hashlib.sha256(said).hexdigest()[:16]


def quota_of(event: QuotaSet) -> Quota:
    return Quota(event.cpu_milli, event.memory_mib, event.gpu_milli, event.borrow_percent, event.weight)
