"""/deployments, as the hypervisor app had them: one replica each, of a priority that no other has."""

from __future__ import annotations

from typing import NoReturn

from aiohttp import web
from msgspec import Struct

from core.commands import Declined
from core.contexts import PLATFORM
from core.messages.deployments import (
    Amount,
    DeploymentName,
    EndDeployment,
    Priority,
    Ref,
    Share,
    SubmitDeployment,
)
from core.messages.scheduling import Gpus
from gateway.deployments import deployment_of, submitted
from gateway.describe import Query, describe
from gateway.dialects.hypervisor.words import (
    ClusterJson,
    Cpus,
    DeploymentJson,
    WhichCluster,
    WhichDeployment,
    cluster_at,
    cluster_json,
    deployment_at,
    deployment_json,
    milli_cpu,
    which,
)
from gateway.exchange import caller_of, fields, known, new_id, now_ms, reply, send
from gateway.readers import VIEWS
from gateway.refusals import Refused

routes = web.RouteTableDef()

WHICH = (Query("id", int), Query("deployment_name", str))


class NewDeployment(Struct, frozen=True):
    name: DeploymentName
    cluster_id: int
    image_path: Ref
    ram_required: Amount
    cpu_required: Cpus
    gpu_required: Gpus
    priority: Priority


@routes.post("/deployments/create")
@describe(
    "Run an image: at once, if need be in the place of less urgent ones, or when its turn comes.",
    body=NewDeployment,
    answer=DeploymentJson,
    errors=(404, 409),
)
async def create(request: web.Request) -> web.Response:
    caller, given = caller_of(request), known(NewDeployment, await fields(request))
    cpu_milli = milli_cpu("cpu_required", given.cpu_required)
    cluster = cluster_at(request, WhichCluster(id=given.cluster_id))
    command = SubmitDeployment(
        cluster_id=cluster.cluster_id,
        deployment_id=new_id(request, "dep"),
        tenant=cluster.owner or caller.home,  # who has joined an organisation since keeps his own clusters
        name=given.name,
        ref=given.image_path,
        owner=caller.user_id,
        at_ms=now_ms(),
        share=Share(cpu_milli=cpu_milli, memory_mib=given.ram_required, gpus=given.gpu_required),
        priority=given.priority,
        unique=True,
    )
    try:
        await submitted(request, caller, command)
    except Declined as no:
        _refuse(no, given, cluster_json(request.app[VIEWS], cluster))
    return _answer(request, command.deployment_id)


@routes.get("/deployments/get_deployment")
@describe(
    "One deployment, by its number or its name; in the query, or in a body.",
    answer=DeploymentJson,
    errors=(400, 404),
    query=WHICH,
)
async def show(request: web.Request) -> web.Response:
    return reply(deployment_json(request, deployment_at(request, await which(request, WhichDeployment))))


@routes.post("/deployments/complete")
@describe(
    "It has done its work, which only one that runs can have: what it holds is free for others.",
    answer=DeploymentJson,
    errors=(400, 404, 409),
    query=WHICH,
)
async def complete(request: web.Request) -> web.Response:
    deployment = deployment_at(request, await which(request, WhichDeployment))
    command = EndDeployment(
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.deployment_id,
        outcome="completed",
        at_ms=now_ms(),
    )
    try:
        await send(request, command, PLATFORM)
    except Declined as no:
        if no.rejection == "DeploymentIsUnknown":  # to its cluster, which forgets those that have ended
            raise Refused(409, "Deployment is completed already") from no
        if no.rejection == "DeploymentIsPending":
            raise Refused(409, "Deployment is pending, and only a running one can be completed") from no
        raise
    return _answer(request, deployment.deployment_id)


def _answer(request: web.Request, deployment_id: str) -> web.Response:
    return reply(deployment_json(request, deployment_of(request, caller_of(request), deployment_id)))


def _refuse(no: Declined, given: NewDeployment, cluster: ClusterJson) -> NoReturn:
    match no.rejection:
        case "PriorityIsTaken":
            raise Refused(409, "Priority should be unique: a live deployment of the cluster has it") from no
        case "NameIsTaken":
            raise Refused(409, "Deployment name already exists") from no
        case "ClusterIsUnknown":
            raise Refused(404, "Cluster not found") from no
        case "Unsatisfiable":
            raise Refused(422, _too_large(given, cluster) or [_error("body", msg=str(no))]) from no
        case _:
            raise no


def _too_large(given: NewDeployment, cluster: ClusterJson) -> list[dict[str, object]]:
    """By field; none, if it is no one amount that is too large."""
    return [
        _error("body", f"{kind}_required", msg=f"more than the cluster has in all, which is {total}")
        for kind in ("ram", "cpu", "gpu")
        if getattr(given, f"{kind}_required") > (total := getattr(cluster, f"total_{kind}"))
    ]


def _error(*loc: str, msg: str) -> dict[str, object]:
    return {"loc": loc, "msg": msg, "type": "Unsatisfiable"}
