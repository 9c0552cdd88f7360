"""Whom it costs least to evict so that a more urgent request fits.

In this order: as few as possible of those who have been evicted too often already;
the highest priority among the victims as low as possible; as little work lost;
as few victims; the tightest fit; the first node by name. Work lost counts before
numbers, other than in Kubernetes, and nobody is made to start over and over. On one
node, victims are spared again in the order of their priority and of their work, as
long as the request still fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from heapq import heappop, heappush
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from handlers.request import URGENT, Request
from handlers.room import Need, Room

VICTIMS_MAX = 16
"""Evicted for one request at most."""

CANDIDATES_MAX = 8
"""Nodes looked at closely; they are tried in the order of the level at which they yield."""

NEEDS_MAX = 512
"""Needs for which the nodes are kept ordered; beyond that the oldest order is dropped."""

NEVER = 1 << 30

priority_of = attrgetter("priority")


Rank = tuple[int, int, str]
"""The order in which nodes are tried: a priority, when its youngest run began, negated, and the node."""


Level = tuple[Rank, int, int, tuple[int, ...], int]
"""What is left of a node once all of one priority and below are gone from it: milli-CPU, MiB, and milli-GPU
of each device, most first. At last, the weight of the lightest run of that priority."""


class Choice(NamedTuple):
    """Where, at whose cost, and by which figures it was chosen: the smallest wins."""

    key: tuple[int, int, int, int, int, int, str]
    node_id: str
    victims: tuple[Request, ...]


class Order:
    """The nodes by the lowest level at which they yield to one need."""

    __slots__ = ("at", "heap", "seen")

    def __init__(self) -> None:
        self.at: dict[str, Rank | None] = {}
        self.heap: list[Rank] = []
        self.seen = -1


class Pressure:
    """Knows at which level each node yields; has to be told of changes by `touch`."""

    def __init__(self, rooms: dict[str, Room], runs: Mapping[str, dict[str, Request]]) -> None:
        self.rooms, self.runs = rooms, runs
        self._holding = Counter(run.priority for held in runs.values() for run in held.values())
        self._spent = Counter(
            run.priority for held in runs.values() for run in held.values() if run.spent and run.preemptible
        )
        self._levels: dict[str, list[Level]] = {}
        self._orders: dict[Need, Order] = {}
        self._touched: dict[str, int] = {}
        self._now = 0
        self._first: list[Rank] = []
        self._first_seen = -1

    def took(self, run: Request) -> None:
        self._holding[run.priority] += 1
        if run.spent and run.preemptible:
            self._spent[run.priority] += 1

    def gave_back(self, run: Request) -> None:
        self._holding[run.priority] -= 1
        if not self._holding[run.priority]:
            del self._holding[run.priority]
        if run.spent and run.preemptible:
            self._spent[run.priority] -= 1

    def is_any_below(self, priority: int) -> bool:
        return min(self._holding, default=priority) < priority

    def is_any_spent_below(self, priority: int) -> bool:
        """Whether somebody who has been evicted too often already could be evicted all the same."""
        return any(runs and held < priority for held, runs in self._spent.items())

    def touch(self, node_id: str) -> None:
        self._now += 1
        self._levels.pop(node_id, None)
        self._touched.pop(node_id, None)  # what changed last is last
        self._touched[node_id] = self._now

    def forget(self, node_id: str) -> None:
        self._levels.pop(node_id, None)
        self._touched.pop(node_id, None)
        self._first_seen = -1
        self._orders.clear()

    def yielding(self, need: Need, priority: int) -> Iterator[tuple[int, str]]:
        """Levels below `priority`, lowest first, and nodes that fit once that level and all below is gone.

        None of those who have been evicted too often would have to go.
        """
        order = self._orders.get(need)
        if order is None:
            if len(self._orders) >= NEEDS_MAX:
                del self._orders[next(iter(self._orders))]
            order = self._orders[need] = Order()
        self._put_right(order, need)
        heap, at, taken = order.heap, order.at, list[Rank]()
        try:
            while heap and heap[0][0] < priority:
                rank = heappop(heap)
                node_id = rank[2]
                if node_id not in at:
                    found = at[node_id] = self._rank(node_id, need)
                    if found is not None and found != rank:
                        heappush(heap, found)
                if at[node_id] == rank and (not taken or taken[-1] != rank):
                    taken.append(rank)
                    yield rank[0], rank[2]
        finally:
            for rank in taken:
                heappush(heap, rank)

    def least_work(self, node_id: str, priority: int, now_ms: int) -> int:
        """What is lost at least if one of that priority has to go."""
        rank, *_, weight = next(level for level in self._levels[node_id] if level[0][0] == priority)
        return weight * (300 + max(0, now_ms + rank[1]) // 1000)

    def _put_right(self, order: Order, need: Need) -> None:
        """Of a node that is not known to the order yet, its lowest level stands in the heap."""
        heap, at, touched = order.heap, order.at, self._touched
        if order.seen < 0 or len(heap) > 4 * len(self.rooms) + 64:
            if self._first_seen < 0 or self._now - self._first_seen > len(self.rooms) // 8:
                levels = (self._levels_of(node_id) for node_id in self.rooms)
                self._first = sorted(known[0][0] for known in levels if known)
                self._first_seen = self._now
            heap[:] = self._first
            at.clear()
            order.seen = self._first_seen
        for node_id in reversed(touched):
            if touched[node_id] <= order.seen:
                break
            rank = self._rank(node_id, need)
            if at.get(node_id) != rank or node_id not in at:
                at[node_id] = rank
                if rank is not None:
                    heappush(heap, rank)
        order.seen = self._now

    def _levels_of(self, node_id: str) -> list[Level]:
        levels = self._levels.get(node_id)
        if levels is None:
            levels = self._levels[node_id] = self._sum_up(self.rooms[node_id])
        return levels

    def _rank(self, node_id: str, need: Need) -> Rank | None:
        """None if it does not yield at all."""
        cpu_milli, memory_mib, gpus, gpu_milli, models = need
        if models and self.rooms[node_id].model not in models:
            return None
        for rank, cpu, memory, devices, _ in self._levels_of(node_id):
            if (
                cpu >= cpu_milli
                and memory >= memory_mib
                and (not gpus or (gpus <= len(devices) and devices[gpus - 1] >= gpu_milli))
            ):
                return rank
        return None

    def _sum_up(self, room: Room) -> list[Level]:
        levels: list[Level] = []
        if not room.open:
            return levels
        cpu_milli, memory_mib, devices = room.cpu_milli, room.memory_mib, list(room.devices)
        removable = [run for run in self.runs[room.node_id].values() if run.preemptible and not run.spent]
        removable.sort(key=priority_of)
        for priority, runs in groupby(removable, key=priority_of):
            latest_ms, lightest = 0, NEVER
            for run in runs:
                since_ms, weight, gpu_milli = run.since_ms, run.need.weight, run.gpu_milli
                if since_ms > latest_ms:
                    latest_ms = since_ms
                if weight < lightest:
                    lightest = weight
                cpu_milli += run.cpu_milli
                memory_mib += run.memory_mib
                for device in run.devices:
                    devices[device] += gpu_milli
            rank = priority, -latest_ms, room.node_id
            levels.append((rank, cpu_milli, memory_mib, tuple(sorted(devices, reverse=True)), lightest))
        return levels


def choose(
    pressure: Pressure,
    gangs: Mapping[str, Mapping[str, Request]],
    need: Need,
    priority: int,
    barred: Collection[str],
    now_ms: int,
    victims_max: int = VICTIMS_MAX,
) -> Choice | None:
    """None if no eviction that is allowed would help."""
    if not pressure.is_any_below(priority):
        return None
    best, tried, lowest = None, 0, NEVER
    for level, node_id in pressure.yielding(need, priority):
        if best is not None and level > lowest:
            break
        if node_id in barred:
            continue
        if tried == CANDIDATES_MAX:
            break
        tried += 1
        if best is not None and best.key < (0, level, pressure.least_work(node_id, level, now_ms)):
            continue
        choice = _on(pressure, gangs, node_id, need, level + 1, now_ms, victims_max)
        if choice is not None and (best is None or choice.key < best.key):
            best, lowest = choice, level
    if best is None and priority >= URGENT and pressure.is_any_spent_below(priority):
        for node_id in pressure.rooms:
            if node_id not in barred:
                choice = _on(pressure, gangs, node_id, need, priority, now_ms, victims_max)
                if choice is not None and (best is None or choice.key < best.key):
                    best = choice
    return best


def _on(
    pressure: Pressure,
    gangs: Mapping[str, Mapping[str, Request]],
    node_id: str,
    need: Need,
    below: int,
    now_ms: int,
    victims_max: int,
) -> Choice | None:
    """The victims on one node, all of a priority `below` this."""
    out = [run for run in pressure.runs[node_id].values() if run.yields_to(below)]
    return victims_on(pressure, gangs, node_id, need, out, now_ms, victims_max)


def victims_on(
    pressure: Pressure,
    gangs: Mapping[str, Mapping[str, Request]],
    node_id: str,
    need: Need,
    out: list[Request],
    now_ms: int,
    victims_max: int,
) -> Choice | None:
    """As few as will do of those who may have to go `out` of a node; None if all of them are not enough."""
    room = pressure.rooms[node_id]
    cpu_milli, memory_mib = room.cpu_milli - need.cpu_milli, room.memory_mib - need.memory_mib
    devices = list(room.devices)
    for run in out:
        cpu_milli += run.cpu_milli
        memory_mib += run.memory_mib
        for device in run.devices:
            devices[device] += run.gpu_milli
    if not room.open or cpu_milli < 0 or memory_mib < 0:
        return None
    gpu_milli, spare = need.gpu_milli, 0
    if need.gpus:
        if need.models and room.model not in need.models:
            return None
        spare = sum(left >= gpu_milli for left in devices) - need.gpus
        if spare < 0:
            return None
    spared_first = sorted(
        (not run.spent, -run.priority, -run.work(now_ms), run.sequence, run.key, run) for run in out
    )
    victims: dict[str, Request] = {}
    cost = 0
    for _, _, work, _, key, run in spared_first:
        milli, lost = run.gpu_milli, 0
        if need.gpus:
            for device in run.devices:
                if devices[device] >= gpu_milli > devices[device] - milli:
                    lost += 1
        if run.cpu_milli > cpu_milli or run.memory_mib > memory_mib or lost > spare:
            victims[key] = run
            cost -= work
        else:
            cpu_milli -= run.cpu_milli
            memory_mib -= run.memory_mib
            spare -= lost
            for device in run.devices:
                devices[device] -= milli
    for run in list(victims.values()):
        if run.gang:  # who loses one of all loses all
            for key, mate in sorted(gangs[run.gang].items()):
                if mate.node_id is not None and key not in victims:
                    victims[key] = mate
                    cost += mate.work(now_ms)
    if not victims or len(victims) > victims_max:
        return None
    spent = sum(run.spent for run in victims.values())
    highest = max(run.priority for run in victims.values())
    figures = (spent, highest, cost, len(victims), sum(devices), memory_mib + need.memory_mib, node_id)
    in_order = sorted(victims.values(), key=lambda run: (run.priority, run.sequence, run.key))
    return Choice(figures, node_id, tuple(in_order))
