"""/images: what can be run. Registered by reference or uploaded, launched, looked at, deleted."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

from core.messages.catalog import RegisterImage
from gateway import catalog, containers, quantities
from gateway.builds import BuildLog, build_log
from gateway.describe import PAGING, Query, describe
from gateway.exchange import Message, Page, body, caller_of, fields, page, reply, whole
from gateway.policy import POLICY
from gateway.refusals import invalid
from gateway.uploads import form
from projections.catalog import Image
from projections.containers import Container

routes = web.RouteTableDef()

BUILD_LOG_CHARS = 8000
NUMBERS = ("port", "min_instances", "max_instances")


class Launch(Struct, frozen=True, forbid_unknown_fields=True):
    """`name` is what the containers' names begin with; the image's name, if not given."""

    count: Annotated[int, Meta(ge=1, le=1000)] = 1
    name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


@routes.post("/api/v1/images")
@describe(
    "Register an image: JSON for one the engine has, a multipart form with a `file` to build or load one.",
    body=RegisterImage,
    filled=("image_id", "owner", "at_ms"),
    answer=Image,
    status=201,
    errors=(400, 409, 413),
    multipart=True,
)
async def register(request: web.Request) -> web.Response:
    caller = caller_of(request)
    if request.content_type != "multipart/form-data":
        image = await catalog.register_reference(request, caller, await fields(request))
        return reply(image, status=201)
    async with form(request, request.app[POLICY].upload_bytes) as (given, file):
        if file is None:
            raise invalid("file", "Object missing required field `file`", kind="missing")
        image = await catalog.register_upload(request, caller, typed(given), file)
        return reply(image, status=201)


@routes.get("/api/v1/images")
@describe("Your images.", answer=Page[Image], query=PAGING)
async def index(request: web.Request) -> web.Response:
    return reply(page(request, catalog.images_of(request, caller_of(request)), lambda image: image.ordinal))


@routes.get("/api/v1/images/{image_id}")
@describe("One image.", answer=Image, errors=(404,))
async def show(request: web.Request) -> web.Response:
    return reply(catalog.image_of(request, caller_of(request), request.match_info["image_id"]))


@routes.get("/api/v1/images/{image_id}/build-log")
@describe(
    "The end of what its build said.",
    answer=BuildLog,
    errors=(404,),
    query=(Query("tail", int, "how many characters, 1 to 1000000; 8000 if not given"),),
)
async def show_build_log(request: web.Request) -> web.Response:
    image = catalog.image_of(request, caller_of(request), request.match_info["image_id"])
    tail = whole(request, "tail", BUILD_LOG_CHARS, least=1, most=1_000_000)
    return reply(await build_log(request, image, tail))


@routes.post("/api/v1/images/{image_id}/containers")
@describe(
    "Launch instances: as many as asked for, at least min_instances in all, as far as max_instances allows.",
    body=Launch,
    answer=list[Container],
    status=201,
    errors=(404, 409),
)
async def launch(request: web.Request) -> web.Response:
    image = catalog.image_of(request, caller_of(request), request.match_info["image_id"])
    given = await body(request, Launch)
    ids = await catalog.launch(request, caller_of(request), image, given.count, given.name or image.name)
    return reply(await containers.created(request, ids), status=201)


@routes.delete("/api/v1/images/{image_id}")
@describe(
    "Delete an image; its deployments are cancelled, its containers stopped and deleted after it.",
    answer=Message,
    errors=(404,),
)
async def delete(request: web.Request) -> web.Response:
    image = catalog.image_of(request, caller_of(request), request.match_info["image_id"])
    await catalog.delete(request, image)
    return reply(Message(f"Image {image.image_id} is deleted."))


def typed(given: dict[str, str]) -> dict[str, Any]:
    """A form's texts as the fields of `RegisterImage`; `cpu_limit` and `memory_limit` become resources."""
    fields: dict[str, Any] = {**given}
    for name in NUMBERS:
        if name in fields:
            if not (given[name].isascii() and given[name].isdigit() and len(given[name]) < 10):
                raise invalid(name, f"Expected a whole number, got {given[name][:50]!r}", kind="type_error")
            fields[name] = int(given[name])
    resources = quantities.resources(fields.pop("cpu_limit", None), fields.pop("memory_limit", None))
    if resources:
        fields["resources"] = resources
    if "source" in fields:
        raise invalid("source", "Object contains unknown field `source`", kind="extra_forbidden")
    return {"tag": "latest", **fields}
