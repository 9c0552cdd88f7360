"""Capacity: a cluster is offered the nodes that are in it and take new work."""

from __future__ import annotations

from core.contexts import PLATFORM
from core.messages.scheduling import CreateCluster, OfferNode, WithdrawNode
from handlers.reactors.placement import CLUSTER
from handlers.reactors.wish import Wish
from projections.fleet import Node
from projections.pending import Outlook
from projections.scheduling import Cluster


def plan(views: Outlook, now_ms: int) -> list[Wish]:
    clusters, nodes = views.scheduling.clusters, views.fleet.nodes()
    needed = [node.cluster_id for node in nodes]
    if views.pending.placements:
        needed.append(CLUSTER)
    missing = [id for id in dict.fromkeys(needed) if id not in clusters]
    wishes = [Wish(PLATFORM, CreateCluster(cluster_id=id, name=id, at_ms=now_ms), id) for id in missing]
    for node in nodes:
        home = clusters.get(node.cluster_id)
        if home and not node.cordoned:
            wishes += _offer(home, node)
        for cluster in clusters.values():
            if node.cordoned or cluster is not home:
                wishes += _withdraw(cluster, node)
    return wishes


def _offer(cluster: Cluster, node: Node) -> list[Wish]:
    offer = cluster.offers.get(node.node_id)
    if offer and (offer.open, offer.cpu_milli, offer.memory_mib) == (True, node.cpu_milli, node.memory_mib):
        return []
    command = OfferNode(
        cluster_id=cluster.cluster_id,
        node_id=node.node_id,
        cpu_milli=node.cpu_milli,
        memory_mib=node.memory_mib,
    )
    return [Wish(PLATFORM, command, f"{cluster.cluster_id}:{node.node_id}:{node.since}")]


def _withdraw(cluster: Cluster, node: Node) -> list[Wish]:
    offer = cluster.offers.get(node.node_id)
    if offer is None or not offer.open:
        return []
    command = WithdrawNode(cluster_id=cluster.cluster_id, node_id=node.node_id)
    return [Wish(PLATFORM, command, f"{cluster.cluster_id}:{node.node_id}:{node.since}")]
