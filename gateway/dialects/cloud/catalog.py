"""/api/images, as the cloud platform had them."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from msgspec import Struct

from gateway import catalog, containers, quantities
from gateway.builds import build_log
from gateway.describe import describe
from gateway.dialects.cloud.words import (
    ContainerJson,
    ImageJson,
    container_json,
    image_at,
    image_json,
)
from gateway.exchange import Message, caller_of, fields, known, reply
from gateway.policy import POLICY
from gateway.readers import VIEWS
from gateway.refusals import Refused, answering, invalid
from gateway.routes.catalog import BUILD_LOG_CHARS, typed
from gateway.uploads import form

routes = web.RouteTableDef()

TAKEN = {"NameIsTaken": 400}


class NewImage(Struct, frozen=True):
    name: str
    tag: str = "latest"
    website_url: str | None = None
    app_hostname: str | None = None
    min_instances: int = 1
    max_instances: int = 3
    cpu_limit: str = "0.5"
    memory_limit: str = "512m"
    container_port: int = 8080


class WithContainers(ImageJson, frozen=True):
    containers: list[ContainerJson]


class BuildLogJson(Struct, frozen=True):
    image_id: int
    status: str
    logs: str


@routes.post("/api/images")
@describe("Register an image the engine has (JSON), or upload one (form).", answer=ImageJson)
async def register(request: web.Request) -> web.Response:
    if request.content_type == "multipart/form-data":
        return await _upload(request)
    given = known(NewImage, await fields(request))
    field = "website_url" if given.app_hostname is None else "app_hostname"
    hostname = given.app_hostname if given.website_url is None else given.website_url
    if hostname is None:
        raise invalid(field, f"Object missing required field `{field}`", kind="missing")
    tagged = ":" in given.name.rpartition("/")[2]
    command: dict[str, Any] = {
        "name": given.name,
        "tag": given.tag,
        "source": {"type": "Reference", "ref": given.name if tagged else f"{given.name}:{given.tag}"},
        "hostname": hostname,
        "resources": quantities.resources(given.cpu_limit, given.memory_limit),
        "min_instances": given.min_instances,
        "max_instances": given.max_instances,
        "port": given.container_port,
    }
    with answering(**TAKEN):
        image = await catalog.register_reference(request, caller_of(request), command, field)
    return reply(image_json(request.app[VIEWS], image))


async def _upload(request: web.Request) -> web.Response:
    async with form(request, request.app[POLICY].upload_bytes) as (given, file):
        if file is None:
            raise invalid("file", "Object missing required field `file`", kind="missing")
        given.pop("user_id", None)
        field = "website_url" if "website_url" in given else "app_hostname"
        if field in given:
            given["hostname"] = given.pop(field)
        if "container_port" in given:
            given["port"] = given.pop("container_port")
        with answering(**TAKEN):
            image = await catalog.register_upload(request, caller_of(request), typed(given), file, field)
        return reply(image_json(request.app[VIEWS], image), status=201)


@routes.get("/api/images")
@describe("Your images.", answer=list[ImageJson])
async def index(request: web.Request) -> web.Response:
    views = request.app[VIEWS]
    return reply([image_json(views, image) for image in catalog.images_of(request, caller_of(request))])


@routes.get("/api/images/with-containers")
@describe("Your images, each with its containers.", answer=list[WithContainers])
async def with_containers(request: web.Request) -> web.Response:
    views, found = request.app[VIEWS], []
    for image in catalog.images_of(request, caller_of(request)):
        inside = [container_json(views, one) for one in views.containers.of_image(image.image_id)]
        found.append({**_fields(image_json(views, image)), "containers": inside})
    return reply(found)


@routes.get("/api/images/{image_id}")
@describe("One image.", answer=ImageJson)
async def show(request: web.Request) -> web.Response:
    return reply(image_json(request.app[VIEWS], image_at(request, caller_of(request))))


@routes.get("/api/images/{image_id}/containers")
@routes.get("/api/containers/images/{image_id}/containers")
@describe("The containers of an image.", answer=list[ContainerJson])
async def show_containers(request: web.Request) -> web.Response:
    views, image = request.app[VIEWS], image_at(request, caller_of(request))
    return reply([container_json(views, one) for one in views.containers.of_image(image.image_id)])


@routes.get("/api/images/{image_id}/build-logs")
@describe("The end of what its build said.", answer=BuildLogJson)
async def show_build_log(request: web.Request) -> web.Response:
    image = image_at(request, caller_of(request))
    told = await build_log(request, image, BUILD_LOG_CHARS)
    return reply(BuildLogJson(image.ordinal, told.status, told.text))


@routes.delete("/api/images/{image_id}")
@describe("Delete an image none of whose containers runs.", answer=Message)
async def delete(request: web.Request) -> web.Response:
    views, image = request.app[VIEWS], image_at(request, caller_of(request))
    inside = views.containers.of_image(image.image_id)
    if any(one.wanted or one.status == "running" for one in inside):
        raise Refused(400, "Cannot delete image while containers are running; stop them first")
    await catalog.delete(request, image)
    await containers.until(request, lambda: not views.containers.of_image(image.image_id) or None)
    return reply(Message(f"Image {image.ordinal} deleted successfully"))


def _fields(image: ImageJson) -> dict[str, Any]:
    return {name: getattr(image, name) for name in image.__struct_fields__}
