"""/clusters: what may be given out where, and who waits for a place, and why."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from gateway.describe import PAGING, describe
from gateway.exchange import Page, caller_of, page, reply
from gateway.readers import VIEWS
from gateway.refusals import Refused
from projections.scheduling import Cluster

routes = web.RouteTableDef()


class Waiting(Struct, frozen=True):
    """`ordinal` is the place in the queue; `reason` is what held it back when it asked."""

    ordinal: int
    container_id: str
    run: int
    cpu_milli: int
    memory_mib: int
    reason: str
    at_ms: int


@routes.get("/api/v1/clusters")
@describe("The clusters, with what each of their nodes may be given.", answer=Page[Cluster], query=PAGING)
async def index(request: web.Request) -> web.Response:
    found = list(request.app[VIEWS].scheduling.clusters.values())
    return reply(page(request, found, lambda cluster: cluster.ordinal))


@routes.get("/api/v1/clusters/{cluster_id}/queue")
@describe(
    "Your runs that wait for a place, in the order in which they will be served.",
    answer=Page[Waiting],
    errors=(404,),
    query=PAGING,
)
async def queue(request: web.Request) -> web.Response:
    scheduling, cluster_id = request.app[VIEWS].scheduling, request.match_info["cluster_id"]
    if cluster_id not in scheduling.clusters:
        raise Refused(404, "There is no such cluster.")
    caller = caller_of(request)
    mine = [
        Waiting(
            n, place.container_id, place.run, place.cpu_milli, place.memory_mib, place.reason, place.at_ms
        )
        for n, place in enumerate(scheduling.waiting(cluster_id), start=1)
        if caller.operator or place.tenant in caller.tenants
    ]
    return reply(page(request, mine, lambda waiting: waiting.ordinal))
