"""/api/containers, as the cloud platform had them: each answer waits for what it says."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from gateway import catalog, containers
from gateway.describe import describe
from gateway.dialects.cloud.words import ContainerJson, container_at, container_json, image_at
from gateway.exchange import Message, caller_of, fields, known, reply
from gateway.readers import VIEWS
from gateway.refusals import Refused, answering
from projections.containers import Container

routes = web.RouteTableDef()

COUNT_MAX = 10
NO_ROOM = {"ImageIsFull": 400, "ImageIsNotReady": 400}
AS_IT_IS = {"ContainerIsRunning": 400, "ContainerIsStopped": 400}


class NewContainers(Struct, frozen=True):
    name: str | None = None
    count: int = 1


@routes.post("/api/containers/{image_id}/create")
@describe("Run an image: 1 to 10 containers, as far as its max_instances allows.", answer=list[ContainerJson])
async def create(request: web.Request) -> web.Response:
    return reply(await _create(request))


@routes.post("/api/containers/{image_id}")
@describe("Run an image.", answer=list[ContainerJson], status=201)
async def create_shortly(request: web.Request) -> web.Response:
    return reply(await _create(request), status=201)


async def _create(request: web.Request) -> list[ContainerJson]:
    image = image_at(request, caller_of(request))
    given = known(NewContainers, await fields(request) if request.can_read_body else {})
    if not 1 <= given.count <= COUNT_MAX:
        raise Refused(400, f"count: must be from 1 to {COUNT_MAX}")
    with answering(**NO_ROOM):
        ids = await catalog.launch(request, caller_of(request), image, given.count, given.name or image.name)
    come_up = await containers.settled(request, ids)
    failed = [one for one in come_up if one.status == "stopped" and one.ending == "unstartable"]
    if failed and len(failed) == len(come_up):
        raise Refused(409, f"The containers can not run: {failed[0].detail}")
    return [container_json(request.app[VIEWS], one) for one in come_up]


@routes.get("/api/containers")
@describe("Your containers.", answer=list[ContainerJson])
async def index(request: web.Request) -> web.Response:
    found = containers.containers_of(request, caller_of(request))
    return reply([container_json(request.app[VIEWS], one) for one in found])


@routes.get("/api/containers/{container_id}")
@describe("One container.", answer=ContainerJson)
async def show(request: web.Request) -> web.Response:
    return reply(container_json(request.app[VIEWS], container_at(request, caller_of(request))))


@routes.post("/api/containers/{container_id}/start")
@routes.put("/api/containers/{container_id}/start")
@describe("Start a stopped container.", answer=ContainerJson)
async def start(request: web.Request) -> web.Response:
    container = container_at(request, caller_of(request))
    with answering(**AS_IT_IS):
        await containers.start(request, container)
    (now,) = await containers.settled(request, [container.container_id]) or [container]
    if now.status == "stopped" and now.ending == "unstartable":
        raise Refused(409, f"The container can not run: {now.detail}")
    return _show(request, now)


@routes.post("/api/containers/{container_id}/stop")
@routes.put("/api/containers/{container_id}/stop")
@describe("Stop a running container.", answer=ContainerJson)
async def stop(request: web.Request) -> web.Response:
    container = container_at(request, caller_of(request))
    with answering(**AS_IT_IS):
        await containers.stop(request, container)
    return _show(request, await containers.stopped(request, container.container_id) or container)


@routes.delete("/api/containers/{container_id}")
@describe("Delete a container; stopped first if it runs.", answer=Message)
async def delete(request: web.Request) -> web.Response:
    container = container_at(request, caller_of(request))
    await containers.delete(request, container)
    await containers.gone(request, container.container_id)
    return reply(Message(f"Container {container.ordinal} deleted successfully"))


def _show(request: web.Request, container: Container) -> web.Response:
    return reply(container_json(request.app[VIEWS], container))
