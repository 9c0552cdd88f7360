"""A cluster's nodes, requests and what is promised to whom: the facts, and the books kept from them.

The facts are what rides along in the log. The books can always be opened anew from
them; they are kept because a large cluster is too large to be summed up for every
decision. All changes are made in place, and each can be taken back: a decision tries
things out on the cluster itself, and takes them back when it has been made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from msgspec import Struct

from handlers.backlog import Backlog
from handlers.fit import CLASSES_MAX, Fit
from handlers.mix import is_time_to_learn
from handlers.preemption import Pressure
from handlers.request import Request
from handlers.room import WHOLE, Need, Room


class Node(Struct):
    """What a node offers in all; nothing new once `offered` is False."""

    cpu_milli: int
    memory_mib: int
    gpus: int = 0
    gpu_model: str = ""
    offered: bool = True

    def could_hold(self, need: Need) -> bool:
        """Whether there is room when nothing else is there."""
        return (
            self.offered
            and need.cpu_milli <= self.cpu_milli
            and need.memory_mib <= self.memory_mib
            and need.gpus <= self.gpus
            and (not need.models or self.gpu_model in need.models)
        )

    def room(self, node_id: str) -> Room:
        devices = [WHOLE] * self.gpus
        return Room(node_id, self.cpu_milli, self.memory_mib, devices, self.gpu_model, self.offered)


class Cluster(Struct, dict=True):
    """`asked` counts requests by demand, `mix` is how it stood when it was last learned from.

    `reserved` are nodes kept free for somebody who has waited long. `now_ms` is the
    latest moment that any event told.
    """

    name: str = ""
    nodes: dict[str, Node] = {}
    requests: dict[str, Request] = {}
    reserved: dict[str, str] = {}
    asked: dict[str, int] = {}
    mix: dict[str, int] = {}
    arrivals: int = 0
    now_ms: int = 0

    @cached_property
    def books(self) -> Books:
        return Books(self)


class Books:
    """What follows from the facts of one cluster, kept in step with them. `undo` takes changes back."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.rooms = {id: node.room(id) for id, node in sorted(cluster.nodes.items())}
        self.runs: dict[str, dict[str, Request]] = {id: {} for id in self.rooms}
        self.gangs: dict[str, dict[str, Request]] = {}
        self.waiting = Backlog()
        self.journal: list[Callable[[], None]] = []
        for key, request in sorted(cluster.requests.items()):
            if request.gang:
                self.gangs.setdefault(request.gang, {})[key] = request
            if request.node_id is None:
                self.waiting.enter(request.line, request.sequence, key)
            else:
                self.rooms[request.node_id].take(request.need, request.devices)
                self.runs[request.node_id][key] = request
        self.fit = Fit(self.rooms, cluster.mix)
        self.pressure = Pressure(self.rooms, self.runs)

    def offer(self, node_id: str, node: Node) -> None:
        """New totals for a node; devices that hold something and are not offered any more stay, overdrawn."""
        nodes, before = self.cluster.nodes, self.cluster.nodes.get(node_id)
        held = list(self.runs.setdefault(node_id, {}).values())
        used = max((device + 1 for request in held for device in request.devices), default=0)
        room = node.room(node_id)
        room.devices += [0] * (used - node.gpus)
        for request in held:
            room.take(request.need, request.devices)
        nodes[node_id], self.rooms[node_id] = node, room
        self._touch(node_id)
        reserved = {} if node.offered else self._unreserve(node_id=node_id)

        def undo() -> None:
            if before is None:
                self._forget(node_id)
            else:
                self.offer(node_id, before)
                self.cluster.reserved.update(reserved)

        self.journal.append(undo)

    def ask(self, request: Request) -> None:
        cluster, key = self.cluster, request.key
        cluster.requests[key] = request
        if request.gang:
            self.gangs.setdefault(request.gang, {})[key] = request
        self.waiting.enter(request.line, request.sequence, key)
        self.journal.append(lambda: self.release(key))

    def learn(self, need: Need) -> None:
        """Counts the request; not to be taken back, so this is for what has happened only."""
        cluster, demand = self.cluster, need.demand
        if demand not in cluster.asked and len(cluster.asked) >= CLASSES_MAX:
            cluster.asked = {known: times // 2 for known, times in cluster.asked.items() if times > 1}
        cluster.asked[demand] = cluster.asked.get(demand, 0) + 1
        cluster.arrivals += 1
        if is_time_to_learn(cluster.arrivals):
            cluster.mix = dict(cluster.asked)
            self.fit.learn(cluster.mix)

    def place(self, key: str, node_id: str, devices: tuple[int, ...], at_ms: int) -> None:
        request = self.cluster.requests[key]
        since_ms, reserved = request.since_ms, self._unreserve(key)
        self.waiting.leave(request.line, request.sequence, key)
        self._put(request, node_id, devices, at_ms)

        def undo() -> None:
            self._lift(request)
            request.since_ms = since_ms
            self.waiting.enter(request.line, request.sequence, key)
            self.cluster.reserved.update(reserved)

        self.journal.append(undo)

    def evict(self, key: str, at_ms: int) -> None:
        """Back to where it waited: its turn is that of its first request."""
        request = self.cluster.requests[key]
        since_ms, place = request.since_ms, self._lift(request)
        request.evictions += 1
        request.since_ms = at_ms
        self.waiting.enter(request.line, request.sequence, key)

        def undo() -> None:
            request.evictions -= 1
            self.waiting.leave(request.line, request.sequence, key)
            self._put(request, *place, since_ms)

        self.journal.append(undo)

    def release(self, key: str) -> None:
        request = self.cluster.requests.pop(key)
        reserved = self._unreserve(key)
        if request.gang:
            members = self.gangs[request.gang]
            del members[key]
            if not members:
                del self.gangs[request.gang]
        if request.node_id is None:
            self.waiting.leave(request.line, request.sequence, key)
            place = None
        else:
            place = self._lift(request)

        def undo() -> None:
            if place is None:
                self.ask(request)
                self.cluster.reserved.update(reserved)
                return
            self.cluster.requests[key] = request
            if request.gang:
                self.gangs.setdefault(request.gang, {})[key] = request
            self._put(request, *place, request.since_ms)

        self.journal.append(undo)

    def reserve(self, node_id: str, key: str) -> None:
        self.cluster.reserved[node_id] = key

        def undo() -> None:
            del self.cluster.reserved[node_id]

        self.journal.append(undo)

    def _forget(self, node_id: str) -> None:
        del self.cluster.nodes[node_id], self.rooms[node_id], self.runs[node_id]
        self.fit.forget(node_id)
        self.pressure.forget(node_id)

    def undo(self, mark: int = 0) -> None:
        """All changes since the journal was as long as `mark`."""
        while len(self.journal) > mark:
            change = self.journal.pop()
            kept = len(self.journal)
            change()
            del self.journal[kept:]

    def _unreserve(self, key: str = "", node_id: str = "") -> dict[str, str]:
        """What was reserved for one, or on one node."""
        reserved = self.cluster.reserved.items()
        dropped = {id: holder for id, holder in reserved if holder == key or id == node_id}
        for id in dropped:
            del self.cluster.reserved[id]
        return dropped

    def _put(self, request: Request, node_id: str, devices: tuple[int, ...], at_ms: int) -> None:
        request.node_id, request.devices, request.since_ms = node_id, devices, at_ms
        self.rooms[node_id].take(request.need, devices)
        self.runs[node_id][request.key] = request
        self.pressure.took(request)
        self._touch(node_id)

    def _lift(self, request: Request) -> tuple[str, tuple[int, ...]]:
        node_id, devices = request.node_id, request.devices
        assert node_id is not None
        request.node_id, request.devices = None, ()
        self.rooms[node_id].give_back(request.need, devices)
        del self.runs[node_id][request.key]
        self.pressure.gave_back(request)
        self._touch(node_id)
        return node_id, devices

    def _touch(self, node_id: str) -> None:
        self.fit.touch(node_id)
        self.pressure.touch(node_id)
