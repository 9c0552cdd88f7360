"""/clusters: what may be given out where, to whom, and who waits for a place, and why."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from core.contexts import PLATFORM
from core.message import Command
from core.messages.explanations import ShowQueue, Turn
from core.messages.scheduling import ClusterName, LiftQuota, RepackCluster, SetQuota, Totals
from gateway import clusters
from gateway.describe import PAGING, describe
from gateway.exchange import Page, body, caller_of, now_ms, page, paging, reply, send
from gateway.plans import Plan, is_plan, plan
from gateway.readers import QUESTIONS
from projections.clusters import Cluster

routes = web.RouteTableDef()


class NewCluster(Struct, frozen=True, forbid_unknown_fields=True):
    """A cluster of fixed totals; machines make their own by joining."""

    name: ClusterName
    totals: Totals


class Repack(Struct, frozen=True, forbid_unknown_fields=True):
    moves_max: Annotated[int, Meta(ge=1, le=100)] = 10


@routes.post("/api/v1/clusters")
@describe(
    "Create a cluster of fixed totals, for your organisation.",
    body=NewCluster,
    answer=Cluster,
    status=201,
    errors=(409,),
    plan=Plan,
)
async def create(request: web.Request) -> web.Response:
    caller, given = caller_of(request), await body(request, NewCluster)
    command = clusters.new_cluster(request, caller, given.name, given.totals)
    if is_plan(request):
        return reply(await plan(request, caller, command))
    return reply(await clusters.create(request, caller, command), status=201)


@routes.get("/api/v1/clusters")
@describe("The clusters you may use.", answer=Page[Cluster], query=PAGING)
async def index(request: web.Request) -> web.Response:
    found = clusters.clusters_of(request, caller_of(request))
    return reply(page(request, found, lambda cluster: cluster.ordinal))


@routes.get("/api/v1/clusters/{cluster_id}")
@describe("One cluster.", answer=Cluster, errors=(404,))
async def show(request: web.Request) -> web.Response:
    return reply(_cluster(request))


@routes.get("/api/v1/clusters/{cluster_id}/queue")
@describe(
    "Your runs that wait for a place, in the order in which they will be served, and when, if that is known.",
    answer=Page[Turn],
    errors=(404,),
    query=PAGING,
)
async def queue(request: web.Request) -> web.Response:
    cluster, caller = _cluster(request), caller_of(request)
    limit, after = paging(request)
    question = ShowQueue(
        cluster_id=cluster.cluster_id,
        at_ms=now_ms(),
        tenants=None if caller.operator else caller.tenants,
        after=after,
        limit=limit + 1,
    )
    told = await request.app[QUESTIONS].ask(PLATFORM, question=question)
    turns = msgspec.json.decode(told.answer, type=list[Turn])
    return reply(Page(turns[:limit], turns[limit - 1].position if len(turns) > limit else None))


@routes.put("/api/v1/clusters/{cluster_id}/quotas/{tenant}")
@describe(
    "What an organisation may always have here, and how much more it may borrow.",
    body=SetQuota,
    filled=("cluster_id", "tenant", "at_ms"),
    answer=Cluster,
    errors=(403, 404),
    plan=Plan,
)
async def set_quota(request: web.Request) -> web.Response:
    cluster = clusters.governed(caller_of(request), _cluster(request))
    command = await body(
        request,
        SetQuota,
        cluster_id=cluster.cluster_id,
        tenant=request.match_info["tenant"],
        at_ms=now_ms(),
    )
    return await _carry_out(request, command)


@routes.delete("/api/v1/clusters/{cluster_id}/quotas/{tenant}")
@describe("Limit the organisation no more.", answer=Cluster, errors=(403, 404), plan=Plan)
async def lift_quota(request: web.Request) -> web.Response:
    cluster = clusters.governed(caller_of(request), _cluster(request))
    tenant = request.match_info["tenant"]
    return await _carry_out(request, LiftQuota(cluster_id=cluster.cluster_id, tenant=tenant, at_ms=now_ms()))


@routes.post("/api/v1/clusters/{cluster_id}/repack")
@describe(
    "Move runs to where they waste least; each move is a restart.",
    body=Repack,
    answer=Cluster,
    errors=(403, 404),
    plan=Plan,
)
async def repack(request: web.Request) -> web.Response:
    cluster = clusters.governed(caller_of(request), _cluster(request))
    given = await body(request, Repack)
    command = RepackCluster(cluster_id=cluster.cluster_id, moves_max=given.moves_max, at_ms=now_ms())
    return await _carry_out(request, command)


async def _carry_out(request: web.Request, command: Command) -> web.Response:
    if is_plan(request):
        return reply(await plan(request, caller_of(request), command))
    await send(request, command, PLATFORM)
    return reply(_cluster(request))


def _cluster(request: web.Request) -> Cluster:
    return clusters.cluster_of(request, caller_of(request), request.match_info["cluster_id"])
