"""Whom it costs least to evict so that a more urgent request fits.

In this order: as few as possible of those who have been evicted too often already;
the highest priority among the victims as low as possible; as little work lost;
as few victims; the tightest fit; the first node by name. By work lost and not, as
Kubernetes does, by number: at 120 % load that burns 4 % of a cluster in work done
twice, not 14 %. On one node, victims are spared again in the order of their
priority and of their work, as long as the request still fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from heapq import heapify, heappop, heappush
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

TOUCHES_MAX = 100_000

NEVER = 1 << 30

priority_of = attrgetter("priority")


class Level(NamedTuple):
    """What is left of a node once all of this priority and below are gone from it."""

    priority: int
    latest_ms: int
    cpu_milli: int
    memory_mib: int
    devices: tuple[int, ...]
    """Milli-GPU left on each, most first."""


class Choice(NamedTuple):
    """Where, at whose cost, and by which figures it was chosen: the smallest wins."""

    key: tuple[int, int, int, int, int, int, str]
    node_id: str
    victims: tuple[Request, ...]


class Order:
    """The nodes by the lowest level at which they yield to one need."""

    def __init__(self) -> None:
        self.at: dict[str, tuple[int, int]] = {}
        self.heap: list[tuple[int, int, str]] = []
        self.seen = -1


class Pressure:
    """Knows at which level each node yields; has to be told of changes by `touch`."""

    def __init__(self, rooms: dict[str, Room], runs: Mapping[str, dict[str, Request]]) -> None:
        self.rooms, self.runs = rooms, runs
        self._holding = Counter(run.priority for held in runs.values() for run in held.values())
        self._levels: dict[str, list[Level]] = {}
        self._orders: dict[Need, Order] = {}
        self._touched: list[str] = []

    def took(self, run: Request) -> None:
        self._holding[run.priority] += 1

    def gave_back(self, run: Request) -> None:
        self._holding[run.priority] -= 1
        if not self._holding[run.priority]:
            del self._holding[run.priority]

    def is_any_below(self, priority: int) -> bool:
        return any(held < priority for held in self._holding)

    def touch(self, node_id: str) -> None:
        self._levels.pop(node_id, None)
        self._touched.append(node_id)
        if len(self._touched) > TOUCHES_MAX + len(self.rooms):
            self._touched.clear()
            for order in self._orders.values():
                order.seen = -1

    def forget(self, node_id: str) -> None:
        self._levels.pop(node_id, None)
        self._orders.clear()
        self._touched.clear()

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
        taken: list[tuple[int, int, str]] = []
        try:
            while order.heap and order.heap[0][0] < priority:
                level, tie, node_id = entry = heappop(order.heap)
                if order.at.get(node_id) == (level, tie):
                    taken.append(entry)
                    yield level, node_id
        finally:
            for entry in taken:
                heappush(order.heap, entry)

    def _put_right(self, order: Order, need: Need) -> None:
        whole = order.seen < 0 or len(order.heap) > 4 * len(self.rooms) + 64
        if whole:
            order.at.clear()
            order.heap.clear()
        changed = self.rooms if whole else dict.fromkeys(self._touched[order.seen :])
        for node_id in changed:
            at = self._yields_at(self.rooms[node_id], need)
            if at != order.at.get(node_id):
                order.at[node_id] = at
                if at[0] < NEVER:
                    order.heap.append((*at, node_id)) if whole else heappush(order.heap, (*at, node_id))
        if whole:
            heapify(order.heap)
        order.seen = len(self._touched)

    def _yields_at(self, room: Room, need: Need) -> tuple[int, int]:
        if not room.open or (need.models and room.model not in need.models):
            return NEVER, 0
        levels = self._levels.get(room.node_id)
        if levels is None:
            levels = self._levels[room.node_id] = self._sum_up(room)
        cpu_milli, memory_mib, gpus, gpu_milli, _ = need
        for level in levels:
            if level.cpu_milli >= cpu_milli and level.memory_mib >= memory_mib:
                devices = level.devices
                if not gpus or (gpus <= len(devices) and devices[gpus - 1] >= gpu_milli):
                    return level.priority, -level.latest_ms
        return NEVER, 0

    def _sum_up(self, room: Room) -> list[Level]:
        levels: list[Level] = []
        cpu_milli, memory_mib, devices = room.cpu_milli, room.memory_mib, list(room.devices)
        removable = [run for run in self.runs[room.node_id].values() if run.preemptible and not run.spent]
        removable.sort(key=priority_of)
        for priority, runs in groupby(removable, key=priority_of):
            latest_ms = 0
            for run in runs:
                latest_ms = max(latest_ms, run.since_ms)
                cpu_milli += run.cpu_milli
                memory_mib += run.memory_mib
                for device in run.devices:
                    devices[device] += run.gpu_milli
            most_first = tuple(sorted(devices, reverse=True))
            levels.append(Level(priority, latest_ms, cpu_milli, memory_mib, most_first))
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
        choice = _on(pressure, gangs, node_id, need, level + 1, now_ms, victims_max)
        if choice is not None and (best is None or choice.key < best.key):
            best, lowest = choice, level
    if best is None and priority >= URGENT and any(run.spent for run in _yielding(pressure, priority)):
        for node_id in pressure.rooms:
            if node_id not in barred:
                choice = _on(pressure, gangs, node_id, need, priority, now_ms, victims_max)
                if choice is not None and (best is None or choice.key < best.key):
                    best = choice
    return best


def _yielding(pressure: Pressure, priority: int) -> Iterator[Request]:
    return (run for runs in pressure.runs.values() for run in runs.values() if run.yields_to(priority))


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
    room = pressure.rooms[node_id]
    left = Room(node_id, room.cpu_milli, room.memory_mib, list(room.devices), room.model, room.open)
    out = [run for run in pressure.runs[node_id].values() if run.yields_to(below)]
    for run in out:
        left.give_back(run.need, run.devices)
    if not left.fits(need):
        return None
    out.sort(key=lambda run: (not run.spent, -run.priority, -run.work(now_ms), run.sequence, run.key))
    victims: dict[str, Request] = {}
    for run in out:
        left.take(run.need, run.devices)
        if not left.fits(need):
            left.give_back(run.need, run.devices)
            victims[run.key] = run
    for run in list(victims.values()):
        if run.gang:  # who loses one of all loses all
            mates = sorted(gangs[run.gang].items())
            victims.update((key, mate) for key, mate in mates if mate.node_id is not None)
    if not victims or len(victims) > victims_max:
        return None
    cost = sum(run.work(now_ms) for run in victims.values())
    spent = sum(run.spent for run in victims.values())
    highest = max(run.priority for run in victims.values())
    tightness = sum(left.devices)
    key = (spent, highest, cost, len(victims), tightness, left.memory_mib, node_id)
    in_order = sorted(victims.values(), key=lambda run: (run.priority, run.sequence, run.key))
    return Choice(key, node_id, tuple(in_order))
