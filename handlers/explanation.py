"""Why somebody waits, was put where it is, and what would help: found out by what decides."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from core.messages.explanations import (
    Candidate,
    Lacks,
    SchedulingQuestion,
    ShowQueue,
    Size,
    There,
    Turn,
    Waiting,
    WhyThere,
    WhyWaiting,
)
from core.messages.scheduling import RunEvicted, RunPlaced, SchedulingEvent
from handlers.changes import apply
from handlers.cluster import Cluster
from handlers.forecast import forecast
from handlers.preemption import VICTIMS_MAX, Choice, choose
from handlers.request import URGENT, Request
from handlers.shortage import lacking, shortage
from handlers.walk import EVERYBODY, barred_to

CANDIDATES = 3
PRIORITIES_TRIED = 32


def explain(question: SchedulingQuestion, cluster: Cluster, facts: Sequence[SchedulingEvent] = ()) -> object:
    """`facts` are those of the commit that the question is about, which the cluster has not seen yet."""
    match question:
        case WhyWaiting(container_ids=ids, at_ms=at_ms):
            places = _in_order(cluster)
            found = {cluster.requests[key].container_id: (n, key) for n, key in enumerate(places, start=1)}
            waiting = [(found[id], id) for id in ids if id in found]
            return [_waiting(cluster, cluster.requests[key], n, at_ms) for (n, key), _ in waiting]
        case WhyThere(runs=runs):
            return _there(cluster, set(runs), facts)
        case ShowQueue(limit=limit):
            return list(islice(_queue(cluster, question), limit))


def _in_order(cluster: Cluster) -> list[str]:
    """The keys of all who wait, as they would be served if all fitted."""
    books = cluster.books
    if not cluster.quotas:
        return list(books.waiting)
    shares = {request.tenant: books.accounts.share(request.tenant) for request in cluster.requests.values()}
    waiting = [cluster.requests[key] for key in books.waiting]
    waiting.sort(key=lambda one: (-one.priority, shares[one.tenant], one.sequence, one.key))
    return [one.key for one in waiting]


def _queue(cluster: Cluster, asked: ShowQueue) -> Iterator[Turn]:
    etas = forecast(cluster, asked.at_ms)
    reasons: dict[tuple[object, ...], str] = {}
    for position, key in enumerate(_in_order(cluster), start=1):
        request = cluster.requests[key]
        if position <= asked.after or (asked.tenants is not None and request.tenant not in asked.tenants):
            continue
        alike = (request.line, request.tenant)
        if alike not in reasons:
            reasons[alike] = _reason(cluster, request)
        yield Turn(
            position=position,
            container_id=request.container_id,
            run=request.run,
            deployment_id=request.deployment,
            tenant=request.tenant,
            priority=request.priority,
            reason=reasons[alike],
            since_ms=request.since_ms,
            eta_ms=etas.get(request.container_id),
        )


def _waiting(cluster: Cluster, request: Request, position: int, at_ms: int) -> Waiting:
    books, need = cluster.books, request.need
    barred = barred_to(cluster, request)
    lacks = lacking(cluster, need, barred)
    rooms = [room for room in books.rooms.values() if room.open]
    kept = [node_id for node_id, key in cluster.reserved.items() if key == request.key]

    def able(devices: Sequence[int]) -> int:
        return sum(left >= max(1, need.gpu_milli) for left in devices)

    return Waiting(
        container_id=request.container_id,
        run=request.run,
        deployment_id=request.deployment,
        tenant=request.tenant,
        priority=request.priority,
        position=position,
        reason=_reason(cluster, request),
        lacks=Lacks(
            lacks["closed"], lacks["GPU model"], lacks["GPUs"], lacks["memory"], lacks["CPU"], lacks["kept"]
        ),
        needs=Size(need.cpu_milli, need.memory_mib, need.gpus),
        free=Size(
            sum(max(0, room.cpu_milli) for room in rooms),
            sum(max(0, room.memory_mib) for room in rooms),
            sum(able(room.devices) for room in rooms),
        ),
        freest=Size(
            max((max(0, room.cpu_milli) for room in rooms), default=0),
            max((max(0, room.memory_mib) for room in rooms), default=0),
            max((able(room.devices) for room in rooms), default=0),
        ),
        quota=books.accounts.exceeded(request.tenant, need),
        gang=_gang(cluster, request),
        reserved=kept[0] if kept else "",
        since_ms=request.since_ms,
        evictions=request.evictions,
        helps=tuple(_helps(cluster, request)),
    )


def _reason(cluster: Cluster, request: Request) -> str:
    books, need = cluster.books, request.need
    if lacks := books.accounts.exceeded(request.tenant, need):
        return f"the quota allows no more {lacks}"
    if request.gang:
        return f"{_gang(cluster, request)}; {shortage(cluster, need) or 'one alone would fit'}"
    return shortage(cluster, need, barred_to(cluster, request)) or "its turn has not come"


def _gang(cluster: Cluster, request: Request) -> str:
    """`2 of 3 fit together`; '' for who is alone."""
    if not request.gang:
        return ""
    books = cluster.books
    mark, fitting = len(books.journal), 0
    members = [one for one in books.gangs[request.gang].values() if one.node_id is None]
    for member in members:
        found = books.fit.find(member.need, barred_to(cluster, member))
        if found is None:
            break
        books.place(member.key, found[0].node_id, found[1], cluster.now_ms)
        fitting += 1
    books.undo(mark)
    return f"{fitting} of {request.gang_size} fit together"


def _helps(cluster: Cluster, request: Request) -> Iterator[str]:
    """What would let it run, each tried out."""
    books, need = cluster.books, request.need
    if lacks := books.accounts.exceeded(request.tenant, need):
        yield f"a larger quota of {lacks} for {request.tenant}, or less of its work running"
        return
    if request.gang:
        yield f"room for {request.gang_size} of {_said(request)} at once"
        return
    if (priority := _priority_that_helps(cluster, request)) is not None:
        yield f"priority {priority} instead of {request.priority}: less urgent work would have to go"
    yield f"a node with {_said(request)} free"


def _said(request: Request) -> str:
    need = request.need
    words = [f"{need.cpu_milli} mCPU", f"{need.memory_mib} MiB"]
    if need.gpus:
        share = "" if need.gpu_milli == 1000 else f" of {need.gpu_milli}/1000"
        models = f" ({' or '.join(need.models)})" if need.models else ""
        words.append(f"{need.gpus} GPU{'s' if need.gpus > 1 else ''}{share}{models}")
    return " and ".join((", ".join(words[:-1]), words[-1]))


def _priority_that_helps(cluster: Cluster, request: Request) -> int | None:
    """The lowest priority at which somebody would be evicted for it."""
    books, barred = cluster.books, barred_to(cluster, request)
    held = {run.priority for runs in books.runs.values() for run in runs.values() if run.preemptible}
    tried = sorted({priority + 1 for priority in held if priority >= request.priority} | {URGENT})
    victims_max = EVERYBODY if cluster.strict else VICTIMS_MAX
    for priority in tried[:PRIORITIES_TRIED]:
        if priority > request.priority and choose(
            books.pressure, books.gangs, request.need, priority, barred, cluster.now_ms, victims_max
        ):
            return priority
    return None


def _there(cluster: Cluster, runs: Collection[str], facts: Sequence[SchedulingEvent]) -> list[There]:
    """Goes through what was decided again, and looks around before each of these runs is placed."""
    found, gone, others = list[There](), dict[str, list[RunEvicted]](), dict[str, Choice | None]()
    mark = len(cluster.books.journal)
    try:
        for fact in facts:
            match fact:
                case RunEvicted(by=by) if by in runs:
                    if by not in gone:
                        others[by] = _runner_up(cluster, cluster.requests[by], fact.node_id)
                    gone.setdefault(by, []).append(fact)
                case RunPlaced(container_id=id, run=run) if (key := f"{id}/{run}") in runs:
                    found.append(_placed(cluster, fact, gone.get(key, []), others.get(key)))
                case _:
                    pass
            apply(cluster, fact)
    finally:
        cluster.books.undo(mark)
    return found


def _placed(cluster: Cluster, fact: RunPlaced, gone: list[RunEvicted], other: Choice | None) -> There:
    key = f"{fact.container_id}/{fact.run}"
    ranked = [Candidate(fact.node_id, EVICTING)] if gone else _ranked(cluster, cluster.requests[key])
    ranked.sort(key=lambda one: one.node_id != fact.node_id)  # the chosen one is the first
    return There(
        container_id=fact.container_id,
        run=fact.run,
        node_id=fact.node_id,
        devices=fact.devices,
        policy=fact.policy,
        candidates=tuple(ranked),
        evicted=tuple(f"{one.container_id}/{one.run}" for one in gone),
        cost=gone[0].cost if gone else (),
        runner_up=other.node_id if other else "",
        runner_up_cost=other.key[:-1] if other else (),
    )


def _runner_up(cluster: Cluster, request: Request, chosen: str) -> Choice | None:
    books, barred = cluster.books, {chosen, *barred_to(cluster, request)}
    victims_max = EVERYBODY if cluster.strict else VICTIMS_MAX
    return choose(
        books.pressure, books.gangs, request.need, request.priority, barred, cluster.now_ms, victims_max
    )


EVICTING = -1
"""The score of a node that was chosen for those who had to leave it."""


def _ranked(cluster: Cluster, request: Request) -> list[Candidate]:
    """The best first, as `Fit.find` would take them one after the other."""
    books, found, barred = cluster.books, list[Candidate](), barred_to(cluster, request)
    for _ in range(CANDIDATES):
        best = books.fit.find(request.need, barred)
        if best is None:
            break
        node_id = best[0].node_id
        found.append(Candidate(node_id, _score(cluster, request, node_id)))
        barred = barred | {node_id}
    return found


def _score(cluster: Cluster, request: Request, node_id: str) -> int:
    room, mix = cluster.books.rooms[node_id], cluster.books.fit.mix
    shape = mix.shape(room.cpu_milli, tuple(sorted(room.devices)), room.model)
    return mix.score(request.need, shape)[0]
