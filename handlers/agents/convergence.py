"""What a node has to do so that Docker has what the log wants, and the log knows what Docker did.

Level-triggered: the difference of two states, whatever led to them. So nothing
is lost by an agent or an engine that was away, and every step may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
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


class Evict(Struct, frozen=True):
    """Its place is somebody else's: it stops, with more time than usual, and its next run may begin."""

    container: Container
    actual: Actual


class SayEvicted(Struct, frozen=True):
    """Its place is somebody else's, and it never came to life here."""

    container: Container


class Remove(Struct, frozen=True):
    """The log has its end, or never heard of it."""

    actual: Actual


Step = Start | SayStarted | Probe | Stop | SayEnded | SayGone | Evict | SayEvicted | Remove


def plan(
    placed: Collection[Key],
    container: Callable[[str], Container | None],
    actual: Iterable[Actual],
    leaving: Mapping[Key, bool] | None = None,
    is_crowded: Callable[[Key], bool] = lambda key: False,
) -> dict[Key, Step]:
    """The next step for each run that needs one.

    `placed` are the runs the scheduler gave to this node, `container` what the log
    says of a container, `actual` all that the node's engine has. `leaving` are the
    runs whose place here was taken away, and whether by an eviction. What would not
    fit before they have stopped `is_crowded`, and starts later.
    """
    there = {Key(found.container_id, found.run): found for found in actual}
    leaving = leaving or {}
    steps: dict[Key, Step] = {}
    for key in sorted({*placed, *leaving, *there}):
        found, wish = there.get(key), container(key.container_id)
        step: Step | None = Remove(found) if found else None
        if wish is not None and wish.run == key.run and wish.status != "stopped":
            if key in leaving and wish.wanted:
                step = _leaving(wish, found, evicted=leaving[key])
            elif key in placed or key in leaving:
                step = _missing(wish) if found is None else _present(wish, found)
        if step is not None and not (isinstance(step, Start) and is_crowded(key)):
            steps[key] = step
    return steps


def _leaving(wish: Container, found: Actual | None, *, evicted: bool) -> Step | None:
    """One that lost its place without an eviction shall be deleted: that wish is on its way."""
    if found is None:
        if wish.status == "running":
            return SayGone(wish)
        return SayEvicted(wish) if evicted else None
    if found.state == "ended":
        return SayEnded(wish, found)
    return Evict(wish, found) if evicted else None


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
