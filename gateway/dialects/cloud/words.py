"""What the cloud dialect calls things: small numbers for ids, strings for limits, ISO times."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.containers import own
from gateway.quantities import cpu_text, memory_text
from gateway.readers import VIEWS
from gateway.refusals import Refused, invalid
from projections.catalog import Image
from projections.containers import Container
from projections.views import Views

STATUS = {"pending": "pending", "starting": "pending", "running": "running", "stopped": "stopped"}


class ImageJson(Struct, frozen=True):
    id: int
    name: str
    tag: str
    website_url: str | None
    app_hostname: str | None
    min_instances: int
    max_instances: int
    cpu_limit: str
    memory_limit: str
    container_port: int
    status: str
    created_at: str
    user_id: int


class ContainerJson(Struct, frozen=True):
    id: int
    container_id: str
    name: str
    internal_port: int
    external_port: int | None
    status: str
    cpu_usage: str
    memory_usage: str
    created_at: str
    image_id: int
    user_id: int


def iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


def image_json(views: Views, image: Image) -> ImageJson:
    return ImageJson(
        id=image.ordinal,
        name=image.name,
        tag=image.tag,
        website_url=image.hostname,
        app_hostname=image.hostname,
        min_instances=image.min_instances,
        max_instances=image.max_instances,
        cpu_limit=cpu_text(image.resources.cpu_milli),
        memory_limit=memory_text(image.resources.memory_mib),
        container_port=image.port,
        status=image.status,
        created_at=iso(image.at_ms),
        user_id=user_number(views, image.owner),
    )


def container_json(views: Views, container: Container) -> ContainerJson:
    return ContainerJson(
        id=container.ordinal,
        container_id=container.runtime_id or container.container_id,
        name=container.name,
        internal_port=container.port,
        external_port=container.external_port,
        status=STATUS[container.status],
        cpu_usage="0.0",
        memory_usage="0m",
        created_at=iso(container.at_ms),
        image_id=image_number(views, container.image_id),
        user_id=user_number(views, container.owner),
    )


def user_number(views: Views, user_id: str) -> int:
    user = views.identity.user(user_id)
    return user.ordinal if user else 0


def image_number(views: Views, image_id: str) -> int:
    """0 once the image has been deleted."""
    image = views.catalog.image(image_id)
    return image.ordinal if image else 0


def image_at(request: web.Request, caller: Caller, name: str = "image_id") -> Image:
    """The caller's image by its number in the path."""
    image = request.app[VIEWS].catalog.numbered(number(request, name))
    if image is None or image.tenant not in caller.tenants:
        raise Refused(404, "Image not found")
    return image


def container_at(request: web.Request, caller: Caller) -> Container:
    """The caller's container, by its number or by the engine's whole id."""
    pool, asked = request.app[VIEWS].containers, request.match_info["container_id"]
    if len(asked) == 64:
        return own(caller, pool.running_as(asked))
    return own(caller, pool.numbered(number(request, "container_id")))


def number(request: web.Request, name: str) -> int:
    raw = request.match_info[name]
    if not (raw.isascii() and raw.isdigit() and len(raw) < 18):
        raise invalid(name, "must be a whole number", place="path", kind="int_parsing")
    return int(raw)
