"""/route, /pool and /services: what the former load balancer and service discovery told their neighbours.

Where they trusted everybody on their network, we ask for a token; only a
development gateway still trusts who calls from the machine it runs on.
"""

from __future__ import annotations

from ipaddress import ip_address

import msgspec
from aiohttp import web
from msgspec import Struct

from core.hostname import normalise
from gateway.admission import admitted
from gateway.caller import CALLER
from gateway.containers import containers_of
from gateway.describe import describe
from gateway.dialects.cloud.words import image_at, image_number, iso, user_number
from gateway.exchange import caller_of, reply
from gateway.policy import POLICY
from gateway.proxy import PROXY
from gateway.readers import VIEWS
from gateway.refusals import Refused
from gateway.routing import sites_of
from projections.containers import Container
from projections.routing import Backend

routes = web.RouteTableDef()

TTL_S = 10


class Target(Struct, frozen=True):
    target_host: str
    target_port: int
    container_id: str
    image_id: int
    ttl: int = TTL_S


class ImageTarget(Struct, frozen=True):
    image_id: int
    container_id: str
    target_host: str
    target_port: int


class InPool(Struct, frozen=True):
    count: int
    containers: list[str]
    round_robin_index: int


class ServiceInfo(Struct, frozen=True):
    container_id: str
    container_ip: str | None
    internal_port: int
    external_port: int | None
    status: str
    tags: list[str]
    image_id: int | None
    website_url: str | None
    user_id: int | None
    timestamp: str | None


class Filters(Struct, frozen=True):
    website_url: str | None


class Services(Struct, frozen=True):
    services: list[ServiceInfo]
    count: int
    filters: Filters


class CacheStatus(Struct, frozen=True):
    last_index: int
    last_update: str | None
    image_ids: list[int]
    total_services: int
    url_mappings: dict[str, int]


@routes.route("*", "/route")
@describe(
    "A site by Host (any method), or with a JSON body: where its next request should go.", access="public"
)
async def route(request: web.Request) -> web.StreamResponse:
    if request.method == "POST":
        return await lookup(request)
    question = request.raw_path.partition("?")
    return await request.app[PROXY].relay(
        request, request.headers.get("Host", ""), "/" + question[1] + question[2]
    )


@routes.post("/lb/route")
@describe("Where a site's next request should go.", access="public", answer=Target)
async def lookup(request: web.Request) -> web.Response:
    raw = await request.read()
    try:
        given = msgspec.json.decode(raw, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as no:
        raise Refused(400, "The body must be a JSON object with website_url.") from no
    website_url = given.get("website_url", given.get("app_hostname"))
    if not isinstance(website_url, str) or not website_url.strip():
        raise Refused(400, "website_url: must be the name of a website")
    try:
        host = normalise(website_url)
    except ValueError as no:
        raise Refused(400, f"website_url: {no}") from no
    tenants = await _who_may_look(request)
    views = request.app[VIEWS]
    found = views.routing.route(host)
    if found is None or (tenants is not None and found.tenant not in tenants):
        raise Refused(404, "There is no site of this name.")
    backend = _next(request, found.hostname)
    return reply(
        Target(
            backend.address, backend.port, _engine_id(request, backend), image_number(views, found.image_id)
        )
    )


@routes.get("/route/{image_id}")
@describe("Where an image's next request should go.", answer=ImageTarget)
async def lookup_image(request: web.Request) -> web.Response:
    image = image_at(request, caller_of(request))
    backend = _next(request, image.hostname or "")
    return reply(ImageTarget(image.ordinal, _engine_id(request, backend), backend.address, backend.port))


@routes.get("/pool")
@describe("Your ready containers by image.", answer=dict[str, InPool])
async def pool(request: web.Request) -> web.Response:
    table = request.app[VIEWS].routing
    return reply(
        {
            str(site.ordinal): InPool(
                len(site.backends),
                [_engine_id(request, backend) for backend in site.backends],
                table.turn(site.hostname),
            )
            for site in sites_of(request, caller_of(request))
            if site.backends
        }
    )


@routes.get("/services/healthy")
@describe("Your ready containers as services, of one site or all.", answer=Services)
async def healthy(request: web.Request) -> web.Response:
    website_url = request.query.get("website_url")
    found = [one for one in containers_of(request, caller_of(request)) if one.ready]
    if website_url is not None:
        try:
            host: str | None = normalise(website_url)
        except ValueError:
            host = None  # the name of nothing is the name of no service
        found = [one for one in found if host and one.hostname in (host, host.removeprefix("www."))]
    services = [_service(request, one) for one in found]
    return reply(Services(services, len(services), Filters(website_url)))


@routes.get("/services/cache/status")
@describe("How much of your services is known here.", answer=CacheStatus)
async def cache_status(request: web.Request) -> web.Response:
    views, caller = request.app[VIEWS], caller_of(request)
    ready = [one for one in containers_of(request, caller) if one.ready]
    newest = max((one.started_ms or 0 for one in ready), default=0)
    return reply(
        CacheStatus(
            last_index=views.position,
            last_update=iso(newest) if newest else None,
            image_ids=sorted({image_number(views, one.image_id) for one in ready}),
            total_services=len(ready),
            url_mappings={site.hostname: site.ordinal for site in sites_of(request, caller)},
        )
    )


async def _who_may_look(request: web.Request) -> tuple[str, ...] | None:
    """Whose sites the asker may look up; None for everybody's."""
    nameless, remote = "Authorization" not in request.headers, request.remote
    if nameless and request.app[POLICY].open_on_loopback and remote and ip_address(remote).is_loopback:
        return None
    request[CALLER] = await admitted(request)
    return caller_of(request).tenants


def _next(request: web.Request, hostname: str) -> Backend:
    backend = request.app[VIEWS].routing.choose(hostname)
    if backend is None:
        raise Refused(503, "No running containers for this site", {"Retry-After": "1"})
    return backend


def _engine_id(request: web.Request, backend: Backend) -> str:
    container = request.app[VIEWS].containers.container(backend.container_id)
    return (container and container.runtime_id) or backend.container_id


def _service(request: web.Request, one: Container) -> ServiceInfo:
    views = request.app[VIEWS]
    image_id = image_number(views, one.image_id)
    tags = [f"image-{image_id}", f"container-{one.name}", f"external-port-{one.external_port}"]
    if one.hostname:
        tags.append(f"website-{one.hostname}")
    return ServiceInfo(
        container_id=one.runtime_id or one.container_id,
        container_ip=one.address,
        internal_port=one.port,
        external_port=one.external_port,
        status="passing",
        tags=tags,
        image_id=image_id,
        website_url=one.hostname,
        user_id=user_number(views, one.owner),
        timestamp=iso(one.started_ms) if one.started_ms else None,
    )
