"""Catalog decides what may run: who builds an image, and how many instances it has room for."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict, replace

from core.decider import Decider
from core.message import Command
from core.messages.catalog import (
    BoundsAreCrossed,
    BuildFailed,
    BuildIsTaken,
    BuildStarted,
    CatalogCommand,
    CatalogEvent,
    ClaimBuild,
    DeleteImage,
    ImageBuilt,
    ImageDeleted,
    ImageExists,
    ImageIsFull,
    ImageIsNotReady,
    ImageIsUnknown,
    ImageRegistered,
    Instance,
    InstanceRetired,
    InstancesLaunched,
    LaunchInstances,
    Reference,
    RegisterImage,
    ReportBuildFailed,
    ReportBuilt,
    RetireInstance,
)
from core.messages.names import ReleaseName, ReserveName, name_id


class Image(Struct, frozen=True):
    """An image as registered, the last that was heard of its build, and its instances alive.

    Once deleted its id stays taken, and its instances are still counted out one by one.
    """

    registered: ImageRegistered | None = None
    build: BuildStarted | ImageBuilt | BuildFailed | None = None
    instances: tuple[str, ...] = ()
    deleted: bool = False

    @property
    def ref(self) -> str | None:
        """What the engine knows it by; None until there is something to run."""
        if self.registered and isinstance(self.registered.source, Reference):
            return self.registered.source.ref
        return self.build.ref if isinstance(self.build, ImageBuilt) else None


def decide(command: CatalogCommand, image: Image) -> list[CatalogEvent]:
    registered = image.registered
    match command:
        case RegisterImage(at_ms=at_ms):
            if command.min_instances > command.max_instances:
                raise BoundsAreCrossed
            if registered is None:
                return [ImageRegistered(**asdict(command))]
            if replace(registered, at_ms=at_ms) == ImageRegistered(**asdict(command)) and not image.deleted:
                return []
            raise ImageExists

        case _ if registered is None:
            raise ImageIsUnknown

        case RetireInstance(container_id=container_id):
            return [InstanceRetired(**asdict(command))] if container_id in image.instances else []

        case DeleteImage():
            return [] if image.deleted else [ImageDeleted(**asdict(command), hostname=registered.hostname)]

        case _ if image.deleted:
            raise ImageIsUnknown

        case ClaimBuild() | ReportBuilt() | ReportBuildFailed():
            return _build(command, image)

        case LaunchInstances():
            return _launch(command, image, registered)


def _build(command: ClaimBuild | ReportBuilt | ReportBuildFailed, image: Image) -> list[CatalogEvent]:
    """The first node to ask builds, and says once how that went."""
    match command, image.build:
        case ClaimBuild(), None if image.ref is None:
            return [BuildStarted(**asdict(command))]
        case ClaimBuild(node_id=node_id), BuildStarted(node_id=builder) if node_id == builder:
            return []
        case ReportBuilt(node_id=node_id), BuildStarted(node_id=builder) if node_id == builder:
            return [ImageBuilt(**asdict(command))]
        case ReportBuildFailed(node_id=node_id), BuildStarted(node_id=builder) if node_id == builder:
            return [BuildFailed(**asdict(command))]
        case ReportBuilt(at_ms=at_ms), ImageBuilt() as built:
            if replace(built, at_ms=at_ms) == ImageBuilt(**asdict(command)):
                return []
        case ReportBuildFailed(at_ms=at_ms), BuildFailed() as failed:
            if replace(failed, at_ms=at_ms) == BuildFailed(**asdict(command)):
                return []
    raise BuildIsTaken


def _launch(command: LaunchInstances, image: Image, registered: ImageRegistered) -> list[CatalogEvent]:
    new: dict[str, Instance] = {}
    for instance in command.instances:
        if instance.container_id not in image.instances:
            new.setdefault(instance.container_id, instance)
    if not new:
        return []
    if image.ref is None:
        raise ImageIsNotReady
    room = registered.max_instances - len(image.instances)
    if room <= 0 and any(instance.container_id in image.instances for instance in command.instances):
        return []  # asked again: what there was room for then was launched then
    if room <= 0:
        raise ImageIsFull
    return [
        InstancesLaunched(
            image_id=registered.image_id,
            instances=tuple(new.values())[:room],
            ref=image.ref,
            hostname=registered.hostname,
            resources=registered.resources,
            port=registered.port,
            by=command.by,
            at_ms=command.at_ms,
        )
    ]


def evolve(image: Image, event: CatalogEvent) -> Image:
    match event:
        case ImageRegistered():
            return replace(image, registered=event)
        case BuildStarted() | ImageBuilt() | BuildFailed():
            return replace(image, build=event)
        case InstancesLaunched(instances=launched):
            return replace(image, instances=(*image.instances, *(i.container_id for i in launched)))
        case InstanceRetired(container_id=container_id):
            return replace(image, instances=tuple(i for i in image.instances if i != container_id))
        case ImageDeleted():
            return replace(image, deleted=True)


def alongside(command: CatalogCommand, image: Image) -> tuple[Command, ...]:
    match command, image.registered:
        case RegisterImage(image_id=image_id, hostname=str(hostname)), None:
            return (ReserveName(name_id=name_id("hostname", hostname), holder=image_id),)
        case DeleteImage(image_id=image_id), ImageRegistered(hostname=str(hostname)) if not image.deleted:
            return (ReleaseName(name_id=name_id("hostname", hostname), holder=image_id),)
        case _:
            return ()


decider = Decider(Image(), decide, evolve, alongside)
