"""What has been decided and waits for somebody to carry it out: what the reactors work through.

Kept up to date event by event, so that asking costs what is to be done and not
all that was ever done; and only where it is asked for, since it takes nearly
as long to follow as all the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from msgspec import Struct

from core.messages.catalog import ImageDeleted, Instance, InstanceRetired, InstancesLaunched
from core.messages.containers import (
    ContainerCreated,
    ContainerDeleted,
    ContainerStarted,
    ContainerStopped,
    DeletionRequested,
    RunRequested,
    StopRequested,
)
from core.messages.deployments import DeploymentEnded, DeploymentScaled, DeploymentSubmitted
from core.messages.fleet import NodeRegistered
from core.messages.scheduling import (
    PlacementPassed,
    PlacementQueued,
    PlacementReleased,
    RunEvicted,
    RunPlaced,
)
from projections.catalog import Catalog
from projections.containers import Container, Pool
from projections.deployments import Deployment, Deployments
from projections.hearts import Hearts
from projections.scheduling import Place, Queue, Run
from projections.views import Views

K = TypeVar("K")
T = TypeVar("T")

GOOD_RUN_MS = 60_000
"""A run that lived longer than this was no failed start."""

Turn = (
    InstancesLaunched
    | InstanceRetired
    | ImageDeleted
    | PlacementQueued
    | RunPlaced
    | RunEvicted
    | PlacementReleased
    | PlacementPassed
    | DeploymentSubmitted
    | DeploymentScaled
    | DeploymentEnded
    | ContainerCreated
    | RunRequested
    | StopRequested
    | DeletionRequested
    | ContainerStarted
    | ContainerStopped
    | ContainerDeleted
)
"""Every event after which there may be more to do, or less."""


class Launched(Struct, frozen=True):
    """An instance of an image that has no container yet."""

    tenant: str
    instance: Instance
    launch: InstancesLaunched


class Ended(Struct, frozen=True):
    """The latest run of a container that is still wanted; `in_a_row` counts the failures up to it."""

    tenant: str
    container_id: str
    run: int
    ended_ms: int
    in_a_row: int


class Retired(Struct, frozen=True):
    """A container that is gone while its image still counts it."""

    tenant: str
    image_id: str
    container_id: str


class Pending:
    """Reads the projections it is given, which must have been told of each event before it.

    `replicas` are containers to be created for their deployments, `placements` runs that
    have not asked for a place, `unplaced_stops` runs that shall stop and that no node
    knows of, `releases` places of runs that are over, `passes` those of runs after which
    there will be another, `restarts` runs that ended unasked, `deletions` containers whose
    image or deployment is gone, `endings` deployments whose image is gone, `completions`
    those that have done their work.
    """

    def __init__(
        self, catalog: Catalog, containers: Pool, scheduling: Queue, deployments: Deployments
    ) -> None:
        self._catalog, self._containers, self._scheduling = catalog, containers, scheduling
        self._deployments = deployments
        self.launches: dict[str, Launched] = {}
        self.replicas: dict[str, Deployment] = {}
        self.placements: dict[str, Container] = {}
        self.unplaced_stops: dict[str, Container] = {}
        self.releases: dict[Run, Place] = {}
        self.passes: dict[Run, Place] = {}
        self.restarts: dict[str, Ended] = {}
        self.deletions: dict[str, Container] = {}
        self.endings: dict[str, Deployment] = {}
        self.completions: dict[str, Deployment] = {}
        self.retirements: dict[str, Retired] = {}
        self._failures: dict[str, int] = {}
        self._deleted_images: set[str] = set()
        self._gone: dict[str, set[str]] = {}

    def apply(self, tenant: str, position: int, event: Turn) -> None:
        match event:
            case RunPlaced() | ContainerStarted() | DeletionRequested():
                self._review(event.container_id)
            case RunRequested(container_id=id):
                self._review(id)
                self._review_places(id)
            case ContainerStopped(container_id=id, run=run):
                self._count(event)
                self._review(id)
                self._review_places(id)
            case PlacementQueued(container_id=id):
                self._review(id)
                self._review_places(id)
            case PlacementReleased(container_id=id, run=run) | PlacementPassed(container_id=id, run=run):
                self._settled(id, run)
            case RunEvicted(container_id=id, run=run):
                self._settled(id, run)
            case StopRequested(container_id=id):
                self._failures.pop(id, None)
                self._review(id)
                self._review_places(id)
            case ContainerCreated(container_id=id):
                self.launches.pop(id, None)
                self.replicas.pop(id, None)
                self._review(id)
            case DeploymentSubmitted(deployment_id=id, replicas=replicas):
                self._replicate(id, [f"{id}-{number}" for number in range(1, replicas + 1)])
                if event.image_id in self._deleted_images:
                    self._end(self._deployments.deployment(id))
            case DeploymentScaled(deployment_id=id, added=added, removed=removed):
                self._replicate(id, added)
                self._dismiss(removed)
                self._review_completion(id)
            case DeploymentEnded(deployment_id=id):
                self.endings.pop(id, None)
                self.completions.pop(id, None)
                if deployment := self._deployments.deployment(id):
                    self._dismiss(deployment.containers)
            case ContainerDeleted(container_id=id, image_id=image_id):
                self._failures.pop(id, None)
                self._review(id)
                self._review_places(id)
                if image := self._catalog.image(image_id):
                    self._gone.setdefault(image_id, set()).add(id)
                    if id in image.instances:
                        self.retirements[id] = Retired(tenant, image_id, id)
            case InstancesLaunched(instances=instances):
                for instance in instances:
                    self._launch(tenant, instance, event)
            case InstanceRetired(container_id=id):
                self.launches.pop(id, None)
                self.retirements.pop(id, None)
            case ImageDeleted(image_id=image_id):
                self._forget(image_id)

    def _launch(self, tenant: str, instance: Instance, event: InstancesLaunched) -> None:
        """A container is created once: who launches one that is gone gets no other by that name."""
        id = instance.container_id
        if id in self._gone.get(event.image_id, ()):
            self.retirements[id] = Retired(tenant, event.image_id, id)
        elif self._containers.container(id) is None:
            self.launches[id] = Launched(tenant, instance, event)

    def _end(self, deployment: Deployment | None) -> None:
        if deployment is not None:
            self.endings[deployment.deployment_id] = deployment

    def _replicate(self, deployment_id: str, container_ids: Iterable[str]) -> None:
        if deployment := self._deployments.deployment(deployment_id):
            unknown = [id for id in container_ids if self._containers.container(id) is None]
            self.replicas |= dict.fromkeys(unknown, deployment)

    def _dismiss(self, container_ids: Iterable[str]) -> None:
        for id in container_ids:
            self.replicas.pop(id, None)
            self._review(id)
            for run in [run for run in (*self.releases, *self.passes) if run[0] == id]:
                self._settled(*run)

    def _settled(self, container_id: str, run: int) -> None:
        self.releases.pop((container_id, run), None)
        self.passes.pop((container_id, run), None)
        self._review(container_id)
        self._review_places(container_id)

    def _review(self, container_id: str) -> None:
        """Which lists the container belongs on follows from what it is, not from how it came to be."""
        c = self._containers.container(container_id)
        placing = stopping = orphaned = restarting = False
        if c is not None:
            orphaned = not c.deleting and (c.image_id in self._deleted_images or self._is_superfluous(c))
            if c.status == "stopped":
                restarting = c.wanted and not self._is_superfluous(c) and not self._is_done(c)
            elif c.run:
                place = self._scheduling.place(container_id, c.run)
                leaving = self._scheduling.is_leaving(container_id, c.run)
                placing = c.wanted and place is None and not leaving and c.deployment_id is None
                unplaced = c.status != "running" and (place is None or place.node_id is None)
                stopping = unplaced and not c.wanted and not leaving
        if c is not None and c.deployment_id is not None:
            self._review_completion(c.deployment_id)
        _keep(self.placements, container_id, c if placing else None)
        _keep(self.unplaced_stops, container_id, c if stopping else None)
        _keep(self.deletions, container_id, c if orphaned else None)
        _keep(self.restarts, container_id, self._ended(c) if c and restarting else None)

    def _is_done(self, c: Container) -> bool:
        """A replica that has done its work, which is not for ever."""
        deployment = self._deployments.deployment(c.deployment_id or "")
        has_ended = c.status == "stopped" and c.ending == "exited" and c.exit_code == 0
        return has_ended and deployment is not None and deployment.restart == "on_failure"

    def _review_completion(self, deployment_id: str) -> None:
        deployment = self._deployments.deployment(deployment_id)
        if deployment is None or deployment.restart == "always":
            return
        replicas = [self._containers.container(id) for id in deployment.containers]
        done = deployment.outcome is None and all(c is not None and self._is_done(c) for c in replicas)
        _keep(self.completions, deployment_id, deployment if done else None)

    def _is_superfluous(self, c: Container) -> bool:
        """A replica of a deployment that has ended, or that is smaller by now."""
        if c.deployment_id is None:
            return False
        deployment = self._deployments.deployment(c.deployment_id)
        return (
            deployment is None
            or deployment.outcome is not None
            or c.container_id not in deployment.containers
        )

    def _review_places(self, container_id: str) -> None:
        """A place goes with its run; but to the next one, where there will be one.

        Only its deployment gives back what a replica has.
        """
        c = self._containers.container(container_id)
        for place in self._scheduling.places(container_id):
            run, releasing, passing = (container_id, place.run), False, False
            if place.deployment_id is not None:
                stopped = c is not None and c.status == "stopped" and c.wanted and not self._is_done(c)
                passing = c is not None and (place.run < c.run or (place.run == c.run and stopped))
            elif c is None or place.run < c.run:
                releasing = True
            elif c.status == "stopped":
                passing = c.wanted and place.run == c.run
                releasing = not c.wanted
            _keep(self.releases, run, place if releasing else None)
            _keep(self.passes, run, place if passing else None)

    def _ended(self, c: Container) -> Ended:
        failures = 0 if c.ending == "evicted" else self._failures.get(c.container_id, 1)
        return Ended(c.tenant, c.container_id, c.run, c.stopped_ms or 0, failures)

    def _count(self, event: ContainerStopped) -> None:
        id = event.container_id
        c = self._containers.container(id)
        if c is None or not c.wanted:
            self._failures.pop(id, None)
            return
        if event.ending == "evicted":
            return
        lived_ms = event.at_ms - c.started_ms if c.started_ms is not None else 0
        self._failures[id] = 1 if lived_ms > GOOD_RUN_MS else self._failures.get(id, 0) + 1

    def _forget(self, image_id: str) -> None:
        """Of a deleted image nothing is launched any more, nothing is counted, and all is deleted."""
        self._deleted_images.add(image_id)
        self._gone.pop(image_id, None)
        for id in [id for id, launched in self.launches.items() if launched.launch.image_id == image_id]:
            del self.launches[id]
        for id in [id for id, retired in self.retirements.items() if retired.image_id == image_id]:
            del self.retirements[id]
        for container in self._containers.of_image(image_id):
            self._review(container.container_id)
        for deployment in self._deployments.of_image(image_id):
            self._end(deployment)


class Outlook(Views):
    """Views that also show what is to be done, and who is alive to do it."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending(self.catalog, self.containers, self.scheduling, self.deployments)
        self.hearts = Hearts()
        self.tell(self._returned, NodeRegistered)
        self.tell(self.pending.apply, Turn)

    def _returned(self, tenant: str, position: int, event: NodeRegistered) -> None:
        self.hearts.returned(event.node_id)


def _keep(things: dict[K, T], key: K, thing: T | None) -> None:
    if thing is not None:
        things[key] = thing
    elif things:
        things.pop(key, None)
