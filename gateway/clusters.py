"""Clusters at the door: whose they are, and what the caller may do with them."""

from __future__ import annotations

from aiohttp import web

from core.contexts import PLATFORM
from core.messages.scheduling import CreateCluster, Totals
from gateway.caller import Caller
from gateway.exchange import new_id, now_ms, send
from gateway.readers import VIEWS
from gateway.refusals import Refused
from projections.clusters import Cluster


def cluster_of(request: web.Request, caller: Caller, cluster_id: str) -> Cluster:
    """One that the caller may use: its own, or one that is for everybody; 404 for any other."""
    return usable(caller, request.app[VIEWS].scheduling.cluster(cluster_id))


def usable(caller: Caller, cluster: Cluster | None) -> Cluster:
    if cluster is None or not may_use(caller, cluster):
        raise Refused(404, "There is no such cluster.")
    return cluster


def may_use(caller: Caller, cluster: Cluster) -> bool:
    return cluster.owner == "" or cluster.owner in caller.tenants or caller.operator


def governed(caller: Caller, cluster: Cluster) -> Cluster:
    """One whose rules the caller makes: its own, or any if it is the operator."""
    if not (caller.operator or cluster.owner in caller.tenants):
        raise Refused(403, "Only who runs this cluster may do this.")
    return cluster


def clusters_of(request: web.Request, caller: Caller) -> list[Cluster]:
    """In the order in which they were created."""
    return [one for one in request.app[VIEWS].scheduling.clusters.values() if may_use(caller, one)]


def new_cluster(
    request: web.Request, caller: Caller, name: str, totals: Totals, *, strict: bool = False
) -> CreateCluster:
    """A cluster of fixed totals that belongs to the caller."""
    return CreateCluster(
        cluster_id=new_id(request, "clu"),
        name=name,
        at_ms=now_ms(),
        owner=caller.home,
        totals=totals,
        strict=strict,
    )


async def create(request: web.Request, caller: Caller, command: CreateCluster) -> Cluster:
    """Raises `Declined`: NameIsTaken."""
    await send(request, command, PLATFORM)
    return cluster_of(request, caller, command.cluster_id)
