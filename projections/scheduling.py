"""Who has which place, who waits for one, and who has to leave the one it had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.messages.containers import ContainerDeleted, ContainerStopped
from core.messages.deployments import DeploymentEnded, DeploymentScaled, DeploymentSubmitted, Share
from core.messages.scheduling import (
    VIRTUAL,
    Cause,
    ClusterCreated,
    ClusterId,
    PlacementPassed,
    PlacementQueued,
    PlacementReleased,
    RunEvicted,
    RunPlaced,
    SchedulingEvent,
)
from projections.clusters import Cluster, changed, created

Run = tuple[str, int]
"""A container's id and the number of its run."""


class Eviction(Struct, frozen=True):
    """How a container lost its place the last time; as in `RunEvicted`."""

    run: int
    node_id: str
    cause: Cause
    by: str
    victims: tuple[str, ...]
    cost: tuple[int, ...]
    at_ms: int
    position: int


class Place(Struct, frozen=True):
    """A place one run has asked for, and has (`node_id`) or waits for.

    `reason` is what held it back when it asked, '' if nothing did or it was not asked.
    `sequence` is its turn among equals. `placed_at` is the log position where it was placed,
    as run `placed_run`.
    """

    cluster_id: ClusterId
    tenant: str
    container_id: str
    run: int
    share: Share
    reason: str
    at_ms: int
    priority: int
    sequence: int
    deployment_id: str | None = None
    node_id: str | None = None
    devices: tuple[int, ...] = ()
    placed_at: int = 0
    placed_run: int = 0
    evictions: int = 0
    evicted: Eviction | None = None


class Leaving(Struct, frozen=True):
    """A run whose place is somebody else's already, but which may not have stopped yet.

    It was `placed_on` a node of `cluster_id`; `node_id` is whose agent ran it, '' if nobody's did.
    """

    node_id: str
    cluster_id: str
    placed_on: str
    share: Share
    devices: tuple[int, ...]
    evicted: bool


