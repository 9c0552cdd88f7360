"""A cluster's nodes, requests and what is promised to whom: the facts, and the books kept from them.

The facts are what rides along in the log. The books can always be opened anew from
them; they are kept because a large cluster is too large to be summed up for every
decision. All changes are made in place, and each can be taken back: a decision tries
things out on the cluster itself, and takes them back when it has been made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from handlers.backlog import Backlog
from handlers.fit import CLASSES_MAX, Fit
from handlers.mix import is_time_to_learn
from handlers.preemption import Pressure
from handlers.quota import Accounts, Quota
from handlers.request import Request
from handlers.room import WHOLE, Need, Room

Undo = Callable[[], None]


class Kind(NamedTuple):
    """The size of a node. There are few of them, however many nodes there are."""

    cpu_milli: int
    memory_mib: int
    gpus: int
    gpu_model: str

    def is_large_enough(self, need: Need) -> bool:
        return (
            need.cpu_milli <= self.cpu_milli
            and need.memory_mib <= self.memory_mib
            and need.gpus <= self.gpus
            and (not need.models or self.gpu_model in need.models)
        )


class Node(Struct, omit_defaults=True):
    """What a node offers in all; nothing new once `offered` is False.

    A `virtual` one stands for a cluster's totals; the agent of `carrier` runs what is
    placed on it.
    """

    cpu_milli: int
    memory_mib: int
    gpus: int = 0
    gpu_model: str = ""
    offered: bool = True
    virtual: bool = False
    carrier: str = ""

    def could_hold(self, need: Need) -> bool:
        """Whether there is room when nothing else is there."""
        return self.offered and self.kind.is_large_enough(need)

    @property
    def kind(self) -> Kind:
        return Kind(self.cpu_milli, self.memory_mib, self.gpus, self.gpu_model)

    def room(self, node_id: str) -> Room:
        devices = [WHOLE] * self.gpus
        return Room(node_id, self.cpu_milli, self.memory_mib, devices, self.gpu_model, self.offered)


class Deployment(Struct, frozen=True, array_like=True):
    """What its requests do not say. `serial` numbers its replicas, `digest` is of how it was submitted.

    `name` is '' unless nobody else may have it.
    """

    serial: int
    digest: str
    name: str = ""


class Cluster(Struct, dict=True, omit_defaults=True):
    """`asked` counts requests by demand, `mix` is how it stood when it was last learned from.

    `reserved` are nodes kept free for somebody who has waited long. `now_ms` is the
    latest moment that any event told. `arrivals` counts all requests there ever were.
    """

    name: str = ""
    owner: str = ""
    strict: bool = False
    nodes: dict[str, Node] = {}
    requests: dict[str, Request] = {}
    deployments: dict[str, Deployment] = {}
    quotas: dict[str, Quota] = {}
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
        self.containers: Counter[str] = Counter()
        self.gangs: dict[str, dict[str, Request]] = {}
        self.replicas: dict[str, dict[str, Request]] = {}
        self.waiting = Backlog()
        self.journal: list[Undo] = []
        self.accounts = Accounts(cluster.quotas)
        self.kinds: Counter[Kind] = Counter()
        for node in cluster.nodes.values():
            self._count(node)
        for key, request in sorted(cluster.requests.items()):
            self._enlist(key, request)
            if request.node_id is None:
                self.waiting.enter(request.line, request.sequence, key)
            else:
                self.rooms[request.node_id].take(request.need, request.devices)
                self.runs[request.node_id][key] = request
                self.accounts.took(request.tenant, request.need)
        self.fit = Fit(self.rooms, cluster.mix)
        self.pressure = Pressure(self.rooms, self.runs)

    def tick(self, at_ms: int) -> None:
        """Something happened at this moment; clocks of several machines may disagree about the order."""
        before = self.cluster.now_ms
        if at_ms > before:
            self.cluster.now_ms = at_ms
            self.journal.append(lambda: self._set_clock(before))

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
        self._count(node)
        if before is not None:
            self._count(before, times=-1)
        self._touch(node_id)
        reserved = {} if node.offered else self._unreserve(node_id=node_id)

        def undo() -> None:
            if before is None:
                self._forget(node_id)
            else:
                self.offer(node_id, before)
                self.cluster.reserved.update(reserved)

        self.journal.append(undo)

    def limit(self, tenant: str, quota: Quota | None) -> None:
        """None lifts it."""
        before = self.cluster.quotas.get(tenant)
        self._limit(tenant, quota)
        self.journal.append(lambda: self._limit(tenant, before))

    def deploy(self, deployment_id: str, deployment: Deployment | None) -> None:
        """None forgets it; its requests are asked and released by themselves."""
        before = self.cluster.deployments.get(deployment_id)
        self._deploy(deployment_id, deployment)
        self.journal.append(lambda: self._deploy(deployment_id, before))

    def ask(self, request: Request) -> None:
        key = request.key
        self.cluster.requests[key] = request
        self._enlist(key, request)
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
        since_ms, reserved = request.since_ms, self._unreserve(key) if self.cluster.reserved else None
        self.waiting.leave(request.line, request.sequence, key)
        self._put(request, node_id, devices, at_ms)

        def undo() -> None:
            self._lift(request)
            request.since_ms = since_ms
            self.waiting.enter(request.line, request.sequence, key)
            if reserved:
                self.cluster.reserved.update(reserved)

        self.journal.append(undo)

    def evict(self, key: str, at_ms: int, *, counts: bool = True) -> Request:
        """The run has to end; its container's next run waits, and its turn is that of the first request.

        One that has asked for itself already is left as it is.
        """
        request = self.cluster.requests[key]
        if known := self.cluster.requests.get(f"{request.container_id}/{request.run + 1}"):
            self.release(key)
            return known
        since_ms, place = request.since_ms, self._lift(request)
        following = replace(
            request, run=request.run + 1, since_ms=at_ms, evictions=request.evictions + (1 if counts else 0)
        )
        self._rename(request, following)
        self.waiting.enter(following.line, following.sequence, following.key)

        def undo() -> None:
            self.waiting.leave(following.line, following.sequence, following.key)
            self._rename(following, request)
            self._put(request, *place, since_ms)

        self.journal.append(undo)
        return following

    def put_back(self, key: str) -> None:
        """Into the queue, as if it had not been placed; for what has only been tried out."""
        request = self.cluster.requests[key]
        placed_ms, place = request.since_ms, self._lift(request)
        self.waiting.enter(request.line, request.sequence, key)

        def undo() -> None:
            self.waiting.leave(request.line, request.sequence, key)
            self._put(request, *place, placed_ms)

        self.journal.append(undo)

    def hand_on(self, key: str) -> None:
        """To the next run of the same container, place and turn and all."""
        request = self.cluster.requests[key]
        following = replace(request, run=request.run + 1)
        self._hand_on(request, following)
        self.journal.append(lambda: self._hand_on(following, request))

    def release(self, key: str) -> None:
        request = self.cluster.requests.pop(key)
        reserved = self._unreserve(key)
        self._delist(key, request)
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
            self._enlist(key, request)
            self._put(request, *place, request.since_ms)

        self.journal.append(undo)

    def reserve(self, node_id: str, key: str) -> None:
        self.cluster.reserved[node_id] = key

        def undo() -> None:
            del self.cluster.reserved[node_id]

        self.journal.append(undo)

    def undo(self, mark: int = 0) -> None:
        """All changes since the journal was as long as `mark`."""
        while len(self.journal) > mark:
            change = self.journal.pop()
            kept = len(self.journal)
            change()
            del self.journal[kept:]

    def _set_clock(self, now_ms: int) -> None:
        self.cluster.now_ms = now_ms

    def _forget(self, node_id: str) -> None:
        self.fit.forget(node_id)
        self.pressure.forget(node_id)
        self._count(self.cluster.nodes[node_id], times=-1)
        del self.cluster.nodes[node_id], self.rooms[node_id], self.runs[node_id]

    def _limit(self, tenant: str, quota: Quota | None) -> None:
        if quota is None:
            self.cluster.quotas.pop(tenant, None)
        else:
            self.cluster.quotas[tenant] = quota

    def _deploy(self, deployment_id: str, deployment: Deployment | None) -> None:
        if deployment is None:
            self.cluster.deployments.pop(deployment_id, None)
        else:
            self.cluster.deployments[deployment_id] = deployment

    def _count(self, node: Node, times: int = 1) -> None:
        kind = node.kind
        self.kinds[kind] += times
        if not self.kinds[kind]:
            del self.kinds[kind]
        if node.offered:
            self.accounts.offered(node.cpu_milli, node.memory_mib, node.gpus, times)

    def _enlist(self, key: str, request: Request) -> None:
        self.containers[request.container_id] += 1
        if request.gang:
            self.gangs.setdefault(request.gang, {})[key] = request
        if request.deployment:
            self.replicas.setdefault(request.deployment, {})[key] = request

    def _delist(self, key: str, request: Request) -> None:
        if self.containers[request.container_id] == 1:
            del self.containers[request.container_id]
        else:
            self.containers[request.container_id] -= 1
        for groups, group in ((self.gangs, request.gang), (self.replicas, request.deployment)):
            if group:
                members = groups[group]
                del members[key]
                if not members:
                    del groups[group]

    def _hand_on(self, before: Request, after: Request) -> None:
        self._rename(before, after)
        if after.node_id is None:
            self.waiting.leave(before.line, before.sequence, before.key)
            self.waiting.enter(after.line, after.sequence, after.key)

    def _rename(self, before: Request, after: Request) -> None:
        """The same container by its other run, on the same lists and in the same place."""
        del self.cluster.requests[before.key]
        self.cluster.requests[after.key] = after
        self._delist(before.key, before)
        self._enlist(after.key, after)
        if after.node_id is not None:
            runs = self.runs[after.node_id]
            del runs[before.key]
            runs[after.key] = after
            self.pressure.touch(after.node_id)
        for node_id, key in self.cluster.reserved.items():
            if key == before.key:
                self.cluster.reserved[node_id] = after.key

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
        self.accounts.took(request.tenant, request.need)
        self.pressure.took(request)
        self._touch(node_id)

    def _lift(self, request: Request) -> tuple[str, tuple[int, ...]]:
        node_id, devices = request.node_id, request.devices
        assert node_id is not None
        request.node_id, request.devices = None, ()
        self.rooms[node_id].give_back(request.need, devices)
        del self.runs[node_id][request.key]
        self.accounts.gave_back(request.tenant, request.need)
        self.pressure.gave_back(request)
        self._touch(node_id)
        return node_id, devices

    def _touch(self, node_id: str) -> None:
        self.fit.touch(node_id)
        self.pressure.touch(node_id)
