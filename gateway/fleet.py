"""Machines at the door: what can be wished of one, and what follows of it for its cluster."""

from __future__ import annotations

from typing import Literal

from core.message import Command
from core.messages.fleet import CordonNode, DrainNode, UncordonNode
from core.messages.scheduling import ClearNode, OfferNode, WithdrawNode
from projections.fleet import Node

Verb = Literal["cordon", "drain", "uncordon"]


def wishes(verb: Verb, node: Node, at_ms: int) -> tuple[Command, Command]:
    """What is wished of the machine, and what the reactors will wish of its cluster then."""
    id, cluster_id = node.node_id, node.cluster_id
    match verb:
        case "cordon":
            withdraw = WithdrawNode(cluster_id=cluster_id, node_id=id, at_ms=at_ms)
            return CordonNode(node_id=id, at_ms=at_ms), withdraw
        case "drain":
            clear = ClearNode(cluster_id=cluster_id, node_id=id, cause="drained", at_ms=at_ms)
            return DrainNode(node_id=id, at_ms=at_ms), clear
        case "uncordon":
            offer = OfferNode(
                cluster_id=cluster_id,
                node_id=id,
                cpu_milli=node.cpu_milli,
                memory_mib=node.memory_mib,
                gpus=node.gpus,
                gpu_model=node.gpu_model,
                at_ms=at_ms,
            )
            return UncordonNode(node_id=id, at_ms=at_ms), offer
