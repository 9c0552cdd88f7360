"""Scheduling decides who gets which place, and says what is missing to those who wait.

First come, first served: nobody is placed while an older request still waits
that could be placed, or later will be when something is released. Only a
request that is larger than every node on offer is passed by; it loses nothing
by that, and nobody can close a cluster to all others by asking for too much.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import asdict, replace

from core.decider import Decider
from core.message import Command
from core.messages.names import ReserveName, name_id
from core.messages.scheduling import (
    ClusterCreated,
    ClusterExists,
    ClusterId,
    ClusterIsUnknown,
    CreateCluster,
    NodeOffered,
    NodeWithdrawn,
    OfferNode,
    PlacementQueued,
    PlacementReleased,
    ReleasePlacement,
    RequestPlacement,
    RunPlaced,
    SchedulingCommand,
    SchedulingEvent,
    WithdrawNode,
)


class Request(Struct, frozen=True):
    """One run of one container; `node_id` is None while it waits."""

    tenant: str
    container_id: str
    run: int
    cpu_milli: int
    memory_mib: int
    node_id: str | None = None


class Node(Struct, frozen=True):
    """What a node offers in all, and what is promised of it.

    More may be promised than is offered, when an offer has shrunk; then less than nothing is left.
    """

    cpu_milli: int
    memory_mib: int
    cpu_milli_used: int = 0
    memory_mib_used: int = 0
    offered: bool = True

    @property
    def left(self) -> tuple[int, int]:
        """MiB and milli-CPU; memory first, because it is what runs out."""
        return self.memory_mib - self.memory_mib_used, self.cpu_milli - self.cpu_milli_used

    def could_hold(self, request: Request) -> bool:
        """Whether there is room when nothing else is there."""
        return self.offered and request.memory_mib <= self.memory_mib and request.cpu_milli <= self.cpu_milli

    def fits(self, request: Request) -> bool:
        memory_mib, cpu_milli = self.left
        return self.offered and request.memory_mib <= memory_mib and request.cpu_milli <= cpu_milli

    def promise(self, request: Request, times: int = 1) -> Node:
        """With the request's share taken, or, `times=-1`, given back."""
        return replace(
            self,
            cpu_milli_used=self.cpu_milli_used + times * request.cpu_milli,
            memory_mib_used=self.memory_mib_used + times * request.memory_mib,
        )


class Cluster(Struct, frozen=True):
    """All that was asked for and not yet released; `queue` has the keys of those who wait, oldest first.

    The order lies in a tuple of its own, since a dict's does not survive canonical JSON.
    """

    name: str = ""
    nodes: dict[str, Node] = {}
    requests: dict[str, Request] = {}
    queue: tuple[str, ...] = ()


def decide(command: SchedulingCommand, cluster: Cluster) -> list[SchedulingEvent]:
    match command:
        case CreateCluster(name=name):
            if not cluster.name:
                return [ClusterCreated(**asdict(command))]
            if cluster.name == name:
                return []
            raise ClusterExists

        case _ if not cluster.name:
            raise ClusterIsUnknown

        case OfferNode(node_id=node_id, cpu_milli=cpu_milli, memory_mib=memory_mib):
            node = cluster.nodes.get(node_id)
            if node and (node.offered, node.cpu_milli, node.memory_mib) == (True, cpu_milli, memory_mib):
                return []
            return _then_place(cluster, NodeOffered(**asdict(command)))

        case WithdrawNode(node_id=node_id):
            node = cluster.nodes.get(node_id)
            if node is None or not node.offered:
                return []
            return _then_place(cluster, NodeWithdrawn(**asdict(command)))

        case RequestPlacement(container_id=container_id, run=run):
            if _key(container_id, run) in cluster.requests:
                return []
            reason = _shortage(cluster, _request(command))
            return _then_place(cluster, PlacementQueued(**asdict(command), reason=reason))

        case ReleasePlacement(container_id=container_id, run=run):
            if _key(container_id, run) not in cluster.requests:
                return []
            return _then_place(cluster, PlacementReleased(**asdict(command)))


def _then_place(cluster: Cluster, event: SchedulingEvent) -> list[SchedulingEvent]:
    """The event, and everybody who can be placed because of it."""
    cluster_id, cluster = event.cluster_id, evolve(cluster, event)
    nodes, placed = dict(cluster.nodes), list[SchedulingEvent]()
    for key in cluster.queue:
        request = cluster.requests[key]
        if not _could_be_held(nodes, request):
            continue
        node_id = _best_fit(nodes, request)
        if node_id is None:
            break
        nodes[node_id] = nodes[node_id].promise(request)
        placed.append(_placed(cluster_id, request, node_id))
    return [event, *placed]


