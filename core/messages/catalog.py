"""Catalog: images, that is apps: what to run, how large, under which hostname, and how many.

The image's stream alone says how many instances it may have, so two launches
can race for the last place and exactly one of them will win.
"""

from __future__ import annotations

from typing import Annotated, NewType

from msgspec import Meta, Struct

from core.message import (
    Command,
    Event,
    GpuModel,
    Invalid,
    MiB,
    MilliCpu,
    Millis,
    Port,
    Rejection,
    Text,
    Token,
    Unknown,
)

ImageId = NewType("ImageId", str)
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*\Z")]
Tag = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\Z")]
Hostname = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=253,
        pattern=r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z",
    ),
]
"""Already normalised: lower case, no port, no scheme, IDNA-encoded."""
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Instances = Annotated[int, Meta(ge=1, le=1000)]


class Reference(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """An image the node's engine has already, as `web:1`."""

    ref: Name


class Archive(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """An uploaded tar or zip with a Dockerfile at its root, kept in the object store under `object`."""

    object: Token
    sha256: Sha256
    bytes: int


class SavedImage(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """An uploaded `docker save` tar, kept in the object store under `object`."""

    object: Token
    sha256: Sha256
    bytes: int


Source = Reference | Archive | SavedImage


class Resources(Struct, frozen=True, forbid_unknown_fields=True):
    """Thousandths of a CPU, MiB, GPUs and thousandths of each; of any model, if none is named."""

    cpu_milli: MilliCpu = 500
    memory_mib: MiB = 512
    gpus: Annotated[int, Meta(ge=0, le=10_000)] = 0
    gpu_milli: Annotated[int, Meta(ge=1, le=1000)] = 1000
    gpu_models: Annotated[tuple[GpuModel, ...], Meta(max_length=16)] = ()


class Instance(Struct, frozen=True, forbid_unknown_fields=True):
    container_id: Token
    name: Name


class RegisterImage(Command):
    """Reserves the hostname, if given, alongside."""

    image_id: Token
    name: Name
    tag: Tag
    source: Source
    owner: Token
    at_ms: Millis
    hostname: Hostname | None = None
    resources: Resources = Resources()
    min_instances: Instances = 1
    max_instances: Instances = 3
    port: Port = 8080


class ClaimBuild(Command):
    """A node offers to build; the first one does."""

    image_id: Token
    node_id: Token
    at_ms: Millis


class ReportBuilt(Command):
    image_id: Token
    node_id: Token
    ref: Name
    bytes: int
    at_ms: Millis


class ReportBuildFailed(Command):
    image_id: Token
    node_id: Token
    reason: Text
    at_ms: Millis


class LaunchInstances(Command):
    """As many of `instances` as `max_instances` leaves room for; refused if there is no room at all.

    A caller who wants `min_instances` kept offers that many.
    """

    image_id: Token
    instances: Annotated[tuple[Instance, ...], Meta(min_length=1, max_length=1000)]
    by: Token
    at_ms: Millis


class RetireInstance(Command):
    """The container is gone; its place is free again."""

    image_id: Token
    container_id: Token


class DeleteImage(Command):
    """Releases the hostname alongside. Its containers are stopped and deleted after it."""

    image_id: Token
    at_ms: Millis


class ImageRegistered(Event):
    image_id: ImageId
    name: str
    tag: str
    source: Source
    owner: str
    at_ms: int
    hostname: str | None
    resources: Resources
    min_instances: int
    max_instances: int
    port: int


class BuildStarted(Event):
    image_id: ImageId
    node_id: str
    at_ms: int


class ImageBuilt(Event):
    image_id: ImageId
    node_id: str
    ref: str
    bytes: int
    at_ms: int


class BuildFailed(Event):
    image_id: ImageId
    node_id: str
    reason: str
    at_ms: int


class InstancesLaunched(Event):
    """Carries what each container is made of, so that nobody has to look it up later."""

    image_id: ImageId
    instances: tuple[Instance, ...]
    ref: str
    hostname: str | None
    resources: Resources
    port: int
    by: str
    at_ms: int


class InstanceRetired(Event):
    image_id: ImageId
    container_id: str


class ImageDeleted(Event):
    image_id: ImageId
    hostname: str | None
    at_ms: int


class ImageExists(Rejection):
    """This image id is taken."""


class ImageIsUnknown(Unknown):
    """There is no such image."""


class ImageIsNotReady(Rejection):
    """The image has not been built yet, or its build failed; see its build log."""


class ImageIsFull(Rejection):
    """The image runs as many instances as its max_instances allows."""


class BoundsAreCrossed(Invalid):
    """min_instances: may not be larger than max_instances."""


class BuildIsTaken(Rejection):
    """Another node builds this image, or it needs no build."""


CatalogCommand = (
    RegisterImage
    | ClaimBuild
    | ReportBuilt
    | ReportBuildFailed
    | LaunchInstances
    | RetireInstance
    | DeleteImage
)
CatalogEvent = (
    ImageRegistered
    | BuildStarted
    | ImageBuilt
    | BuildFailed
    | InstancesLaunched
    | InstanceRetired
    | ImageDeleted
)