class Queue:
    def __init__(self) -> None:
        self.clusters: dict[str, Cluster] = {}
        self._places: dict[Run, Place] = {}
        self._of_container: dict[str, dict[Run, None]] = {}
        self._waiting: dict[str, dict[Run, None]] = {}
        self._placed_on: dict[tuple[str, str], dict[Run, None]] = {}
        self._leaving: dict[Run, Leaving] = {}
        self._deployments: dict[str, tuple[DeploymentSubmitted, dict[str, None]]] = {}
        self._sequence = 0

    def cluster(self, cluster_id: str) -> Cluster | None:
        return self.clusters.get(cluster_id)

    def waiting(self, cluster_id: str) -> list[Place]:
        """Highest priority first, and then first come."""
        places = [self._places[run] for run in self._waiting.get(cluster_id, ())]
        return sorted(places, key=lambda place: (-place.priority, place.sequence))

    def place(self, container_id: str, run: int) -> Place | None:
        """None when none was asked for, or it has been released."""
        return self._places.get((container_id, run))

    def places(self, container_id: str) -> list[Place]:
        """Of all its runs that have one or wait for one; mostly that is one."""
        return [self._places[run] for run in self._of_container.get(container_id, ())]

    def placement(self, container_id: str, run: int) -> str | None:
        """The node that has been told to carry the run."""
        place = self._places.get((container_id, run))
        return place.node_id if place else None

    def agent_of(self, place: Place) -> str | None:
        """Whose agent runs it: the node's own, or the one that carries for the cluster's totals."""
        if place.node_id is None:
            return None
        return self._agent(place.cluster_id, place.node_id)

    def placed_on(self, node_id: str) -> list[Run]:
        """What the agent of this node has to run, in the order in which it was told."""
        found = list[Run]()
        for cluster_id, cluster in self.clusters.items():
            found += self._placed_on.get((cluster_id, node_id), ())
            virtual = cluster.offers.get(VIRTUAL)
            if virtual is not None and virtual.carrier == node_id:
                found += self._placed_on.get((cluster_id, VIRTUAL), ())
        return found

    def held_on(self, cluster_id: str, node_id: str) -> list[Place]:
        return [self._places[run] for run in self._placed_on.get((cluster_id, node_id), ())]

    def leaving(self) -> dict[Run, Leaving]:
        """The runs that have lost their places and have not been heard to stop."""
        return self._leaving

    def is_leaving(self, container_id: str, run: int) -> bool:
        return (container_id, run) in self._leaving

    def is_crowded(self, place: Place, lives: Callable[[Run], bool]) -> bool:
        """Whether its node would carry too much if it started before those that leave have left."""
        if place.node_id is None or not self._leaving:
            return False
        here = (place.cluster_id, place.node_id)
        leaving = [
            one
            for run, one in self._leaving.items()
            if (one.cluster_id, one.placed_on) == here and lives(run)
        ]
        cluster = self.clusters.get(place.cluster_id)
        offer = cluster.offers.get(place.node_id) if cluster else None
        if not leaving or offer is None:
            return False
        shares = [one.share for one in self.held_on(place.cluster_id, place.node_id)]
        shares += [one.share for one in leaving]
        return (
            sum(share.cpu_milli for share in shares) > offer.cpu_milli
            or sum(share.memory_mib for share in shares) > offer.memory_mib
            or any(set(place.devices) & set(one.devices) for one in leaving)
        )

    def state(self) -> Any:
        return [self.clusters, list(self._places.values()), sorted(self._leaving.items())]

    def apply(
        self, tenant: str, position: int, event: SchedulingEvent | ContainerStopped | ContainerDeleted
    ) -> None:
        match event:
            case PlacementQueued():
                share = Share(
                    event.cpu_milli, event.memory_mib, event.gpus, event.gpu_milli, event.gpu_models
                )
                self._enter(
                    Place(
                        cluster_id=event.cluster_id,
                        tenant=event.tenant,
                        container_id=event.container_id,
                        run=event.run,
                        share=share,
                        reason=event.reason,
                        at_ms=event.at_ms,
                        priority=event.priority,
                        sequence=self._next(),
                    )
                )
            case RunPlaced():
                self._placed(position, event)
            case RunEvicted():
                self._evicted(position, event)
            case PlacementReleased():
                self._leave((event.container_id, event.run))
            case PlacementPassed():
                if place := self._leave((event.container_id, event.run)):
                    self._enter(replace(place, run=place.run + 1))
            case ContainerStopped(container_id=id, run=run):
                self._leaving.pop((id, run), None)
            case ContainerDeleted(container_id=id):
                if self._leaving:
                    for left in [left for left in self._leaving if left[0] == id]:
                        del self._leaving[left]
            case DeploymentSubmitted(deployment_id=id, replicas=replicas):
                self._deployments[id] = (event, {})
                self._replicas(id, [f"{id}-{number}" for number in range(1, replicas + 1)], event.at_ms)
            case DeploymentScaled(deployment_id=id, added=added, removed=removed):
                for container_id in removed:
                    self._dismiss(container_id)
                self._replicas(id, added, event.at_ms)
            case DeploymentEnded(deployment_id=id):
                _, containers = self._deployments.pop(id, (None, {}))
                for container_id in containers:
                    self._dismiss(container_id)
            case ClusterCreated():
                self.clusters[event.cluster_id] = created(event, len(self.clusters) + 1)
            case _:
                if cluster := self.clusters.get(event.cluster_id):
                    self.clusters[event.cluster_id] = changed(cluster, event)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _agent(self, cluster_id: str, node_id: str) -> str:
        if node_id != VIRTUAL:
            return node_id
        cluster = self.clusters.get(cluster_id)
        return cluster.offers[node_id].carrier if cluster and node_id in cluster.offers else ""

    def _replicas(self, deployment_id: str, names: Iterable[str], at_ms: int) -> None:
        if deployment_id not in self._deployments:
            return
        submitted, containers = self._deployments[deployment_id]
        for name in names:
            containers[name] = None
            self._enter(
                Place(
                    cluster_id=ClusterId(submitted.cluster_id),
                    tenant=submitted.tenant,
                    container_id=name,
                    run=1,
                    share=submitted.share,
                    reason="",
                    at_ms=at_ms,
                    priority=submitted.priority,
                    sequence=self._next(),
                    deployment_id=submitted.deployment_id,
                )
            )

    def _enter(self, place: Place) -> None:
        run = (place.container_id, place.run)
        self._places[run] = place
        self._of_container.setdefault(place.container_id, {})[run] = None
        if place.node_id is None:
            self._waiting.setdefault(place.cluster_id, {})[run] = None
        else:
            self._placed_on.setdefault((place.cluster_id, place.node_id), {})[run] = None

    def _leave(self, run: Run) -> Place | None:
        place = self._places.pop(run, None)
        if place is None:
            return None
        runs = self._of_container[run[0]]
        del runs[run]
        if not runs:
            del self._of_container[run[0]]
        if place.node_id is None:
            self._waiting[place.cluster_id].pop(run, None)
        else:
            self._placed_on[place.cluster_id, place.node_id].pop(run, None)
        return place

    def _placed(self, position: int, event: RunPlaced) -> None:
        run = (event.container_id, event.run)
        if place := self._leave(run):
            self._enter(
                replace(
                    place,
                    node_id=event.node_id,
                    devices=event.devices,
                    placed_at=position,
                    placed_run=event.run,
                )
            )

    def _evicted(self, position: int, event: RunEvicted) -> None:
        place = self._leave((event.container_id, event.run))
        if place is None:
            return
        self._lets_go(place, evicted=True)
        if (place.container_id, place.run + 1) in self._places:
            return  # the next run has asked for itself already
        eviction = Eviction(
            run=event.run,
            node_id=event.node_id,
            cause=event.cause,
            by=event.by,
            victims=event.victims,
            cost=event.cost,
            at_ms=event.at_ms,
            position=position,
        )
        self._enter(
            replace(
                place,
                run=place.run + 1,
                node_id=None,
                devices=(),
                placed_at=0,
                evictions=place.evictions + 1,
                evicted=eviction,
            )
        )

    def _dismiss(self, container_id: str) -> None:
        """Whatever it holds or waits for is not its own any more."""
        for run in list(self._of_container.get(container_id, ())):
            if place := self._leave(run):
                self._lets_go(place, evicted=False)

    def _lets_go(self, place: Place, *, evicted: bool) -> None:
        if place.node_id is not None:
            agent = self._agent(place.cluster_id, place.node_id)
            self._leaving[place.container_id, place.run] = Leaving(
                agent, place.cluster_id, place.node_id, place.share, place.devices, evicted
            )
