"""What must be true of a cluster after every decision, told from its facts alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from handlers.cluster import Cluster
from handlers.preemption import VICTIMS_MAX
from handlers.request import Request
from handlers.room import Room
from handlers.walk import barred_to


def broken_rules(cluster: Cluster) -> list[str]:
    """None, of a cluster whose queue has just been walked."""
    return [*overdrawn(cluster), *lost(cluster), *inverted(cluster), *torn(cluster)]


def overdrawn(cluster: Cluster) -> Iterator[str]:
    for node_id, node in cluster.nodes.items():
        room = left(cluster, node_id)
        if node.offered and min(room.cpu_milli, room.memory_mib, *room.devices, 0) < 0:
            yield f"{node_id} has promised more than it has"
        books = cluster.books.rooms[node_id]
        if (books.cpu_milli, books.memory_mib, books.devices) != (
            room.cpu_milli,
            room.memory_mib,
            room.devices,
        ):
            yield f"the books of {node_id} are wrong"


def lost(cluster: Cluster) -> Iterator[str]:
    waiting = list(cluster.books.waiting)
    placed = [key for runs in cluster.books.runs.values() for key in runs]
    if sorted([*waiting, *placed]) != sorted(cluster.requests):
        yield "somebody is in no queue and in no place"


def inverted(cluster: Cluster) -> Iterator[str]:
    """Somebody waits for what is free, or held by less urgent work that may be evicted.

    A gang may, and who has used up its quota.
    """
    for key in cluster.books.waiting:
        request = cluster.requests[key]
        barred = barred_to(cluster, request)
        if cluster.books.accounts.exceeded(request.tenant, request.need):
            continue
        for node_id in cluster.nodes:
            if request.gang or node_id in barred:
                continue
            runs = [run for run in on(cluster, node_id) if run.yields_to(request.priority)]
            few = cluster.strict or len(runs) <= VICTIMS_MAX
            allowed = few and not any(run.gang for run in runs)
            if left(cluster, node_id, runs if allowed else ()).fits(request.need):
                yield f"{key} waits for what less urgent work holds on {node_id}"


def torn(cluster: Cluster) -> Iterator[str]:
    """Of a gang some run and some wait."""
    for gang, members in cluster.books.gangs.items():
        placed = sum(member.node_id is not None for member in members.values())
        if 0 < placed < len(members):
            yield f"the gang {gang} is torn"


def on(cluster: Cluster, node_id: str) -> list[Request]:
    return [request for request in cluster.requests.values() if request.node_id == node_id]


def left(cluster: Cluster, node_id: str, without: Iterable[Request] = ()) -> Room:
    room = cluster.nodes[node_id].room(node_id)
    gone = {request.key for request in without}
    for request in on(cluster, node_id):
        if request.key not in gone:
            room.take(request.need, request.devices)
    return room
