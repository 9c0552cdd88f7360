"""Why a run waits, is where it is, or has lost its place: at the door, without what is others' business."""

from __future__ import annotations

import msgspec
from aiohttp import web
from msgspec import Struct

from core.contexts import PLATFORM
from core.messages.explanations import There, Waiting, WhyThere, WhyWaiting
from core.questions import Questions
from gateway.caller import Caller
from gateway.exchange import now_ms
from gateway.plans import See, sight
from gateway.readers import QUESTIONS, VIEWS
from projections.containers import Container
from projections.deployments import Deployment
from projections.scheduling import Eviction, Place, Queue


class Evicted(Struct, frozen=True):
    """The last time it lost its place: by whom, with which others, at what cost, and where else it could be.

    The costs are, in order: victims that had been evicted too often before, their highest
    priority, work lost (milli-GPU seconds), their number, GPUs and memory left over.
    """

    run: int
    node_id: str
    cause: str
    by: str
    victims: tuple[str, ...]
    cost: tuple[int, ...]
    runner_up: str
    runner_up_cost: tuple[int, ...]
    at_ms: int


class Why(Struct, frozen=True):
    """Why one run waits (`waiting`) or is where it is (`there`), and how it lost its place before, if it did.

    `summary` is the same in one sentence.
    """

    container_id: str
    run: int
    summary: str
    waiting: Waiting | None
    there: There | None
    evicted: Evicted | None


async def of_deployment(request: web.Request, caller: Caller, deployment: Deployment) -> list[Why]:
    """One for each replica; none, if it has ended."""
    if deployment.outcome is not None:
        return []
    return await _of_containers(request, caller, deployment.cluster_id, deployment.containers)


async def of_container(request: web.Request, caller: Caller, container: Container) -> list[Why]:
    places = request.app[VIEWS].scheduling.places(container.container_id)
    if not places:
        return []
    return await _of_containers(request, caller, places[-1].cluster_id, (container.container_id,))


async def _of_containers(
    request: web.Request, caller: Caller, cluster_id: str, container_ids: tuple[str, ...]
) -> list[Why]:
    views = request.app[VIEWS]
    see = sight(views, caller)
    return await reasons(request.app[QUESTIONS], views.scheduling, cluster_id, container_ids, see)


async def reasons(
    questions: Questions, scheduling: Queue, cluster_id: str, container_ids: tuple[str, ...], see: See
) -> list[Why]:
    """One for each container, in their order."""
    asked = WhyWaiting(cluster_id=cluster_id, container_ids=container_ids, at_ms=now_ms())
    told = await questions.ask(PLATFORM, question=asked)
    waiting = {one.container_id: one for one in msgspec.json.decode(told.answer, type=list[Waiting])}
    latest = {id: places[-1] for id in container_ids if (places := scheduling.places(id))}
    decided: dict[int, list[str]] = {}
    for place in latest.values():
        if place.node_id:
            decided.setdefault(place.placed_at, []).append(f"{place.container_id}/{place.placed_run}")
        if place.evicted and place.evicted.by:
            decided.setdefault(place.evicted.position, []).append(place.evicted.by)
    there: dict[str, There] = {}
    for position, runs in decided.items():
        question = WhyThere(cluster_id=cluster_id, runs=tuple(dict.fromkeys(runs)))
        told = await questions.ask(PLATFORM, question=question, at=position)
        for one in msgspec.json.decode(told.answer, type=list[There]):
            there[f"{one.container_id}/{one.run}"] = one
    return [_why(id, latest.get(id), waiting.get(id), there, see) for id in container_ids]


def _why(
    container_id: str, place: Place | None, waiting: Waiting | None, known: dict[str, There], see: See
) -> Why:
    evicted = there = None
    if place and place.evicted:
        evicted = _evicted(place.evicted, known.get(place.evicted.by), see)
    if place and place.node_id and waiting is None:
        there = known.get(f"{container_id}/{place.placed_run}")
    if there is not None:
        there = msgspec.structs.replace(there, evicted=tuple(see(key, None) for key in there.evicted))
    run = waiting.run if waiting else place.run if place else 0
    return Why(container_id, run, _summary(place, waiting, there, evicted), waiting, there, evicted)


def _evicted(lost: Eviction, winner: There | None, see: See) -> Evicted:
    return Evicted(
        run=lost.run,
        node_id=lost.node_id,
        cause=lost.cause,
        by=see(lost.by, None),
        victims=tuple(see(key, None) for key in lost.victims),
        cost=lost.cost,
        runner_up=winner.runner_up if winner else "",
        runner_up_cost=winner.runner_up_cost if winner else (),
        at_ms=lost.at_ms,
    )


LOST: dict[str, str] = {
    "preempted": "more urgent work took its place on",
    "drained": "it was drained from",
    "lost": "it was lost with",
    "repacked": "it was repacked from",
}


def _summary(
    place: Place | None, waiting: Waiting | None, there: There | None, evicted: Evicted | None
) -> str:
    before = ""
    if evicted is not None:
        how = f"{evicted.by} took its place on" if evicted.by else LOST[evicted.cause]
        before = f"; before, {how} {evicted.node_id}"
    if waiting is not None:
        return f"waits at {waiting.position}: {waiting.reason}{before}"
    if there is not None:
        best = (
            f"best of {len(there.candidates)} looked at" if len(there.candidates) > 1 else "the only choice"
        )
        if there.evicted:
            best = f"{len(there.evicted)} had to go for it"
        return f"placed on {there.node_id}: {best} ({there.policy}){before}"
    if place is not None and place.node_id:
        return f"placed on {place.node_id}{before}"
    return "has no place and asks for none"
