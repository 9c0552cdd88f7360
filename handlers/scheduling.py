"""Scheduling decides who gets which place, who has to go for it, and who waits.

What is wished becomes facts; what follows from them is found out on the cluster
itself, by walking its queue, and taken back before anybody else looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from msgspec.structs import asdict, replace

from core.decider import Decider
from core.message import Command
from core.messages.deployments import (
    DeploymentEnded,
    DeploymentExists,
    DeploymentId,
    DeploymentIsPending,
    DeploymentIsUnknown,
    DeploymentScaled,
    DeploymentSubmitted,
    EndDeployment,
    GangIsWhole,
    PlaceIsDeployments,
    PriorityIsTaken,
    ScaleDeployment,
    SubmitDeployment,
)
from core.messages.names import ReleaseName, ReserveName, name_id
from core.messages.scheduling import (
    VIRTUAL,
    CarryNode,
    Cause,
    ClearNode,
    ClusterCreated,
    ClusterExists,
    ClusterId,
    ClusterIsUnknown,
    ClusterRepacked,
    CreateCluster,
    LiftQuota,
    Move,
    NodeCarried,
    NodeIsNoMachine,
    NodeOffered,
    NodeReserved,
    NodeWithdrawn,
    OfferNode,
    PassPlacement,
    PlacementPassed,
    PlacementQueued,
    PlacementReleased,
    QuotaIsUnbounded,
    QuotaLifted,
    QuotaSet,
    ReleasePlacement,
    RepackCluster,
    RequestPlacement,
    RunEvicted,
    RunPlaced,
    SchedulingCommand,
    SchedulingEvent,
    SetQuota,
    WithdrawNode,
)
from handlers.admission import refuse_impossible
from handlers.backlog import Line
from handlers.changes import apply, digest_of, evolve, quota_of, replica_of, request_of
from handlers.cluster import Cluster, Node
from handlers.explanation import explain
from handlers.mix import POLICY
from handlers.repack import repack
from handlers.shortage import shortage
from handlers.walk import Evicted, Placed, Reserved, Step, walk


def decide(command: SchedulingCommand, cluster: Cluster) -> list[SchedulingEvent]:
    match command:
        case CreateCluster(name=name):
            if not cluster.name:
                return [ClusterCreated(**asdict(command))]
            if cluster.name == name and cluster.owner == command.owner:
                return []
            raise ClusterExists

        case _ if not cluster.name:
            raise ClusterIsUnknown

        case RequestPlacement() if f"{command.container_id}/{command.run}" not in cluster.requests:
            _check_owner(cluster, command.tenant)
            _check_free(cluster, command.container_id)
            queued = PlacementQueued(**asdict(command), reason="")
            return _with_reason(cluster, queued)

        case RepackCluster(cluster_id=cluster_id, moves_max=moves_max, at_ms=at_ms):
            return _repack(ClusterId(cluster_id), cluster, moves_max, at_ms)

        case SubmitDeployment():
            return _submit(cluster, command)

        case _:
            return _then(cluster, _facts(command, cluster))


def _facts(command: SchedulingCommand, cluster: Cluster) -> list[SchedulingEvent]:
    """What the wish itself makes true; nothing, if it is true already."""
    match command:
        case OfferNode(node_id=node_id):
            node = _machine(cluster, node_id)
            offered = Node(command.cpu_milli, command.memory_mib, command.gpus, command.gpu_model)
            return [] if node == offered else [NodeOffered(**asdict(command))]

        case WithdrawNode(node_id=node_id):
            node = _machine(cluster, node_id)
            return [NodeWithdrawn(**asdict(command))] if node and node.offered else []

        case ClearNode(cluster_id=id, node_id=node_id, cause=cause, at_ms=at_ms):
            node = _machine(cluster, node_id)
            closed = NodeWithdrawn(cluster_id=ClusterId(id), node_id=node_id, at_ms=at_ms)
            gone = _everybody_on(cluster, node_id, ClusterId(id), cause, at_ms)
            return [*([closed] if node and node.offered else []), *gone]

        case CarryNode(cluster_id=id, node_id=node_id, carrier=carrier, at_ms=at_ms, cause=cause):
            node = cluster.nodes.get(node_id)
            if node is None or not node.virtual:
                raise NodeIsNoMachine("Only a node that stands for a cluster's totals is carried.")
            if node.carrier == carrier:
                return []
            moved = _everybody_on(cluster, node_id, ClusterId(id), cause, at_ms) if node.carrier else []
            carried = NodeCarried(cluster_id=ClusterId(id), node_id=node_id, carrier=carrier, at_ms=at_ms)
            return [*moved, carried]

        case SetQuota(cpu_milli=None, memory_mib=None, gpu_milli=None):
            raise QuotaIsUnbounded

        case SetQuota(tenant=tenant):
            asked = QuotaSet(**asdict(command))
            return [] if cluster.quotas.get(tenant) == quota_of(asked) else [asked]

        case LiftQuota(tenant=tenant):
            return [QuotaLifted(**asdict(command))] if tenant in cluster.quotas else []

        case ReleasePlacement(container_id=container_id, run=run):
            request = cluster.requests.get(f"{container_id}/{run}")
            if request is not None and request.deployment:
                raise PlaceIsDeployments
            return [PlacementReleased(**asdict(command))] if request else []

        case PassPlacement(container_id=container_id, run=run):
            if f"{container_id}/{run}" not in cluster.requests:
                return []
            if f"{container_id}/{run + 1}" in cluster.requests:  # it has asked for itself meanwhile
                return [PlacementReleased(**asdict(command))]
            return [PlacementPassed(**asdict(command))]

        case ScaleDeployment():
            return _scaled(cluster, command)

        case EndDeployment(deployment_id=id, outcome=outcome):
            replicas = cluster.books.replicas.get(id)
            if replicas is None:
                raise DeploymentIsUnknown
            runs = command.done or any(request.node_id for request in replicas.values())
            if outcome == "completed" and not runs:
                raise DeploymentIsPending
            return [
                DeploymentEnded(
                    cluster_id=command.cluster_id,
                    deployment_id=DeploymentId(id),
                    outcome=outcome,
                    at_ms=command.at_ms,
                )
            ]

        case CreateCluster() | RequestPlacement() | RepackCluster() | SubmitDeployment():
            return []


def _then(
    cluster: Cluster, facts: Sequence[SchedulingEvent], only: Line | None = None
) -> list[SchedulingEvent]:
    """The facts, and who is placed, has to go or is kept a node free for because of them."""
    if not facts:
        return []
    mark = len(cluster.books.journal)
    try:
        for fact in facts:
            apply(cluster, fact)
        if isinstance(facts[-1], PlacementPassed):
            return list(facts)
        return [*facts, *told(ClusterId(facts[0].cluster_id), cluster, walk(cluster, only))]
    finally:
        cluster.books.undo(mark)


def _with_reason(cluster: Cluster, queued: PlacementQueued) -> list[SchedulingEvent]:
    request = request_of(cluster, queued)
    first, *rest = _then(cluster, [queued], request.line)
    if any(isinstance(event, RunPlaced) and event.container_id == queued.container_id for event in rest):
        return [first, *rest]
    return [replace(queued, reason=shortage(cluster, request.need) or "waits behind others"), *rest]


def told(cluster_id: ClusterId, cluster: Cluster, steps: Iterable[Step]) -> list[SchedulingEvent]:
    """The steps of a walk, as events."""
    return [_event(cluster_id, cluster.now_ms, step) for step in steps]


def _event(cluster_id: ClusterId, at_ms: int, step: Step) -> SchedulingEvent:
    about = step.request
    match step:
        case Placed(node_id=node_id, devices=devices):
            return RunPlaced(
                cluster_id=cluster_id,
                tenant=about.tenant,
                container_id=about.container_id,
                run=about.run,
                node_id=node_id,
                devices=devices,
                policy=POLICY,
                at_ms=at_ms,
            )
        case Evicted(node_id=node_id, cause=cause, by=by, choice=choice):
            return RunEvicted(
                cluster_id=cluster_id,
                tenant=about.tenant,
                container_id=about.container_id,
                run=about.run,
                node_id=node_id,
                cause=cause,
                at_ms=at_ms,
                by=by,
                victims=tuple(victim.key for victim in choice.victims) if choice else (),
                cost=choice.key[:-1] if choice else (),
            )
        case Reserved(node_id=node_id):
            return NodeReserved(
                cluster_id=cluster_id,
                node_id=node_id,
                container_id=about.container_id,
                run=about.run,
                at_ms=at_ms,
            )


def _check_owner(cluster: Cluster, tenant: str) -> None:
    if cluster.owner not in ("", tenant):
        raise ClusterIsUnknown


def _check_free(cluster: Cluster, container_id: str) -> None:
    """A container whose name is, or would be, a replica's can not ask for itself."""
    if container_id.rpartition("-")[0] in cluster.deployments:
        raise PlaceIsDeployments


