"""/routes and /apps: where the sites are, and the way to them by path."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from gateway import containers, routing
from gateway.describe import PAGING, Query, describe
from gateway.exchange import Page, caller_of, page, reply
from gateway.proxy import PROXY, below
from gateway.refusals import Refused, invalid
from gateway.routing import Site

routes = web.RouteTableDef()


class Service(Struct, frozen=True):
    """One running instance, seen as something that can be called."""

    ordinal: int
    container_id: str
    hostname: str | None
    address: str
    port: int
    ready: bool


@routes.get("/api/v1/routes")
@describe("Your sites and where their requests go.", answer=Page[Site], query=PAGING)
async def index(request: web.Request) -> web.Response:
    return reply(page(request, routing.sites_of(request, caller_of(request)), lambda site: site.ordinal))


@routes.get("/api/v1/routes/resolve")
@describe(
    "One of your sites, however its name is spelled; 503 while none of its instances is ready.",
    answer=Site,
    errors=(400, 404, 503),
    query=(Query("host", str, "the hostname or URL"),),
)
async def resolve(request: web.Request) -> web.Response:
    if "host" not in request.query:
        raise invalid("host", "is missing", place="query", kind="missing")
    site = routing.resolve(request, caller_of(request), request.query["host"])
    if not site.backends:
        raise Refused(503, "None of its instances is ready.", {"Retry-After": "1"})
    return reply(site)


@routes.get("/api/v1/services")
@describe("Your running instances, as things that can be called.", answer=Page[Service], query=PAGING)
async def services(request: web.Request) -> web.Response:
    found = [
        Service(one.ordinal, one.container_id, one.hostname, one.address, one.external_port, one.ready)
        for one in containers.containers_of(request, caller_of(request))
        if one.status == "running" and one.address and one.external_port
    ]
    return reply(page(request, found, lambda service: service.ordinal))


@routes.route("*", "/apps/{host}")
@routes.route("*", "/apps/{host}/{path:.*}")
@describe("A site by path, for clients that can not choose their Host.", access="public")
async def by_path(request: web.Request) -> web.StreamResponse:
    prefix, target = below(request.raw_path)
    return await request.app[PROXY].relay(request, request.match_info["host"], target, prefix=prefix)