def _placed(cluster_id: ClusterId, request: Request, node_id: str) -> RunPlaced:
    return RunPlaced(
        cluster_id=cluster_id,
        tenant=request.tenant,
        container_id=request.container_id,
        run=request.run,
        node_id=node_id,
    )


def _could_be_held(nodes: Mapping[str, Node], request: Request) -> bool:
    return any(node.could_hold(request) for node in nodes.values())


def _best_fit(nodes: Mapping[str, Node], request: Request) -> str | None:
    """The node with the least left, so that what is large finds room on another; ties go by name."""
    fitting = ((node.left, node_id) for node_id, node in nodes.items() if node.fits(request))
    return min(fitting, default=(None, None))[1]


def _shortage(cluster: Cluster, request: Request) -> str:
    """What keeps a new request waiting, in one sentence; '' if nothing does."""
    memory_mib, cpu_milli = request.memory_mib, request.cpu_milli
    on_offer = {node_id: node for node_id, node in cluster.nodes.items() if node.offered}
    if not on_offer:
        return "no node takes work"
    if not _could_be_held(on_offer, request):
        memory_mib_max = max(node.memory_mib for node in on_offer.values())
        if memory_mib > memory_mib_max:
            return f"larger than any node: needs {memory_mib} MiB, the largest has {memory_mib_max}"
        cpu_milli_max = max(node.cpu_milli for node in on_offer.values())
        if cpu_milli > cpu_milli_max:
            return f"larger than any node: needs {cpu_milli} mCPU, the largest has {cpu_milli_max}"
        return f"larger than any node: none has {memory_mib} MiB and {cpu_milli} mCPU at once"
    ahead = sum(_could_be_held(on_offer, cluster.requests[key]) for key in cluster.queue)
    if ahead:
        return f"waits behind {ahead} {'other' if ahead == 1 else 'others'}"
    if _best_fit(on_offer, request):
        return ""
    left, freest = max((node.left, node_id) for node_id, node in on_offer.items())
    memory_mib_left, cpu_milli_left = (max(amount, 0) for amount in left)
    return (
        f"needs {memory_mib} MiB and {cpu_milli} mCPU; the freest node {freest} has "
        f"{memory_mib_left} MiB and {cpu_milli_left} mCPU left"
    )


def evolve(cluster: Cluster, event: SchedulingEvent) -> Cluster:
    match event:
        case ClusterCreated(name=name):
            return replace(cluster, name=name)

        case NodeOffered(node_id=node_id, cpu_milli=cpu_milli, memory_mib=memory_mib):
            known = cluster.nodes.get(node_id, Node(0, 0))
            node = replace(known, cpu_milli=cpu_milli, memory_mib=memory_mib, offered=True)
            return replace(cluster, nodes={**cluster.nodes, node_id: node})

        case NodeWithdrawn(node_id=node_id):
            node = replace(cluster.nodes[node_id], offered=False)
            return replace(cluster, nodes={**cluster.nodes, node_id: node})

        case PlacementQueued(container_id=container_id, run=run):
            key = _key(container_id, run)
            requests = {**cluster.requests, key: _request(event)}
            return replace(cluster, requests=requests, queue=(*cluster.queue, key))

        case RunPlaced(container_id=container_id, run=run, node_id=node_id):
            key = _key(container_id, run)
            request = cluster.requests[key]
            return replace(
                cluster,
                nodes={**cluster.nodes, node_id: cluster.nodes[node_id].promise(request)},
                requests={**cluster.requests, key: replace(request, node_id=node_id)},
                queue=_without(cluster.queue, key),
            )

        case PlacementReleased(container_id=container_id, run=run):
            key = _key(container_id, run)
            requests = dict(cluster.requests)
            request = requests.pop(key)
            if request.node_id is None:
                return replace(cluster, requests=requests, queue=_without(cluster.queue, key))
            node = cluster.nodes[request.node_id].promise(request, times=-1)
            return replace(cluster, requests=requests, nodes={**cluster.nodes, request.node_id: node})


def _key(container_id: str, run: int) -> str:
    return f"{container_id}/{run}"


def _request(asked: RequestPlacement | PlacementQueued) -> Request:
    return Request(asked.tenant, asked.container_id, asked.run, asked.cpu_milli, asked.memory_mib)


def _without(queue: tuple[str, ...], key: str) -> tuple[str, ...]:
    place = queue.index(key)
    return queue[:place] + queue[place + 1 :]


def alongside(command: SchedulingCommand, cluster: Cluster) -> tuple[Command, ...]:
    match command:
        case CreateCluster(cluster_id=cluster_id, name=name) if not cluster.name:
            return (ReserveName(name_id=name_id("cluster", name), holder=cluster_id),)
        case _:
            return ()


decider = Decider(Cluster(), decide, evolve, alongside)