def _check_unknown(cluster: Cluster, container_ids: Iterable[str]) -> None:
    if any(container_id in cluster.books.containers for container_id in container_ids):
        raise DeploymentExists


def _machine(cluster: Cluster, node_id: str) -> Node | None:
    if node_id == VIRTUAL:
        raise NodeIsNoMachine
    return cluster.nodes.get(node_id)


def _everybody_on(
    cluster: Cluster, node_id: str, cluster_id: ClusterId, cause: Cause, at_ms: int
) -> list[SchedulingEvent]:
    """All that the node holds goes; with one of a gang, all of it."""
    books = cluster.books
    leaving = dict(books.runs.get(node_id, {}))
    for run in list(leaving.values()):
        if run.gang:
            leaving |= {key: mate for key, mate in books.gangs[run.gang].items() if mate.node_id}
    steps = [Evicted(run, run.node_id or "", cause) for _, run in sorted(leaving.items())]
    return [_event(cluster_id, at_ms, step) for step in steps]


def _submit(cluster: Cluster, command: SubmitDeployment) -> list[SchedulingEvent]:
    _check_owner(cluster, command.tenant)
    submitted = DeploymentSubmitted(**asdict(command))
    if known := cluster.deployments.get(command.deployment_id):
        if known.digest == digest_of(submitted):
            return []
        raise DeploymentExists
    if command.unique and any(
        (one.tenant, one.priority) == (command.tenant, command.priority)
        for other, deployment in cluster.deployments.items()
        if deployment.name
        for one in cluster.books.replicas[other].values()
    ):
        raise PriorityIsTaken
    _check_unknown(cluster, (f"{command.deployment_id}-{number + 1}" for number in range(command.replicas)))
    refuse_impossible(cluster, command)
    return _then(cluster, [submitted], replica_of(cluster, submitted, 1).line)


