"""Fleet decides what is known of a machine, and whether it takes new work."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict, replace

from core.decider import Decider
from core.messages.fleet import (
    CordonNode,
    FleetCommand,
    FleetEvent,
    NodeCordoned,
    NodeIsUnknown,
    NodeRegistered,
    NodeUncordoned,
    RegisterNode,
    UncordonNode,
)


class Node(Struct, frozen=True):
    """A machine as it last described itself. A cordon outlives any number of descriptions."""

    registered: NodeRegistered | None = None
    cordoned: bool = False


def decide(command: FleetCommand, node: Node) -> list[FleetEvent]:
    match command:
        case RegisterNode(at_ms=at_ms):
            registered = NodeRegistered(**asdict(command))
            if node.registered and replace(node.registered, at_ms=at_ms) == registered:
                return []
            return [registered]

        case _ if node.registered is None:
            raise NodeIsUnknown

        case CordonNode():
            return [] if node.cordoned else [NodeCordoned(**asdict(command))]

        case UncordonNode():
            return [NodeUncordoned(**asdict(command))] if node.cordoned else []


def evolve(node: Node, event: FleetEvent) -> Node:
    match event:
        case NodeRegistered():
            return replace(node, registered=event)
        case NodeCordoned():
            return replace(node, cordoned=True)
        case NodeUncordoned():
            return replace(node, cordoned=False)


decider = Decider(Node(), decide, evolve)
