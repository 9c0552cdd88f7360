"""When those who wait will be placed, found out by running the queue forward."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import msgspec

from handlers.cluster import Cluster
from handlers.request import Request
from handlers.walk import Evicted, Placed, walk

ENDS_MAX = 2000
"""Ends looked ahead to: beyond, nobody knows."""


def forecast(cluster: Cluster, now_ms: int) -> dict[str, int]:
    """The moments at which containers that wait now are placed first, as far as durations are known.

    Supposes that everybody runs as long as it says, that nobody new comes, and that who
    says nothing runs for ever.
    """
    if not any(request.duration_ms for request in cluster.requests.values()):
        return {}
    ahead = msgspec.json.decode(msgspec.json.encode(cluster), type=Cluster)
    ahead.now_ms = max(ahead.now_ms, now_ms)
    found: dict[str, int] = {}
    ends = [entry for request in ahead.requests.values() for entry in _end(request, ahead.now_ms)]
    heapify(ends)
    for _ in range(ENDS_MAX):
        if not ends or not any(True for _ in ahead.books.waiting):
            break
        at_ms, container_id, run = heappop(ends)
        key = f"{container_id}/{run}"
        request = ahead.requests.get(key)
        if request is None or request.node_id is None:
            continue
        ahead.now_ms = max(ahead.now_ms, at_ms)
        ahead.books.release(key)
        for step in walk(ahead):
            match step:
                case Placed(request=placed):
                    found.setdefault(placed.container_id, ahead.now_ms)
                    for entry in _end(placed, ahead.now_ms):
                        heappush(ends, entry)
                case Evicted(request=gone):
                    found.setdefault(gone.container_id, -1)  # it ran when it was asked about
                case _:
                    pass
        ahead.books.journal.clear()
    return {container_id: at_ms for container_id, at_ms in found.items() if at_ms >= 0}


def _end(request: Request, now_ms: int) -> list[tuple[int, str, int]]:
    if request.node_id is None or not request.duration_ms:
        return []
    return [(max(now_ms, request.since_ms + request.duration_ms), request.container_id, request.run)]
