"""Fleet decides what is known of a machine, and whether it takes new work."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict, replace

from core.decider import Decider
from core.messages.fleet import (
    CordonNode,
    DrainNode,
    FleetCommand,
    FleetEvent,
    LoseNode,
    NodeCordoned,
    NodeDrained,
    NodeIsUnknown,
    NodeLost,
    NodeRegistered,
    NodeUncordoned,
    RegisterNode,
    UncordonNode,
)


class Node(Struct, frozen=True):
    """A machine as it last described itself. A cordon outlives any number of descriptions."""

    registered: NodeRegistered | None = None
    cordoned: bool = False
    drained: bool = False
    lost: bool = False


def decide(command: FleetCommand, node: Node) -> list[FleetEvent]:
    match command:
        case RegisterNode(at_ms=at_ms):
            registered = NodeRegistered(**asdict(command))
            if node.registered and replace(node.registered, at_ms=at_ms) == registered and not node.lost:
                return []
            return [registered]

        case _ if node.registered is None:
            raise NodeIsUnknown

        case CordonNode():
            return [] if node.cordoned else [NodeCordoned(**asdict(command))]

        case DrainNode():
            return [] if node.drained else [NodeDrained(**asdict(command))]

        case UncordonNode():
            return [NodeUncordoned(**asdict(command))] if node.cordoned else []

        case LoseNode():
            return [] if node.lost else [NodeLost(**asdict(command))]


def evolve(node: Node, event: FleetEvent) -> Node:
    match event:
        case NodeRegistered():
            return replace(node, registered=event, lost=False)
        case NodeCordoned():
            return replace(node, cordoned=True)
        case NodeDrained():
            return replace(node, cordoned=True, drained=True)
        case NodeUncordoned():
            return replace(node, cordoned=False, drained=False)
        case NodeLost():
            return replace(node, lost=True)


decider = Decider(Node(), decide, evolve)
