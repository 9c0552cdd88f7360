"""What a command would come to, found out by deciding it and doing nothing; and what one has come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from aiohttp import web
from msgspec import Struct

from core.contexts import PLATFORM
from core.message import Command, Event
from core.messages.explanations import ShowQueue, Turn
from core.messages.scheduling import NodeReserved, RunEvicted, RunPlaced
from core.questions import Questions
from gateway.caller import Caller
from gateway.exchange import now_ms
from gateway.readers import QUESTIONS, VIEWS
from gateway.refusals import invalid
from projections.views import Views

See = Callable[[str, str | None], str]
"""What somebody may be told of a run (`ctr_5/2`), which is of this tenant if that is known."""


class Placement(Struct, frozen=True):
    container_id: str
    run: int
    node_id: str
    devices: tuple[int, ...]


class Eviction(Struct, frozen=True):
    """`by` is who would need the place more."""

    container_id: str
    run: int
    node_id: str
    cause: str
    by: str


class Plan(Struct, frozen=True):
    """What would happen at once, and the queue after it; of others than the caller only that they are there.

    `position` is the last commit that was taken into account; `events` the names of all
    that would be appended.
    """

    position: int
    placements: list[Placement]
    evictions: list[Eviction]
    reserved: list[str]
    queue: list[Turn]
    events: list[str]


def is_plan(request: web.Request) -> bool:
    given = request.query.get("plan")
    if given not in (None, "true", "false"):
        raise invalid("plan", "must be true or false", place="query")
    return given == "true"


async def plan(request: web.Request, caller: Caller, command: Command) -> Plan:
    """Raises `Declined` as the command itself would."""
    see = sight(request.app[VIEWS], caller)
    return await outcome(request.app[QUESTIONS], command, see, None if caller.operator else caller.tenants)


async def outcome(
    questions: Questions, command: Command, see: See, tenants: tuple[str, ...] | None = None
) -> Plan:
    """Of a command about a cluster; with the queue after it, of these tenants only if given.

    Raises `Declined`.
    """
    cluster_id: str = getattr(command, "cluster_id")  # noqa: B009
    queue = ShowQueue(cluster_id=cluster_id, at_ms=now_ms(), tenants=tenants)
    told = await questions.ask(PLATFORM, plan=command, question=queue)
    return summed_up(told.position, told.events, msgspec.json.decode(told.answer, type=list[Turn]), see)


def summed_up(position: int, events: Iterable[Event], queue: list[Turn], see: See) -> Plan:
    placements, evictions, reserved = list[Placement](), list[Eviction](), list[str]()
    names = list[str]()
    for event in events:
        names.append(type(event).__name__)
        match event:
            case RunPlaced(container_id=id, run=run):
                shown = see(f"{id}/{run}", event.tenant)
                placements.append(Placement(*_split(shown), event.node_id, event.devices))
            case RunEvicted(container_id=id, run=run):
                shown, by = see(f"{id}/{run}", event.tenant), see(event.by, None)
                evictions.append(Eviction(*_split(shown), event.node_id, event.cause, by))
            case NodeReserved(node_id=node_id):
                reserved.append(node_id)
            case _:
                pass
    return Plan(position, placements, evictions, reserved, queue, names)


def sight(views: Views, caller: Caller) -> See:
    """`ctr_5/2` for who may see it; that it is somebody else's is all that others are told."""

    def see(key: str, tenant: str | None) -> str:
        if not key or caller.operator:
            return key
        if tenant is None:
            container_id = key.rpartition("/")[0]
            container = views.containers.container(container_id)
            known = container or views.deployments.of_container(container_id)
            tenant = known.tenant if known else None
        # what is only planned is nobody's yet but the caller's own
        return key if tenant is None or tenant in caller.tenants else OTHERS

    return see


def everything(key: str, tenant: str | None) -> str:
    """What the operator sees."""
    return key


OTHERS = "somebody else's"


def _split(key: str) -> tuple[str, int]:
    container_id, slash, run = key.rpartition("/")
    return (container_id, int(run)) if slash else (key, 0)
