"""The machines as they last described themselves."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.messages.fleet import (
    FleetEvent,
    NodeCordoned,
    NodeDrained,
    NodeId,
    NodeLost,
    NodeRegistered,
    NodeUncordoned,
)


class Node(Struct, frozen=True):
    """`at_ms` is when it first came, `since` the log position of what was last said about it.

    A `cordoned` node takes nothing new, from a `drained` or `lost` one all goes elsewhere.
    """

    node_id: NodeId
    ordinal: int
    cluster_id: str
    address: str
    engine: str
    cpu_milli: int
    memory_mib: int
    cordoned: bool
    at_ms: int
    since: int
    gpus: int = 0
    gpu_model: str = ""
    drained: bool = False
    lost: bool = False

    @property
    def takes_work(self) -> bool:
        return not (self.cordoned or self.lost)


class Fleet:
    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def nodes(self) -> list[Node]:
        """In the order in which they first came."""
        return list(self._nodes.values())

    def node(self, node_id: str) -> Node | None:
        return self._nodes.get(node_id)

    def state(self) -> Any:
        return self._nodes

    def apply(self, tenant: str, position: int, event: FleetEvent) -> None:
        known = self._nodes.get(event.node_id)
        match event:
            case NodeRegistered(node_id=id):
                self._nodes[id] = Node(
                    node_id=id,
                    ordinal=known.ordinal if known else len(self._nodes) + 1,
                    cluster_id=event.cluster_id,
                    address=event.address,
                    engine=event.engine,
                    cpu_milli=event.cpu_milli,
                    memory_mib=event.memory_mib,
                    cordoned=known.cordoned if known else False,
                    at_ms=known.at_ms if known else event.at_ms,
                    since=position,
                    gpus=event.gpus,
                    gpu_model=event.gpu_model,
                    drained=known.drained if known else False,
                )
            case NodeCordoned(node_id=id):
                if known:
                    self._nodes[id] = replace(known, cordoned=True, since=position)
            case NodeDrained(node_id=id):
                if known:
                    self._nodes[id] = replace(known, cordoned=True, drained=True, since=position)
            case NodeUncordoned(node_id=id):
                if known:
                    self._nodes[id] = replace(known, cordoned=False, drained=False, since=position)
            case NodeLost(node_id=id):
                if known:
                    self._nodes[id] = replace(known, lost=True, since=position)
