"""Who has which place, and who waits for one, and why."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.messages.scheduling import (
    ClusterCreated,
    ClusterId,
    NodeOffered,
    NodeWithdrawn,
    PlacementQueued,
    PlacementReleased,
    RunPlaced,
    SchedulingEvent,
)

Run = tuple[str, int]
"""A container's id and the number of its run."""


class Offer(Struct, frozen=True):
    """What a node may be given in all; `open` is False once it has been withdrawn."""

    node_id: str
    cpu_milli: int
    memory_mib: int
    open: bool


class Cluster(Struct, frozen=True):
    cluster_id: ClusterId
    ordinal: int
    name: str
    at_ms: int
    offers: dict[str, Offer] = {}


class Place(Struct, frozen=True):
    """A place one run has asked for, and has (`node_id`) or waits for.

    `reason` is what held it back when it asked, '' if nothing did.
    """

    cluster_id: ClusterId
    tenant: str
    container_id: str
    run: int
    cpu_milli: int
    memory_mib: int
    reason: str
    at_ms: int
    node_id: str | None = None


class Queue:
    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}
        self._places: dict[Run, Place] = {}
        self._waiting: dict[str, dict[Run, None]] = {}
        self._placed_on: dict[str, dict[Run, None]] = {}

    def waiting(self, cluster_id: str) -> list[Place]:
        """In the order in which they will be served."""
        return [self._places[run] for run in self._waiting.get(cluster_id, ())]

    def place(self, container_id: str, run: int) -> Place | None:
        """None when none was asked for, or it has been released."""
        return self._places.get((container_id, run))

    def placement(self, container_id: str, run: int) -> str | None:
        """The node that has been told to carry the run."""
        place = self._places.get((container_id, run))
        return place.node_id if place else None

    def placed_on(self, node_id: str) -> list[Run]:
        """What the node has to carry, in the order in which it was told."""
        return list(self._placed_on.get(node_id, ()))

    def state(self) -> Any:
        return [self.clusters, list(self._places.values())]

    def apply(self, tenant: str, position: int, event: SchedulingEvent) -> None:
        match event:
            case PlacementQueued():
                run = (event.container_id, event.run)
                self._places[run] = Place(
                    cluster_id=event.cluster_id,
                    tenant=event.tenant,
                    container_id=event.container_id,
                    run=event.run,
                    cpu_milli=event.cpu_milli,
                    memory_mib=event.memory_mib,
                    reason=event.reason,
                    at_ms=event.at_ms,
                )
                self._waiting.setdefault(event.cluster_id, {})[run] = None
            case RunPlaced(node_id=node_id):
                run = (event.container_id, event.run)
                if place := self._places.get(run):
                    self._waiting[place.cluster_id].pop(run, None)
                    self._placed_on.setdefault(node_id, {})[run] = None
                    self._places[run] = replace(place, node_id=node_id)
            case PlacementReleased():
                run = (event.container_id, event.run)
                if released := self._places.pop(run, None):
                    self._waiting[released.cluster_id].pop(run, None)
                    self._placed_on.get(released.node_id or "", {}).pop(run, None)
            case ClusterCreated(cluster_id=id):
                self.clusters[id] = Cluster(id, len(self.clusters) + 1, event.name, event.at_ms)
            case NodeOffered(cluster_id=id):
                offer = Offer(event.node_id, event.cpu_milli, event.memory_mib, open=True)
                self._offer(id, offer)
            case NodeWithdrawn(cluster_id=id, node_id=node_id):
                cluster = self.clusters.get(id)
                if cluster and (known := cluster.offers.get(node_id)):
                    self._offer(id, replace(known, open=False))

    def _offer(self, cluster_id: str, offer: Offer) -> None:
        if cluster := self.clusters.get(cluster_id):
            self.clusters[cluster_id] = replace(cluster, offers={**cluster.offers, offer.node_id: offer})
