"""Capacity: a cluster is offered the nodes that are in it and take work, and loses those that do not."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from core.contexts import PLATFORM
from core.messages.scheduling import (
    VIRTUAL,
    CarryNode,
    ClearNode,
    CreateCluster,
    OfferNode,
    WithdrawNode,
)
from handlers.reactors.placement import CLUSTER
from handlers.reactors.wish import Wish
from projections.clusters import Cluster
from projections.fleet import Node
from projections.pending import Outlook


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    clusters, nodes = views.scheduling.clusters, views.fleet.nodes()
    needed = [node.cluster_id for node in nodes]
    if views.pending.placements:
        needed.append(CLUSTER)
    missing = [id for id in dict.fromkeys(needed) if id not in clusters]
    wishes = [Wish(PLATFORM, CreateCluster(cluster_id=id, name=id, at_ms=now_ms), id) for id in missing]
    for node in nodes:
        home = clusters.get(node.cluster_id)
        if home and node.takes_work:
            wishes += _offer(home, node, now_ms)
        for cluster in clusters.values():
            if node.node_id in cluster.offers and not (node.takes_work and cluster is home):
                wishes += _withdraw(views, cluster, node, now_ms)
    return wishes + _carry(views, now_ms)


def _offer(cluster: Cluster, node: Node, now_ms: int) -> list[Wish]:
    offer = cluster.offers.get(node.node_id)
    same = (node.cpu_milli, node.memory_mib, node.gpus, node.gpu_model)
    if offer and offer.open and (offer.cpu_milli, offer.memory_mib, offer.gpus, offer.gpu_model) == same:
        return []
    command = OfferNode(
        cluster_id=cluster.cluster_id,
        node_id=node.node_id,
        cpu_milli=node.cpu_milli,
        memory_mib=node.memory_mib,
        gpus=node.gpus,
        gpu_model=node.gpu_model,
        at_ms=now_ms,
    )
    return [Wish(PLATFORM, command, _about(cluster, node))]


def _withdraw(views: Outlook, cluster: Cluster, node: Node, now_ms: int) -> list[Wish]:
    id, node_id = cluster.cluster_id, node.node_id
    if node.lost or node.drained:
        if not cluster.offers[node_id].open and not views.scheduling.held_on(id, node_id):
            return []
        cause: Literal["lost", "drained"] = "lost" if node.lost else "drained"
        clear = ClearNode(cluster_id=id, node_id=node_id, cause=cause, at_ms=now_ms)
        return [Wish(PLATFORM, clear, _about(cluster, node))]
    if not cluster.offers[node_id].open:
        return []
    withdraw = WithdrawNode(cluster_id=id, node_id=node_id, at_ms=now_ms)
    return [Wish(PLATFORM, withdraw, _about(cluster, node))]


def _about(cluster: Cluster, node: Node) -> str:
    return f"{cluster.cluster_id}:{node.node_id}:{node.since}"


def _carry(views: Outlook, now_ms: int) -> list[Wish]:
    """A cluster of fixed totals is carried by the machine that carries the fewest."""
    virtual = [one for one in views.scheduling.clusters.values() if VIRTUAL in one.offers]
    able = {node.node_id: node for node in views.fleet.nodes() if not node.lost and not node.drained}
    carried = Counter(one.offers[VIRTUAL].carrier for one in virtual)
    wishes = []
    for cluster in virtual:
        before = cluster.offers[VIRTUAL].carrier
        takers = [node for node in able.values() if node.takes_work]
        if before in able or not takers:
            continue
        carrier = min(takers, key=lambda node: (carried[node.node_id], node.ordinal))
        carried[carrier.node_id] += 1
        former = views.fleet.node(before)
        command = CarryNode(
            cluster_id=cluster.cluster_id,
            node_id=VIRTUAL,
            carrier=carrier.node_id,
            at_ms=now_ms,
            cause="drained" if former and not former.lost else "lost",
        )
        wishes.append(Wish(PLATFORM, command, f"{_about(cluster, carrier)}:{before}"))
    return wishes
