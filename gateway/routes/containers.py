"""/containers: each one instance of an image, whatever number of times it has run."""

from __future__ import annotations

from aiohttp import web

from gateway import containers
from gateway import why as reasons
from gateway.containers import Logs
from gateway.describe import PAGING, Query, describe
from gateway.exchange import Message, Page, caller_of, page, reply, whole
from gateway.why import Why
from projections.containers import Container

routes = web.RouteTableDef()


@routes.get("/api/v1/containers")
@describe(
    "Your containers.",
    answer=Page[Container],
    query=(*PAGING, Query("image_id", str, "only those of this image")),
)
async def index(request: web.Request) -> web.Response:
    found, image_id = containers.containers_of(request, caller_of(request)), request.query.get("image_id")
    chosen = [container for container in found if image_id in (None, container.image_id)]
    return reply(page(request, chosen, lambda container: container.ordinal))


@routes.get("/api/v1/containers/{container_id}")
@describe("One container.", answer=Container, errors=(404,))
async def show(request: web.Request) -> web.Response:
    return reply(_container(request))


@routes.post("/api/v1/containers/{container_id}/start")
@describe("Want it to run again.", answer=Container, errors=(404, 409))
async def start(request: web.Request) -> web.Response:
    await containers.start(request, _container(request))
    return reply(_container(request))


@routes.post("/api/v1/containers/{container_id}/stop")
@describe("Want it to stop.", answer=Container, errors=(404, 409))
async def stop(request: web.Request) -> web.Response:
    await containers.stop(request, _container(request))
    return reply(_container(request))


@routes.delete("/api/v1/containers/{container_id}")
@describe("Delete it; stopped first if need be.", answer=Message, errors=(404,))
async def delete(request: web.Request) -> web.Response:
    container = _container(request)
    await containers.delete(request, container)
    return reply(Message(f"Container {container.container_id} is deleted once it has stopped."))


@routes.get("/api/v1/containers/{container_id}/why")
@describe(
    "Why it is where it is, or waits, and what would help; nothing, if it asks for no place.",
    answer=list[Why],
    errors=(404,),
)
async def why(request: web.Request) -> web.Response:
    caller = caller_of(request)
    return reply(await reasons.of_container(request, caller, _container(request)))


@routes.get("/api/v1/containers/{container_id}/logs")
@describe(
    "The last lines its latest run has written.",
    answer=Logs,
    errors=(404,),
    query=(Query("tail", int, "how many lines, 1 to 5000; 200 if not given"),),
)
async def logs(request: web.Request) -> web.Response:
    tail = whole(request, "tail", 200, least=1, most=5000)
    return reply(await containers.logs(request, _container(request), tail))


def _container(request: web.Request) -> Container:
    return containers.container_of(request, caller_of(request), request.match_info["container_id"])
