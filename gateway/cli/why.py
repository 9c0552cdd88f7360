"""Why something is where it is, waits, or has lost its place: in words, and the figures behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import msgspec
from rich.console import RenderableType

from core.messages.explanations import Lacks, There, Waiting
from gateway.cli import deployments, named, options, session
from gateway.cli.session import Session
from gateway.cli.tables import add, plain, say, show, some, table
from gateway.cli.times import span
from gateway.cli.units import memory, thousandths
from gateway.exchange import now_ms
from gateway.plans import everything
from gateway.why import Why, reasons
from projections.containers import Container
from projections.deployments import Deployment
from projections.views import Views

COST = ("evicted too often", "top priority", "work lost", "runs", "GPUs left over", "memory left over")
"""What decides who has to go, the first first."""

NEUTRAL = 50
"""The score of a node for which nothing speaks, and nothing against it."""

SHOWN_MAX = 50
"""Replicas of one deployment: each that is placed is a question of its own."""


@click.command()
@click.argument("id")
@options.json
@options.data
@options.nats
def command(id: str, as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    """Tell why something is where it is, or waits; ID is that of a deployment or of a container."""
    options.run(_why(id, as_json, data_dir, nats_url))


async def _why(id: str, as_json: bool, data_dir: Path, nats_url: str | None) -> None:
    async with session.opened(data_dir, nats_url) as here:
        views = here.views
        deployment = views.deployments.deployment(id)
        container = views.containers.container(id)
        if deployment is None and container is None and views.deployments.of_container(id) is None:
            raise click.ClickException(
                f"there is no such deployment or container: {plain(id)} "
                "(see `stratus deployments` and `stratus status`)"
            )
        found = await _reasons(here, id, deployment, None if as_json else SHOWN_MAX)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    if deployment is not None:
        show(say(_of_deployment(views, deployment)))
        if len(found) < len(deployment.containers) and found:
            show(f"Of these, {len(found)} are shown, those that wait first; --json tells of all.")
    elif not found:
        show(say(_placeless(id, container)))
    show(*described(found))


async def _reasons(here: Session, id: str, deployment: Deployment | None, most: int | None) -> list[Why]:
    """None of what has ended, or asks for no place."""
    scheduling = here.views.scheduling
    if deployment is not None:
        if deployment.outcome is not None:
            return []
        cluster_id, containers = deployment.cluster_id, deployment.containers
        if most is not None and len(containers) > most:
            waiting = {place.container_id for place in scheduling.waiting(cluster_id)}
            containers = tuple(sorted(containers, key=lambda one: one not in waiting)[:most])
    else:
        places = scheduling.places(id)
        if not places:
            return []
        cluster_id, containers = places[-1].cluster_id, (id,)
    return await reasons(here.questions, scheduling, cluster_id, containers, everything)


def _of_deployment(views: Views, it: Deployment) -> str:
    about = f"{it.deployment_id} ({it.name}, for {it.tenant})"
    if it.outcome is not None:
        ago = f" {span(now_ms() - it.ended_ms)} ago" if it.ended_ms is not None else ""
        return f"{about} was {it.outcome}{ago}: it asks for no place."
    placed = deployments.line(views, it).placed
    kind = "a gang, " if it.gang else ""
    return (
        f"{about}: {kind}priority {it.priority} on {named.cluster(views, it.cluster_id).name}, "
        f"{placed} of {it.replicas} replicas have a place."
    )


def _placeless(id: str, container: Container | None) -> str:
    if container is None:
        return f"{id} has no place and asks for none."
    because = f": {container.ending}" if container.ending else ""
    detail = f" ({container.detail})" if container.detail else ""
    return f"{id} is {container.status}{because}{detail}; it has no place and asks for none."


def described(found: Sequence[Why]) -> Iterator[RenderableType]:
    if not found:
        return
    if len(found) == 1:
        yield say(f"{found[0].container_id}/{found[0].run} {found[0].summary}.")
    else:
        summary = table("Replicas", "container", "run", "")
        for why in found:
            add(summary, why.container_id, why.run, why.summary)
        yield summary
    yield from _placed([why.there for why in found if why.there is not None])
    seen = dict[object, Waiting]()
    for waiting in (why.waiting for why in found if why.waiting is not None):
        seen.setdefault((waiting.reason, waiting.needs, waiting.quota, waiting.helps), waiting)
    for waiting in seen.values():  # replicas wait for the same thing, mostly
        yield from _waits(waiting)
    yield from _lost([why for why in found if why.evicted is not None])


def _placed(found: Sequence[There]) -> Iterator[RenderableType]:
    if not found:
        return
    placed = table("Where it is", "container", "node", "GPUs", "best nodes then, by score", "policy")
    for one in found:
        scores = some(
            f"{it.node_id} {it.score}" if it.score >= 0 else f"{it.node_id} (by eviction)"
            for it in one.candidates
        )
        add(placed, one.container_id, one.node_id, some(map(str, one.devices)) or "-", scores, one.policy)
    yield placed
    if any(candidate.score >= 0 for one in found for candidate in one.candidates):
        yield f"Scores go from 0 to 99, the highest is best; {NEUTRAL} changes nothing."
    for one in found:
        if one.evicted:
            yield say(f"For {one.container_id} had to go: {some(one.evicted)}.")
            yield from _costs(one.node_id, one.cost, one.runner_up, one.runner_up_cost)


def _waits(it: Waiting) -> Iterator[RenderableType]:
    before = f", evicted {it.evictions} times before" if it.evictions > 1 else ""
    before = ", evicted once before" if it.evictions == 1 else before
    waited = span(now_ms() - it.since_ms)
    yield say(f"{it.container_id} waits at {it.position} of the queue, for {waited} by now{before}.")
    figures = table("", "", "needs", "free in all", "most on one node")
    sizes = (it.needs, it.free, it.freest)
    add(figures, "cpu", *(thousandths(size.cpu_milli) for size in sizes))
    add(figures, "memory", *(memory(size.memory_mib) for size in sizes))
    add(figures, "GPUs", *(size.gpus for size in sizes))
    yield figures
    rows = [
        ("reason", it.reason),
        ("nodes passed over", _lacks(it.lacks)),
        ("quota", f"allows no more {it.quota}" if it.quota else ""),
        ("gang", it.gang),
        ("kept free", f"{it.reserved} is kept free for it" if it.reserved else ""),
        *(("would help" if number == 0 else "or", help) for number, help in enumerate(it.helps)),
    ]
    words = table("", "", "")
    words.show_header = False
    for name, text in rows:
        if text:
            add(words, name, text)
    yield words


def _lacks(lacks: Lacks) -> str:
    """How many nodes were passed over, and for what."""
    words = {
        "closed": "closed",
        "gpu_model": "of another GPU model",
        "gpus": "with too few GPUs free",
        "memory": "with too little memory free",
        "cpu": "with too little CPU free",
        "kept": "kept free for others",
    }
    return ", ".join(f"{n} {text}" for name, text in words.items() if (n := getattr(lacks, name)))


def _lost(found: Sequence[Why]) -> Iterator[RenderableType]:
    if not found:
        return
    lost = table("Lost its place before", "container", "run", "from", "because", "by", "with", "ago")
    for why in found:
        if gone := why.evicted:
            others = [key for key in gone.victims if key != f"{why.container_id}/{gone.run}"]
            ago = span(now_ms() - gone.at_ms)
            by, company = gone.by or "-", some(others) or "-"
            add(lost, why.container_id, gone.run, gone.node_id, gone.cause, by, company, ago)
    yield lost
    told = set[object]()
    for why in found:
        if (gone := why.evicted) and gone.cost and (gone.by, gone.victims) not in told:
            told.add((gone.by, gone.victims))
            yield from _costs(gone.node_id, gone.cost, gone.runner_up, gone.runner_up_cost)


def _costs(
    node_id: str, cost: Sequence[int], runner_up: str, runner_up_cost: Sequence[int]
) -> Iterator[RenderableType]:
    """The smaller wins, the first column that differs decides."""
    if not cost:
        return
    costs = table("What that cost, the smallest first", "on", *COST)
    for node, figures in ((node_id, cost), (runner_up, runner_up_cost)):
        if node:
            add(costs, node if node == node_id else f"{node} (next best)", *_figures(figures))
    yield costs


def _figures(cost: Sequence[int]) -> Iterator[str]:
    texts: tuple[Callable[[int], str], ...] = (str, str, _work, str, thousandths, memory)
    return (text(figure) for text, figure in zip(texts, cost, strict=False))


def _work(milli: int) -> str:
    return f"{thousandths(milli)} GPU seconds"
