"""What has been decided and waits for somebody to carry it out: what the reactors work through.

Kept up to date event by event, so that asking costs what is to be done and not
all that was ever done; and only where it is asked for, since it takes nearly
as long to follow as all the rest.
"""

from __future__ import annotations

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
from core.messages.scheduling import PlacementQueued, PlacementReleased, RunPlaced
from projections.catalog import Catalog
from projections.containers import Container, Pool
from projections.scheduling import Place, Queue, Run
from projections.views import Views

T = TypeVar("T")

GOOD_RUN_MS = 60_000
"""A run that lived longer than this was no failed start."""

Turn = (
    InstancesLaunched
    | InstanceRetired
    | ImageDeleted
    | PlacementQueued
    | RunPlaced
    | PlacementReleased
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

    `placements` are runs that have not asked for a place, `unplaced_stops` runs that shall
    stop and that no node knows of, `releases` places of runs that are over, `restarts` runs
    that ended unasked, `deletions` containers whose image is gone.
    """

    def __init__(self, catalog: Catalog, containers: Pool, scheduling: Queue) -> None:
        self._catalog, self._containers, self._scheduling = catalog, containers, scheduling
        self.launches: dict[str, Launched] = {}
        self.placements: dict[str, Container] = {}
        self.unplaced_stops: dict[str, Container] = {}
        self.releases: dict[Run, Place] = {}
        self.restarts: dict[str, Ended] = {}
        self.deletions: dict[str, Container] = {}
        self.retirements: dict[str, Retired] = {}
        self._failures: dict[str, int] = {}
        self._deleted_images: set[str] = set()
        self._gone: dict[str, set[str]] = {}

    def apply(self, tenant: str, position: int, event: Turn) -> None:
        match event:
            case RunRequested() | RunPlaced() | ContainerStarted() | DeletionRequested():
                self._review(event.container_id)
            case ContainerStopped(container_id=id, run=run):
                self._count(event)
                self._review(id)
                self._review_place(id, run)
            case PlacementQueued(container_id=id, run=run):
                self._review(id)
                self._review_place(id, run)
            case PlacementReleased(container_id=id, run=run):
                self.releases.pop((id, run), None)
                self._review(id)
            case StopRequested(container_id=id):
                self._failures.pop(id, None)
                self._review(id)
            case ContainerCreated(container_id=id):
                self.launches.pop(id, None)
                self._review(id)
            case ContainerDeleted(container_id=id, image_id=image_id):
                self._failures.pop(id, None)
                self._review(id)
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

    def _review(self, container_id: str) -> None:
        """Which lists the container belongs on follows from what it is, not from how it came to be."""
        c = self._containers.container(container_id)
        placing = stopping = orphaned = restarting = False
        if c is not None:
            orphaned = c.image_id in self._deleted_images and not c.deleting
            if c.status == "stopped":
                restarting = c.wanted
            elif c.run:
                place = self._scheduling.place(container_id, c.run)
                placing = c.wanted and place is None
                unplaced = c.status != "running" and (place is None or place.node_id is None)
                stopping = unplaced and not c.wanted
        _keep(self.placements, container_id, c if placing else None)
        _keep(self.unplaced_stops, container_id, c if stopping else None)
        _keep(self.deletions, container_id, c if orphaned else None)
        _keep(self.restarts, container_id, self._ended(c) if c and restarting else None)

    def _review_place(self, container_id: str, run: int) -> None:
        """A place is to be given back once its run is over, or if there is no such container."""
        c, place = self._containers.container(container_id), self._scheduling.place(container_id, run)
        if place and (c is None or run < c.run or (run == c.run and c.status == "stopped")):
            self.releases[container_id, run] = place

    def _ended(self, c: Container) -> Ended:
        failures = self._failures.get(c.container_id, 1)
        return Ended(c.tenant, c.container_id, c.run, c.stopped_ms or 0, failures)

    def _count(self, event: ContainerStopped) -> None:
        id = event.container_id
        c = self._containers.container(id)
        if c is None or not c.wanted:
            self._failures.pop(id, None)
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


class Outlook(Views):
    """Views that also show what is to be done."""

    def __init__(self) -> None:
        super().__init__()
        self.pending = Pending(self.catalog, self.containers, self.scheduling)
        self.tell(self.pending.apply, Turn)


def _keep(things: dict[str, T], key: str, thing: T | None) -> None:
    if thing is not None:
        things[key] = thing
    elif things:
        things.pop(key, None)
