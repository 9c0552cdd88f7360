"""Everything this process knows by heart, and up to where in the log it knows it.

Each process that reads keeps its own, folded from the whole log at its start and
kept up from there. A dictionary finds whom an event concerns: a replay is mostly
this lookup.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from itertools import count
from typing import Any, Literal, get_args

import msgspec
import structlog

from core.log import Log, Recorded, Unavailable
from core.messages.billing import BillingEvent
from core.messages.catalog import CatalogEvent, ImageDeleted, ImageRegistered
from core.messages.containers import ContainerDeleted, ContainersEvent, ContainerStopped
from core.messages.deployments import DeploymentsEvent
from core.messages.fleet import FleetEvent
from core.messages.identity import IdentityEvent
from core.messages.scheduling import RunEvicted, RunPlaced, SchedulingEvent
from projections.catalog import Catalog
from projections.containers import Pool
from projections.deployments import Deployments
from projections.fleet import Fleet
from projections.identity import Identity
from projections.prices import Prices
from projections.routing import RoutingTable
from projections.scheduling import Queue

log = structlog.get_logger(__name__)

Apply = Callable[[str, int, Any], None]
RETRY_S = 0.5
COLLECT = (50_000, 20, 100)
"""A replay makes millions of short-lived objects and no cycles; at its default the
garbage collector takes as long as the replay."""


class Views:
    def __init__(self) -> None:
        self.position = 0
        self.identity = Identity()
        self.catalog = Catalog()
        self.scheduling = Queue()
        self.deployments = Deployments()
        self.containers = Pool(self.scheduling.placement)
        self.fleet = Fleet()
        self.routing = RoutingTable()
        self.prices = Prices()
        self._concerned: dict[type, tuple[Apply, ...]] = {}
        for apply, events in (
            (self.identity.apply, IdentityEvent),
            (self.catalog.apply, CatalogEvent),
            (self.scheduling.apply, SchedulingEvent | ContainerStopped | ContainerDeleted),
            (self.deployments.apply, DeploymentsEvent),
            (self.containers.apply, ContainersEvent | RunPlaced | RunEvicted),
            (self.fleet.apply, FleetEvent),
            (self.routing.apply, ContainersEvent | ImageRegistered | ImageDeleted | RunEvicted),
            (self.prices.apply, BillingEvent),
        ):
            self.tell(apply, events)
        self._change: asyncio.Event | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = count()

    def tell(self, apply: Apply, events: Any) -> None:
        """One more projection is told of this event, or union of events, after those that are already."""
        for event in get_args(events) or (events,):
            self._concerned[event] = (*self._concerned.get(event, ()), apply)

    def apply(self, recorded: Recorded) -> None:
        """A commit seen before is passed over."""
        stream, position, _, commit = recorded
        if position <= self.position:
            return
        tenant, concerned = stream.tenant, self._concerned
        for decision in commit.decisions:
            for event in decision.events:
                for apply in concerned.get(type(event), ()):
                    apply(tenant, position, event)
        self.position = position
        if self._waiting:
            self._wake()
        if self._change is not None:
            self._change.set()
            self._change = None

    async def wait(self, position: int, timeout_s: float) -> None:
        """Until everything up to `position` is known here. Raises `TimeoutError`."""
        if self.position >= position:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (position, next(self._arrivals), reached))
        async with asyncio.timeout(timeout_s):
            await reached

    def change(self) -> Coroutine[Any, Any, Literal[True]]:
        """To be awaited: the next commit that is applied after this call."""
        if self._change is None:
            self._change = asyncio.Event()
        return self._change.wait()

    def fingerprints(self) -> dict[str, str]:
        """By projection, the SHA-256 of its state as canonical JSON: equal for equal logs."""
        states = {
            "identity": self.identity.state,
            "catalog": self.catalog.state,
            "containers": self.containers.state,
            "deployments": self.deployments.state,
            "scheduling": self.scheduling.state,
            "fleet": self.fleet.state,
            "routing": self.routing.state,
            "prices": self.prices.state,
        }
        encode = msgspec.json.Encoder(order="sorted").encode
        return {name: hashlib.sha256(encode(state())).hexdigest() for name, state in states.items()}

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.position:
            *_, reached = heappop(self._waiting)
            if not reached.done():
                reached.set_result(None)


async def follow(history: Log, views: Views) -> None:
    """Keep the views up with the log, for ever."""
    gc.set_threshold(*COLLECT)
    while True:
        try:
            async for batch in history.follow(after=views.position):
                for recorded in batch:
                    views.apply(recorded)
        except Unavailable as error:
            log.warning("views wait for the log", reason=str(error))
            await asyncio.sleep(RETRY_S)
