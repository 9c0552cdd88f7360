"""Deployments at the door: submitting, scaling, ending, and telling why each replica is where it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from aiohttp import web
from msgspec import Meta, Struct

from core.contexts import PLATFORM
from core.message import Command, Millis, Port, Token
from core.messages.deployments import (
    PRIORITY,
    DeploymentName,
    EndDeployment,
    Outcome,
    Ref,
    Replicas,
    Restart,
    ScaleDeployment,
    Share,
    SubmitDeployment,
)
from gateway import catalog
from gateway.caller import Caller
from gateway.clusters import cluster_of
from gateway.exchange import new_id, now_ms, send
from gateway.plans import Plan, is_plan, plan
from gateway.readers import VIEWS
from gateway.refusals import Refused, invalid
from projections.deployments import Deployment

Status = Literal["pending", "partial", "running", "completed", "cancelled"]


class New(Struct, frozen=True, forbid_unknown_fields=True):
    """What to run: an image of yours, or `ref`, which the machines know already. Priorities are 0 to 1000."""

    name: DeploymentName
    cluster_id: Token = "default"
    image_id: Token | None = None
    ref: Ref | None = None
    replicas: Replicas = 1
    share: Share | None = None
    priority: Annotated[int, Meta(ge=0, le=1000)] = PRIORITY
    preemptible: bool = True
    gang: bool = False
    duration_ms: Millis = 0
    port: Port = 8080
    restart: Restart = "always"


class Scale(Struct, frozen=True, forbid_unknown_fields=True):
    replicas: Replicas


class Replica(Struct, frozen=True):
    """`place` is whether it has a place; the rest is what is known of its container's latest run."""

    container_id: str
    run: int
    place: Literal["placed", "waiting", "none"]
    node_id: str | None
    status: str
    ready: bool
    ending: str | None
    detail: str
    evictions: int


class Shown(Struct, frozen=True):
    """`placed` counts the replicas that have a place: none is `pending`, some `partial`, all `running`."""

    deployment_id: str
    ordinal: int
    cluster_id: str
    name: str
    image_id: str | None
    ref: str
    share: Share
    replicas: int
    priority: int
    preemptible: bool
    gang: bool
    duration_ms: int
    restart: Restart
    status: Status
    placed: int
    items: list[Replica]
    at_ms: int
    ended_ms: int | None


def deployment_of(request: web.Request, caller: Caller, deployment_id: str) -> Deployment:
    """The caller's deployment; 404 for anybody else's as for none."""
    return own(caller, request.app[VIEWS].deployments.deployment(deployment_id))


def own(caller: Caller, deployment: Deployment | None) -> Deployment:
    if deployment is None or deployment.tenant not in caller.tenants:
        raise Refused(404, "There is no such deployment.")
    return deployment


def deployments_of(request: web.Request, caller: Caller) -> list[Deployment]:
    """In the order in which they were submitted."""
    found = request.app[VIEWS].deployments.of(caller.tenants)
    return sorted(found, key=lambda deployment: deployment.ordinal)


def status_of(request: web.Request, deployment: Deployment) -> tuple[Status, int]:
    """And how many of its replicas have a place."""
    scheduling = request.app[VIEWS].scheduling
    if deployment.outcome is not None:
        return deployment.outcome, 0
    placed = sum(
        any(place.node_id for place in scheduling.places(container_id))
        for container_id in deployment.containers
    )
    return ("pending" if not placed else "running" if placed == deployment.replicas else "partial"), placed


def shown(request: web.Request, deployment: Deployment) -> Shown:
    status, placed = status_of(request, deployment)
    fields = {
        name: getattr(deployment, name) for name in Shown.__struct_fields__ if hasattr(deployment, name)
    }
    items = [_replica(request, container_id) for container_id in deployment.containers]
    return Shown(**fields, status=status, placed=placed, items=items)


