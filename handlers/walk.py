"""The queue is walked from its head: place, else preempt, else say why not, and let the next ones try.

Whoever is placed before a more urgent request does no harm by it, since that one may
take the place back. Only equals, and what may not be evicted, could keep somebody
waiting for ever: after ten minutes a node is kept free of those.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from msgspec import Struct

from core.messages.scheduling import Cause
from handlers.backlog import Line
from handlers.cluster import Books, Cluster
from handlers.preemption import VICTIMS_MAX, Choice, choose
from handlers.reclaim import reclaim
from handlers.request import Request
from handlers.room import Need, Room

RESERVE_AFTER_MS = 600_000
SHIFTS_TRIED = 32
"""Placements of the same walk that are looked at before somebody is left waiting."""

EVERYBODY = 1 << 30
"""Victims for one request where there is no other limit."""


class Placed(Struct, frozen=True):
    request: Request
    node_id: str
    devices: tuple[int, ...]


class Evicted(Struct, frozen=True):
    """`request` is the run that has to end; `by` is the key of whoever needs its place more, if anybody."""

    request: Request
    node_id: str
    cause: Cause = "preempted"
    by: str = ""
    choice: Choice | None = None


class Reserved(Struct, frozen=True):
    request: Request
    node_id: str


Step = Placed | Evicted | Reserved


class Turn(NamedTuple):
    """When the head of a line is served: the smallest first. `share` is what its tenant holds already."""

    urgency: int
    share: int
    sequence: int
    key: str
    line: Line


def turn(books: Books, head: tuple[int, int, str, Line]) -> Turn:
    urgency, sequence, key, line = head
    return Turn(urgency, books.accounts.share(line.tenant), sequence, key, line)


def walk(cluster: Cluster, only: Line | None = None) -> list[Step]:
    """What is to be done now, tried out on the cluster; of the queue, `only` one line, unless that evicts.

    A new request changes nothing for others, and so need not trouble them.
    """
    books, steps = cluster.books, list[Step]()
    first = books.waiting.head(only) if only else None
    heads = [turn(books, head) for head in (([first] if first else []) if only else books.waiting.heads())]
    blocked: set[Line] = set()
    heapify(heads)
    while heads:
        entry = heappop(heads)
        head = books.waiting.head(entry.line)
        if head is None or entry.line in blocked:
            continue
        if (now := turn(books, head)) != entry:
            heappush(heads, now)
            continue
        kept = len(cluster.reserved)
        taken = _serve(cluster, entry.line)
        if taken is None and steps and only is None:  # a newcomer alone leaves too little to choose from
            taken = _shift(cluster, cluster.requests[entry.key], steps)
        if taken is None:
            blocked.add(entry.line)
            steps += _reserve(cluster, entry.key)
            continue
        steps += taken
        losers = {step.request.tenant for step in taken if isinstance(step, Evicted)}
        if len(cluster.reserved) < kept:  # what was kept free for it is open to all again
            blocked.clear()
        elif losers and cluster.quotas:  # who has lost something may have as much of something else
            blocked = {line for line in blocked if line.tenant not in losers}
        if losers or len(cluster.reserved) < kept:
            heads = [turn(books, head) for head in books.waiting.heads()]
            heapify(heads)
        elif following := books.waiting.head(entry.line):
            heappush(heads, turn(books, following))
    return steps


def _serve(cluster: Cluster, line: Line) -> list[Step] | None:
    """Places for the head of a line, which may be a gang: for all of it or for none."""
    books = cluster.books
    waiting = [cluster.requests[key] for _, key in books.waiting.line(line)[: None if line.gang else 1]]
    if line.gang and not _is_complete(books, waiting):
        return None
    mark, steps = len(books.journal), list[Step]()
    victims_left = EVERYBODY if cluster.strict else VICTIMS_MAX
    for request in waiting:
        taken = _place(cluster, request, victims_left)
        if taken is None:
            books.undo(mark)
            return None
        steps += taken
        victims_left -= len(taken) - 1
    return steps


def _shift(cluster: Cluster, request: Request, steps: list[Step]) -> list[Step] | None:
    """A place for who found none, where somebody was put just now that fits elsewhere as well.

    Nothing of that has happened yet, so it costs nobody anything; of the `steps` taken so
    far the one that is moved goes, and comes again behind the newcomer's.
    """
    books = cluster.books
    if request.gang or books.accounts.exceeded(request.tenant, request.need):
        return None
    barred = barred_to(cluster, request)
    for step in steps[: -SHIFTS_TRIED - 1 : -1]:
        other = step.request
        if not isinstance(step, Placed) or other.gang or other.node_id != step.node_id:
            continue
        mark = len(books.journal)
        books.put_back(other.key)
        found = books.fit.find(request.need, barred)
        if found is not None:
            books.place(request.key, found[0].node_id, found[1], cluster.now_ms)
            elsewhere = books.fit.find(other.need, barred_to(cluster, other))
            if elsewhere is not None:
                books.place(other.key, elsewhere[0].node_id, elsewhere[1], cluster.now_ms)
                steps.remove(step)
                return [
                    Placed(request, found[0].node_id, found[1]),
                    Placed(other, elsewhere[0].node_id, elsewhere[1]),
                ]
        books.undo(mark)
    return None


def _is_complete(books: Books, waiting: list[Request]) -> bool:
    """All members wait; all there ever were, but those that were done before the others were evicted."""
    first, members = waiting[0], books.gangs[waiting[0].gang]
    return len(waiting) == len(members) and (
        len(members) >= first.gang_size or any(one.run > 1 for one in waiting)
    )


def _place(cluster: Cluster, request: Request, victims_max: int) -> list[Step] | None:
    books, need = cluster.books, request.need
    if cluster.quotas and books.accounts.exceeded(request.tenant, need):
        return None
    barred = barred_to(cluster, request) if cluster.reserved else set()
    found = books.fit.find(need, barred)
    if found is not None:
        room, devices = found
        books.place(request.key, room.node_id, devices, cluster.now_ms)
        return [Placed(request, room.node_id, devices)]
    now_ms, priority = cluster.now_ms, request.priority
    choice = choose(books.pressure, books.gangs, need, priority, barred, now_ms, victims_max)
    if choice is None and cluster.quotas:
        choice = reclaim(cluster, request, barred, victims_max)
    if choice is None:
        return None
    steps: list[Step] = []
    for victim in choice.victims:
        assert victim.node_id is not None
        steps.append(Evicted(victim, victim.node_id, "preempted", request.key, choice))
        books.evict(victim.key, now_ms, counts=not cluster.strict)
    devices = books.fit.devices(need, choice.node_id)
    books.place(request.key, choice.node_id, devices, now_ms)
    return [*steps, Placed(request, choice.node_id, devices)]


def barred_to(cluster: Cluster, request: Request) -> set[str]:
    """Nodes kept free for others: for all who are not more urgent, but those who would yield."""
    barred = set()
    for node_id, key in cluster.reserved.items():
        holder = cluster.requests[key]
        if (
            holder.line != request.line  # who stands in the same line is served in its turn
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
    if books.accounts.exceeded(request.tenant, request.need):
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
