"""The images people registered, as they stand: built or not, and which instances they have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from core.messages.catalog import (
    BuildFailed,
    BuildStarted,
    CatalogEvent,
    ImageBuilt,
    ImageDeleted,
    ImageId,
    ImageRegistered,
    InstanceRetired,
    InstancesLaunched,
    Reference,
    Resources,
    Source,
)


class Image(Struct, frozen=True):
    """`ref` is what the engine knows it by, '' until there is something to run.

    An image that is a reference needs no build and stays `registered`. `reason` says
    why its build failed. `instances` are container ids, oldest first.
    """

    image_id: ImageId
    ordinal: int
    tenant: str
    name: str
    tag: str
    source: Source
    owner: str
    hostname: str | None
    resources: Resources
    min_instances: int
    max_instances: int
    port: int
    status: Literal["registered", "building", "ready", "build_failed"]
    ref: str
    reason: str
    instances: tuple[str, ...]
    at_ms: int


class Catalog:
    """A deleted image disappears; its ordinal is never given again."""

    def __init__(self) -> None:
        self._images: dict[str, Image] = {}
        self._numbered: dict[int, str] = {}
        self._owned: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._registered = 0

    def image(self, image_id: str) -> Image | None:
        return self._images.get(image_id)

    def numbered(self, ordinal: int) -> Image | None:
        return self._images.get(self._numbered.get(ordinal, ""))

    def of(self, tenants: Collection[str]) -> list[Image]:
        """One tenant after the other, each in the order of registration."""
        return [self._images[id] for tenant in dict.fromkeys(tenants) for id in self._owned.get(tenant, ())]

    def all(self) -> list[Image]:
        """In the order of registration."""
        return list(self._images.values())

    def state(self) -> Any:
        return [self._images, self._registered]

    def apply(self, tenant: str, position: int, event: CatalogEvent) -> None:
        match event:
            case InstancesLaunched(image_id=id, instances=launched):
                if image := self._images.get(id):
                    instances = (*image.instances, *[one.container_id for one in launched])
                    self._images[id] = replace(image, instances=instances)
            case InstanceRetired(image_id=id, container_id=container_id):
                if image := self._images.get(id):
                    left = tuple([one for one in image.instances if one != container_id])
                    self._images[id] = replace(image, instances=left)
            case ImageRegistered():
                self._register(tenant, event)
            case BuildStarted(image_id=id):
                if image := self._images.get(id):
                    self._images[id] = replace(image, status="building")
            case ImageBuilt(image_id=id, ref=ref):
                if image := self._images.get(id):
                    self._images[id] = replace(image, status="ready", ref=ref)
            case BuildFailed(image_id=id, reason=reason):
                if image := self._images.get(id):
                    self._images[id] = replace(image, status="build_failed", reason=reason)
            case ImageDeleted(image_id=id):
                if deleted := self._images.pop(id, None):
                    del self._numbered[deleted.ordinal]
                    del self._owned[deleted.tenant][id]

    def _register(self, tenant: str, event: ImageRegistered) -> None:
        self._registered += 1
        self._numbered[self._registered] = event.image_id
        self._owned[tenant][event.image_id] = None
        self._images[event.image_id] = Image(
            image_id=event.image_id,
            ordinal=self._registered,
            tenant=tenant,
            name=event.name,
            tag=event.tag,
            source=event.source,
            owner=event.owner,
            hostname=event.hostname,
            resources=event.resources,
            min_instances=event.min_instances,
            max_instances=event.max_instances,
            port=event.port,
            status="registered",
            ref=event.source.ref if isinstance(event.source, Reference) else "",
            reason="",
            instances=(),
            at_ms=event.at_ms,
        )
