"""What a node has to do so that Docker has what the log wants, and the log knows what Docker did.

Level-triggered: the difference of two states, whatever led to them. So nothing
is lost by an agent or an engine that was away, and every step may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from msgspec import Struct

from handlers.agents.engine import Actual
from projections.containers import Container


class Key(NamedTuple):
    container_id: str
    run: int


class Start(Struct, frozen=True):
    """Make it, start it, and say so; whatever of that has been done before is found done."""

    container: Container


class SayStarted(Struct, frozen=True):
    container: Container
    actual: Actual


class Probe(Struct, frozen=True):
    """It runs; find out whether it answers."""

    container: Container
    actual: Actual


class Stop(Struct, frozen=True):
    container: Container
    actual: Actual


class SayEnded(Struct, frozen=True):
    """It ended, and Docker knows when and how."""

    container: Container
    actual: Actual


class SayGone(Struct, frozen=True):
    """There is nothing of it: it vanished, if it ever ran."""

    container: Container


class Remove(Struct, frozen=True):
    """The log has its end, or never heard of it."""

    actual: Actual


Step = Start | SayStarted | Probe | Stop | SayEnded | SayGone | Remove


def plan(
    placed: Collection[Key], container: Callable[[str], Container | None], actual: Iterable[Actual]
) -> dict[Key, Step]:
    """The next step for each run that needs one.

    `placed` are the runs the scheduler gave to this node, `container` what the log
    says of a container, `actual` all that the node's engine has.
    """
    there = {Key(found.container_id, found.run): found for found in actual}
    steps: dict[Key, Step] = {}
    for key in sorted({*placed, *there}):
        found, wish = there.get(key), container(key.container_id)
        live = wish is not None and wish.run == key.run and wish.status != "stopped"
        step: Step | None = Remove(found) if found else None
        if live and wish is not None and key in placed:
            step = _missing(wish) if found is None else _present(wish, found)
        if step is not None:
            steps[key] = step
    return steps


def _missing(wish: Container) -> Step:
    if wish.wanted and wish.status != "running":
        return Start(wish)
    return SayGone(wish)


def _present(wish: Container, found: Actual) -> Step | None:
    match found.state:
        case "created":
            return Start(wish) if wish.wanted else Stop(wish, found)
        case "running":
            if not wish.wanted:
                return Stop(wish, found)
            if wish.status != "running":
                return SayStarted(wish, found)
            return None if wish.ready else Probe(wish, found)
        case "ended":
            return SayEnded(wish, found)
