"""What runs, what should, and what became of the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from core.messages.catalog import Resources
from core.messages.containers import (
    ContainerCreated,
    ContainerDeleted,
    ContainerId,
    ContainerReady,
    ContainersEvent,
    ContainerStarted,
    ContainerStopped,
    DeletionRequested,
    Ending,
    RunRequested,
    StopRequested,
)
from core.messages.scheduling import RunEvicted, RunPlaced


class Container(Struct, frozen=True):
    """A container and its latest run.

    `status`: pending has no place yet, starting has one, running was started and has
    not ended, stopped has ended. `ready` means it may get traffic. `port` is the one
    it listens on, `external_port` the one that leads there at `address`.
    """

    container_id: ContainerId
    ordinal: int
    tenant: str
    image_id: str
    name: str
    ref: str
    hostname: str | None
    resources: Resources
    port: int
    owner: str
    at_ms: int
    deployment_id: str | None = None
    run: int = 0
    wanted: bool = False
    deleting: bool = False
    status: Literal["pending", "starting", "running", "stopped"] = "pending"
    ready: bool = False
    node_id: str | None = None
    runtime_id: str | None = None
    address: str | None = None
    external_port: int | None = None
    started_ms: int | None = None
    stopped_ms: int | None = None
    ending: Ending | None = None
    exit_code: int | None = None
    detail: str = ""


class Pool:
    """A deleted container disappears; its ordinal is never given again.

    `placement` knows of places that were given before their run was asked for.
    """

    def __init__(self, placement: Callable[[str, int], str | None] = lambda container_id, run: None) -> None:
        self._placement = placement
        self._containers: dict[str, Container] = {}
        self._numbered: dict[int, str] = {}
        self._owned: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._made_of: dict[str, dict[str, None]] = {}
        self._running_as: dict[str, str] = {}
        self._created = 0

    def container(self, container_id: str) -> Container | None:
        return self._containers.get(container_id)

    def numbered(self, ordinal: int) -> Container | None:
        return self._containers.get(self._numbered.get(ordinal, ""))

    def running_as(self, runtime_id: str) -> Container | None:
        """The container whose latest run the engine knows, or knew, by this id."""
        return self._containers.get(self._running_as.get(runtime_id, ""))

    def of(self, tenants: Collection[str]) -> list[Container]:
        """One tenant after the other, each in the order of creation."""
        owned = (id for tenant in dict.fromkeys(tenants) for id in self._owned.get(tenant, ()))
        return [self._containers[id] for id in owned]

    def of_image(self, image_id: str) -> list[Container]:
        """In the order of creation."""
        return [self._containers[id] for id in self._made_of.get(image_id, ())]

    def state(self) -> Any:
        return [self._containers, self._created]

    def apply(self, tenant: str, position: int, event: ContainersEvent | RunPlaced | RunEvicted) -> None:
        if isinstance(event, ContainerCreated):
            self._create(tenant, event)
            return
        id = event.container_id
        known = self._containers.get(id)
        if known is None:
            return
        match event:
            case RunRequested(run=run):
                node_id = self._placement(id, run)
                self._containers[id] = replace(
                    known,
                    run=run,
                    wanted=True,
                    status="starting" if node_id else "pending",
                    ready=False,
                    node_id=node_id,
                    runtime_id=None,
                    address=None,
                    external_port=None,
                    started_ms=None,
                    stopped_ms=None,
                    ending=None,
                    exit_code=None,
                    detail="",
                )
            case RunPlaced(run=run, node_id=node_id):
                if run == known.run and known.status == "pending":
                    self._containers[id] = replace(known, status="starting", node_id=node_id)
            case RunEvicted(run=run):
                if run == known.run:
                    self._containers[id] = replace(known, ready=False)
            case ContainerStarted():
                self._running_as.pop(known.runtime_id or "", None)
                self._running_as[event.runtime_id] = id
                self._containers[id] = replace(
                    known,
                    status="running",
                    node_id=event.node_id,
                    runtime_id=event.runtime_id,
                    address=event.address,
                    external_port=event.port,
                    started_ms=event.at_ms,
                )
            case ContainerReady():
                self._containers[id] = replace(known, ready=True)
            case StopRequested():
                self._containers[id] = replace(known, wanted=False, ready=False)
            case DeletionRequested():
                self._containers[id] = replace(known, wanted=False, deleting=True, ready=False)
            case ContainerStopped(ending=ending):
                self._containers[id] = replace(
                    known,
                    status="stopped",
                    wanted=known.wanted and ending != "unstartable",
                    ready=False,
                    stopped_ms=event.at_ms,
                    ending=ending,
                    exit_code=event.exit_code,
                    detail=event.detail,
                )
            case ContainerDeleted():
                self._delete(known)

    def _create(self, tenant: str, event: ContainerCreated) -> None:
        id = event.container_id
        self._created += 1
        self._numbered[self._created] = id
        self._owned[tenant][id] = None
        self._made_of.setdefault(event.image_id, {})[id] = None
        self._containers[id] = Container(
            container_id=id,
            ordinal=self._created,
            tenant=tenant,
            image_id=event.image_id,
            name=event.name,
            ref=event.ref,
            hostname=event.hostname,
            resources=event.resources,
            port=event.port,
            owner=event.owner,
            at_ms=event.at_ms,
            deployment_id=event.deployment_id,
        )

    def _delete(self, known: Container) -> None:
        id = known.container_id
        del self._containers[id], self._numbered[known.ordinal], self._owned[known.tenant][id]
        made = self._made_of[known.image_id]
        del made[id]
        if not made:
            del self._made_of[known.image_id]
        self._running_as.pop(known.runtime_id or "", None)
