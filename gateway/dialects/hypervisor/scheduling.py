"""/clusters, as the hypervisor app had them: fixed totals, and what is left of them."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from core.commands import Declined
from core.messages.deployments import Amount
from core.messages.scheduling import ClusterName, Gpus, Totals
from gateway import clusters
from gateway.describe import Query, describe
from gateway.dialects.hypervisor.words import (
    ClusterJson,
    Cpus,
    WhichCluster,
    cluster_at,
    cluster_json,
    milli_cpu,
    which,
)
from gateway.exchange import caller_of, fields, known, reply
from gateway.readers import VIEWS
from gateway.refusals import Refused

routes = web.RouteTableDef()


class NewCluster(Struct, frozen=True):
    name: ClusterName
    total_ram: Amount
    total_cpu: Cpus
    total_gpu: Gpus


@routes.post("/clusters/create")
@describe("Create a cluster of fixed totals.", body=NewCluster, answer=ClusterJson, errors=(409,))
async def create(request: web.Request) -> web.Response:
    caller, given = caller_of(request), known(NewCluster, await fields(request))
    totals = Totals(
        cpu_milli=milli_cpu("total_cpu", given.total_cpu), memory_mib=given.total_ram, gpus=given.total_gpu
    )
    try:
        command = clusters.new_cluster(request, caller, given.name, totals, strict=True)
        made = await clusters.create(request, caller, command)
    except Declined as no:
        raise Refused(409, "Cluster name already exists") if no.rejection == "NameIsTaken" else no from no
    return reply(cluster_json(request.app[VIEWS], made))


@routes.get("/clusters/get_cluster")
@describe(
    "One cluster, by its number or its name; in the query, or in a body.",
    answer=ClusterJson,
    errors=(400, 404),
    query=(Query("id", int), Query("cluster_name", str)),
)
async def show(request: web.Request) -> web.Response:
    cluster = cluster_at(request, await which(request, WhichCluster))
    return reply(cluster_json(request.app[VIEWS], cluster))
