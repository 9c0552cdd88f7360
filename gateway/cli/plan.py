"""What a command would come to, or has come to: who is placed, who has to go for whom, and who waits then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
from rich.console import RenderableType
from rich.table import Table

from core.contexts import PLATFORM
from core.message import Command, Event
from core.messages.explanations import ShowQueue, Turn
from gateway.cli.session import Session
from gateway.cli.tables import add, say, show, some, table
from gateway.cli.times import moment, span
from gateway.exchange import now_ms
from gateway.plans import Placement, Plan, everything, outcome, summed_up

ROWS_MAX = 50
"""Of one table: nobody reads more of them."""


async def carry_out(
    here: Session, command: Command, *, planned: bool, consequence: Command | None = None
) -> list[Event]:
    """Do it, or tell what it would come to; `consequence` is what follows of it for a cluster.

    What has happened is told only where it moved somebody. Raises `Declined`, `Unavailable`.
    """
    if planned:
        show(*described(await outcome(here.questions, consequence or command, everything)))
        return []
    events = await here.send(command)
    show(*_moves(summed_up(0, events, [], everything), done=True))
    return events


def described(plan: Plan) -> Iterator[RenderableType]:
    if not plan.events:
        yield "Nothing would happen: it is so already. Nothing has been done."
        return
    counts = Counter(plan.events)
    yield say(
        "This would happen: " + some(f"{n} x {name}" if n > 1 else name for name, n in counts.items()) + "."
    )
    yield from _moves(plan, done=False)
    if plan.queue:
        yield turns("The queue after it", plan.queue, now_ms())
    else:
        yield "Nobody would wait then."
    yield f"Nothing has been done; the log was read up to {plan.position}."


def _moves(plan: Plan, *, done: bool) -> Iterator[RenderableType]:
    if plan.placements:
        title = "Placed" if done else "Would be placed"
        placed = table(title, "container", "run", "node", "GPUs")
        for one in plan.placements[:ROWS_MAX]:
            add(placed, one.container_id, one.run, one.node_id, some(map(str, one.devices)) or "-")
        yield placed
        yield from _left_out(plan.placements)
    if plan.evictions:
        title = "Lost their places" if done else "Would lose their places"
        evicted = table(title, "container", "run", "node", "because", "by", "then")
        then = {one.container_id: one for one in plan.placements}
        for gone in plan.evictions[:ROWS_MAX]:
            goes = _goes(then.get(gone.container_id), gone.run)
            add(evicted, gone.container_id, gone.run, gone.node_id, gone.cause, gone.by or "-", goes)
        yield evicted
        yield from _left_out(plan.evictions)
    if plan.reserved:
        yield say(f"Kept free for who has waited long: {some(plan.reserved)}.")


def _goes(place: Placement | None, run: int) -> str:
    return f"goes to {place.node_id}" if place and place.run > run else "waits"


def turns(title: str, queue: Sequence[Turn], at_ms: int) -> Table:
    shown = table(title, "position", "deployment", "container", "priority", "waits for", "reason", "expected")
    for turn in queue[:ROWS_MAX]:
        add(
            shown,
            turn.position,
            turn.deployment_id or "-",
            turn.container_id,
            turn.priority,
            span(at_ms - turn.since_ms),
            turn.reason,
            "nobody knows" if turn.eta_ms is None else moment(turn.eta_ms, at_ms),
        )
    for note in _left_out(queue):
        add(shown, "", "", note)
    return shown


async def queue_of(here: Session, cluster_id: str) -> list[Turn]:
    question = ShowQueue(cluster_id=cluster_id, at_ms=now_ms())
    told = await here.questions.ask(PLATFORM, question=question)
    return msgspec.json.decode(told.answer, type=list[Turn])


def _left_out(rows: Sequence[object]) -> Iterator[str]:
    if len(rows) > ROWS_MAX:
        yield f"... and {len(rows) - ROWS_MAX} more"