def _replica(request: web.Request, container_id: str) -> Replica:
    views = request.app[VIEWS]
    container = views.containers.container(container_id)
    places = views.scheduling.places(container_id)
    place = places[-1] if places else None
    return Replica(
        container_id=container_id,
        run=container.run if container else 0,
        place="none" if place is None else "placed" if place.node_id else "waiting",
        node_id=place.node_id if place else None,
        status=container.status if container else "pending",
        ready=bool(container and container.ready),
        ending=container.ending if container else None,
        detail=container.detail if container else "",
        evictions=place.evictions if place else 0,
    )


async def submit(request: web.Request, caller: Caller, given: New) -> Deployment | Plan:
    """Raises `Declined`: Unsatisfiable, ClusterIsUnknown."""
    cluster = cluster_of(request, caller, given.cluster_id)
    command = SubmitDeployment(
        cluster_id=cluster.cluster_id,
        deployment_id=new_id(request, "dep"),
        tenant=cluster.owner if cluster.owner in caller.tenants else caller.home,
        name=given.name,
        owner=caller.user_id,
        at_ms=now_ms(),
        replicas=given.replicas,
        priority=given.priority,
        preemptible=given.preemptible,
        gang=given.gang,
        duration_ms=given.duration_ms,
        restart=given.restart,
        **_workload(request, caller, given),
    )
    if is_plan(request):
        return await plan(request, caller, command)
    return await submitted(request, caller, command)


async def submitted(request: web.Request, caller: Caller, command: SubmitDeployment) -> Deployment:
    """Once for one Idempotency-Key, however long ago: its cluster forgets what has ended, we do not."""
    if request.app[VIEWS].deployments.deployment(command.deployment_id) is None:
        await send(request, command, PLATFORM)
    return deployment_of(request, caller, command.deployment_id)


def _workload(request: web.Request, caller: Caller, given: New) -> dict[str, Any]:
    if given.image_id is None:
        if given.ref is None:
            raise invalid("ref", "Object missing required field `ref` or `image_id`", kind="missing")
        return {"ref": given.ref, "port": given.port, "share": given.share or Share()}
    if given.ref is not None:
        raise invalid("ref", "give either an image_id or a ref")
    image = catalog.image_of(request, caller, given.image_id)
    if not image.ref:
        raise Refused(409, "The image has not been built yet, or its build failed; see its build log.")
    resources = image.resources
    return {
        "image_id": image.image_id,
        "ref": image.ref,
        "port": image.port,
        "hostname": image.hostname,
        "share": given.share or Share(**{n: getattr(resources, n) for n in Share.__struct_fields__}),
    }


async def scale(
    request: web.Request, caller: Caller, deployment: Deployment, replicas: int
) -> Deployment | Plan:
    """Raises `Declined`: GangIsWhole, DeploymentIsUnknown when it has ended."""
    command = ScaleDeployment(
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.deployment_id,
        replicas=replicas,
        at_ms=now_ms(),
    )
    return await carry_out(request, caller, command, deployment.deployment_id)


async def end(
    request: web.Request, caller: Caller, deployment: Deployment, outcome: Outcome
) -> Deployment | Plan:
    """Raises `Declined`: DeploymentIsPending. Refuses with 409 if it has ended otherwise already."""
    if deployment.outcome not in (None, outcome):
        raise Refused(409, f"The deployment has ended already: it was {deployment.outcome}.")
    if deployment.outcome == outcome and not is_plan(request):
        return deployment
    command = EndDeployment(
        cluster_id=deployment.cluster_id,
        deployment_id=deployment.deployment_id,
        outcome=outcome,
        at_ms=now_ms(),
    )
    return await carry_out(request, caller, command, deployment.deployment_id)


async def carry_out(
    request: web.Request, caller: Caller, command: Command, deployment_id: str
) -> Deployment | Plan:
    """The deployment as it is then; or, if that is what was asked, what it would come to."""
    if is_plan(request):
        return await plan(request, caller, command)
    await send(request, command, PLATFORM)
    return deployment_of(request, caller, deployment_id)
