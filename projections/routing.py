"""Which addresses answer for which hostname, right now.

Rebuilt from the whole log at every start, and asked on every proxied request;
so it lives in memory and keeps no file. A container leaves the table when it is
wished to stop or has to make room, before it does.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from core.messages.catalog import ImageDeleted, ImageRegistered
from core.messages.containers import (
    ContainerCreated,
    ContainerDeleted,
    ContainerReady,
    ContainersEvent,
    ContainerStarted,
    ContainerStopped,
    DeletionRequested,
    RunRequested,
    StopRequested,
)
from core.messages.scheduling import RunEvicted


class Route(Struct, frozen=True):
    hostname: str
    image_id: str
    tenant: str


class Backend(Struct, frozen=True):
    container_id: str
    address: str
    port: int
    run: int


class RoutingTable:
    """Hosts are asked for in normal form (`core.hostname.normalise`); `www.x` is `x` unless registered."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._images: dict[str, str] = {}
        self._started: dict[str, Backend] = {}
        self._ready: dict[str, dict[str, Backend]] = {}
        self._in_turn: dict[str, tuple[Backend, ...]] = {}
        self._turns: dict[str, int] = {}

    def route(self, host: str) -> Route | None:
        return self._routes.get(host) or self._routes.get(host.removeprefix("www."))

    def routes(self) -> list[Route]:
        return list(self._routes.values())

    def backends(self, host: str) -> tuple[Backend, ...]:
        """Those that may get traffic, in the order in which they became ready."""
        route = self.route(host)
        return self._backends(route.image_id) if route else ()

    def choose(self, host: str) -> Backend | None:
        """The next one in turn, None when nobody answers for the host."""
        route = self.route(host)
        backends = self._backends(route.image_id) if route else ()
        if route is None or not backends:
            return None
        turn = self._turns.get(route.hostname, 0) % len(backends)
        self._turns[route.hostname] = turn + 1
        return backends[turn]

    def turn(self, host: str) -> int:
        """Which of the backends is next."""
        route = self.route(host)
        backends = self._backends(route.image_id) if route else ()
        return self._turns.get(route.hostname, 0) % len(backends) if route and backends else 0

    def state(self) -> Any:
        return [self._routes, self._images, self._started, self._ready]

    def apply(
        self,
        tenant: str,
        position: int,
        event: ContainersEvent | ImageRegistered | ImageDeleted | RunEvicted,
    ) -> None:
        match event:
            case ContainerStarted(container_id=id):
                self._withdraw(id)
                self._started[id] = Backend(id, event.address, event.port, event.run)
            case ContainerReady(container_id=id, run=run):
                backend, image_id = self._started.get(id), self._images.get(id)
                if backend and image_id and backend.run == run:
                    self._ready.setdefault(image_id, {})[id] = backend
                    self._in_turn.pop(image_id, None)
            case ContainerStopped(container_id=id) | StopRequested(container_id=id):
                self._withdraw(id)
            case RunEvicted(container_id=id, run=run):
                if (backend := self._started.get(id)) and backend.run == run:
                    self._withdraw(id)
            case ContainerCreated(container_id=id, image_id=image_id):
                self._images[id] = image_id
            case RunRequested(container_id=id) | DeletionRequested(container_id=id):
                self._withdraw(id)
            case ContainerDeleted(container_id=id):
                self._withdraw(id)
                self._images.pop(id, None)
            case ImageRegistered(image_id=image_id, hostname=hostname):
                if hostname:
                    self._routes.setdefault(hostname, Route(hostname, image_id, tenant))
            case ImageDeleted(image_id=image_id, hostname=hostname):
                self._in_turn.pop(image_id, None)
                if hostname and (route := self._routes.get(hostname)) and route.image_id == image_id:
                    del self._routes[hostname]
                    self._turns.pop(hostname, None)

    def _withdraw(self, container_id: str) -> None:
        """What is said later about the run that ends here finds nothing."""
        if self._started.pop(container_id, None) is None:
            return
        image_id = self._images.get(container_id, "")
        ready = self._ready.get(image_id)
        if ready and ready.pop(container_id, None):
            self._in_turn.pop(image_id, None)
            if not ready:
                del self._ready[image_id]

    def _backends(self, image_id: str) -> tuple[Backend, ...]:
        if image_id not in self._in_turn:
            self._in_turn[image_id] = tuple(self._ready.get(image_id, {}).values())
        return self._in_turn[image_id]
