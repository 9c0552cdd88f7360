"""The queue is walked from its head: place, else preempt, else say why not, and let the next ones try.

Whoever is placed before a more urgent request does no harm by it, since that one may
take the place back. Only equals, and what may not be evicted, could keep somebody
waiting for ever: after ten minutes a node is kept free of those.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

from msgspec import Struct

from handlers.backlog import Line
from handlers.cluster import Books, Cluster
from handlers.preemption import VICTIMS_MAX, choose
from handlers.request import Request
from handlers.room import Need, Room

RESERVE_AFTER_MS = 600_000


class Placed(Struct, frozen=True):
    request: Request
    node_id: str
    devices: tuple[int, ...]


class Evicted(Struct, frozen=True):
    """`by` is the key of whoever needs the place more."""

    request: Request
    node_id: str
    by: str


class Reserved(Struct, frozen=True):
    request: Request
    node_id: str


Step = Placed | Evicted | Reserved


def walk(cluster: Cluster, only: Line | None = None) -> list[Step]:
    """What is to be done now, tried out on the cluster; of the queue, `only` one line, unless that evicts.

    A new request changes nothing for others, and so need not trouble them.
    """
    books, steps = cluster.books, list[Step]()
    first = books.waiting.head(only) if only else None
    heads = ([first] if first else []) if only else books.waiting.heads()
    blocked: set[Line] = set()
    heapify(heads)
    while heads:
        *entry, line = heappop(heads)
        head = books.waiting.head(line)
        if head is None or line in blocked:
            continue
        if head[:3] != tuple(entry):
            heappush(heads, head)
            continue
        taken = _serve(cluster, line)
        if taken is None:
            blocked.add(line)
            steps += _reserve(cluster, head[2])
            continue
        steps += taken
        if any(isinstance(step, Evicted) for step in taken):
            heads = books.waiting.heads()
        elif following := books.waiting.head(line):
            heappush(heads, following)
    return steps


def _serve(cluster: Cluster, line: Line) -> list[Step] | None:
    """Places for the head of a line, which may be a gang: for all of it or for none."""
    books = cluster.books
    waiting = [cluster.requests[key] for _, key in books.waiting.line(line)]
    if not line.gang:
        del waiting[1:]
    elif not _is_complete(books, waiting):
        return None
    mark, steps, victims_left = len(books.journal), list[Step](), VICTIMS_MAX
    for request in waiting:
        taken = _place(cluster, request, victims_left)
        if taken is None:
            books.undo(mark)
            return None
        steps += taken
        victims_left -= len(taken) - 1
    return steps


def _is_complete(books: Books, waiting: list[Request]) -> bool:
    """All members are known; or were, if some have been evicted and others were done by then."""
    first = waiting[0]
    return len(books.gangs[first.gang]) >= first.gang_size or any(one.evictions for one in waiting)


def _place(cluster: Cluster, request: Request, victims_max: int) -> list[Step] | None:
    books, need, barred = cluster.books, request.need, barred_to(cluster, request)
    found = books.fit.find(need, barred)
    if found is not None:
        room, devices = found
        books.place(request.key, room.node_id, devices, cluster.now_ms)
        return [Placed(request, room.node_id, devices)]
    choice = choose(books.pressure, books.gangs, need, request.priority, barred, cluster.now_ms, victims_max)
    if choice is None:
        return None
    steps: list[Step] = []
    for victim in choice.victims:
        assert victim.node_id is not None
        steps.append(Evicted(victim, victim.node_id, request.key))
        books.evict(victim.key, cluster.now_ms)
    devices = books.fit.devices(need, choice.node_id)
    books.place(request.key, choice.node_id, devices, cluster.now_ms)
    return [*steps, Placed(request, choice.node_id, devices)]


def barred_to(cluster: Cluster, request: Request) -> set[str]:
    """Nodes kept free for others: for all who are not more urgent, but those who would yield."""
    barred = set()
    for node_id, key in cluster.reserved.items():
        holder = cluster.requests[key]
        if (
            key != request.key
            and request.priority <= holder.priority
            and not request.yields_to(holder.priority)
        ):
            barred.add(node_id)
    return barred


def _reserve(cluster: Cluster, key: str) -> list[Step]:
    """A node for somebody who has waited long, if it is the first of its priority to do so."""
    request, books = cluster.requests[key], cluster.books
    if request.gang or cluster.now_ms - request.since_ms < RESERVE_AFTER_MS:
        return []
    if any(cluster.requests[other].priority == request.priority for other in cluster.reserved.values()):
        return []
    able = [
        _missing(books, room, request.need, request.priority)
        for node_id, room in books.rooms.items()
        if node_id not in cluster.reserved and cluster.nodes[node_id].could_hold(request.need)
    ]
    if not able:
        return []
    *_, node_id = min(able)
    books.reserve(node_id, key)
    return [Reserved(request, node_id)]


def _missing(books: Books, room: Room, need: Need, priority: int) -> tuple[int, int, int, str]:
    """Devices, MiB and milli-CPU that those who do not yield would have to release, and the node."""
    staying = _without(room, (run for run in books.runs[room.node_id].values() if run.yields_to(priority)))
    devices = need.gpus - sum(left >= need.gpu_milli for left in staying.devices)
    return (
        max(0, devices),
        max(0, need.memory_mib - staying.memory_mib),
        max(0, need.cpu_milli - staying.cpu_milli),
        room.node_id,
    )


def _without(room: Room, runs: Iterable[Request]) -> Room:
    left = Room(room.node_id, room.cpu_milli, room.memory_mib, list(room.devices), room.model, room.open)
    for run in runs:
        left.give_back(run.need, run.devices)
    return left
