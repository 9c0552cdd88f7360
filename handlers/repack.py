"""Runs are moved, one at a time, to where they waste least: maintenance, never part of a decision.

The runs of the most wasteful nodes are tried first, and each move has to save waste by
itself. Good placement leaves little to gain: a tenth of a point of allocation on openb.
"""

from __future__ import annotations

from handlers.cluster import Cluster
from handlers.request import Request
from handlers.walk import Evicted, Placed, Step

TRIED_MAX = 2000


def repack(cluster: Cluster, moves_max: int) -> tuple[int, list[Step]]:
    """Weighed milli-GPU of waste saved, and for each move its end here and its beginning there.

    Tried out on the cluster; whoever asked takes it back or keeps it. Gangs, runs that may
    not be evicted and nodes that are closed are left alone.
    """
    books, steps, gained, tried = cluster.books, list[Step](), 0, 0
    wasteful = sorted(books.rooms, key=lambda node_id: (-_waste(cluster, node_id), node_id))
    for node_id in wasteful:
        for key in sorted(books.runs[node_id]):
            request = cluster.requests.get(key)
            if request is None or not _is_movable(cluster, request) or tried == TRIED_MAX:
                continue
            tried += 1
            move = _move(cluster, request, node_id)
            if move is not None:
                gain, taken = move
                gained, steps = gained + gain, steps + taken
                if len(steps) == 2 * moves_max:
                    return gained, steps
    return gained, steps


def _is_movable(cluster: Cluster, request: Request) -> bool:
    """Not, when its next run has asked for a place of its own already."""
    following = f"{request.container_id}/{request.run + 1}"
    return request.preemptible and not request.gang and following not in cluster.requests


def _move(cluster: Cluster, request: Request, node_id: str) -> tuple[int, list[Step]] | None:
    books, need = cluster.books, request.need
    mark, here = len(books.journal), _waste(cluster, node_id)
    following = books.evict(request.key, cluster.now_ms, counts=False)
    found = books.fit.find(need, {node_id, *cluster.reserved})
    if found is not None:
        room, devices = found
        before = here + _waste(cluster, room.node_id)
        books.place(following.key, room.node_id, devices, cluster.now_ms)
        gain = before - _waste(cluster, node_id) - _waste(cluster, room.node_id)
        if gain > 0:
            return gain, [
                Evicted(request, node_id, "repacked"),
                Placed(following, room.node_id, devices),
            ]
    books.undo(mark)
    return None


def _waste(cluster: Cluster, node_id: str) -> int:
    room = cluster.books.rooms[node_id]
    if not room.open:
        return 0
    return cluster.books.fit.mix.waste(room.cpu_milli, tuple(sorted(room.devices)), room.model)