def _scaled(cluster: Cluster, command: ScaleDeployment) -> list[SchedulingEvent]:
    deployment = cluster.deployments.get(command.deployment_id)
    if deployment is None:
        raise DeploymentIsUnknown
    replicas = cluster.books.replicas[command.deployment_id].values()
    missing = command.replicas - len(replicas)
    if not missing:
        return []
    if any(one.gang for one in replicas):
        raise GangIsWhole
    added, removed = list[str](), list[str]()
    if missing > 0:
        numbers = range(deployment.serial + 1, deployment.serial + 1 + missing)
        added = [f"{command.deployment_id}-{number}" for number in numbers]
        _check_unknown(cluster, added)
    else:
        by_need = sorted(replicas, key=lambda one: (one.node_id is not None, -one.sequence))
        removed = [one.container_id for one in by_need[:-missing]]
    return [DeploymentScaled(**asdict(command), added=tuple(added), removed=tuple(sorted(removed)))]


def _repack(cluster_id: ClusterId, cluster: Cluster, moves_max: int, at_ms: int) -> list[SchedulingEvent]:
    """The plan is an event, so that nobody has to find it again; what it moves are events as any other."""
    mark = len(cluster.books.journal)
    try:
        cluster.books.tick(at_ms)
        gain, steps = repack(cluster, moves_max)
        events = told(cluster_id, cluster, steps)
    finally:
        cluster.books.undo(mark)
    moves = [
        Move(container_id=out.container_id, run=out.run, from_node=out.node_id, to_node=back.node_id)
        for out, back in zip(events[::2], events[1::2], strict=True)
        if isinstance(out, RunEvicted) and isinstance(back, RunPlaced)
    ]
    if not moves:
        return []
    plan = ClusterRepacked(cluster_id=cluster_id, moves=tuple(moves), gain=gain, policy=POLICY, at_ms=at_ms)
    return [plan, *events]


def alongside(command: SchedulingCommand, cluster: Cluster) -> tuple[Command, ...]:
    """The names to reserve or to give back: a cluster's, and that of a deployment that is to be `unique`."""
    match command:
        case CreateCluster(cluster_id=cluster_id, name=name) if not cluster.name:
            return (ReserveName(name_id=name_id("cluster", name), holder=cluster_id),)
        case SubmitDeployment(deployment_id=id, unique=True) if id not in cluster.deployments:
            return (ReserveName(name_id=_unique_name(command.tenant, command.name), holder=id),)
        case EndDeployment(deployment_id=id) if known := cluster.deployments.get(id):
            tenant = next(iter(cluster.books.replicas[id].values())).tenant
            name = _unique_name(tenant, known.name)
            return (ReleaseName(name_id=name, holder=id),) if known.name else ()
        case _:
            return ()


def _unique_name(tenant: str, name: str) -> str:
    """A subject's token has its limit, a name's characters may take nine each."""
    return name_id("deployment", sha256(f"{tenant}/{name}".encode()).hexdigest())


decider = Decider(Cluster(), decide, evolve, alongside, explain)
