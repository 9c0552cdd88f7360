"""Which node a request leaves the least waste on: Fragmentation Gradient Descent, in integers.

A request goes where fragmentation grows least, or shrinks most; between equals, to
the node without GPUs that has least left, and then to the first by name. Each class
of requests ranks the shapes of rooms rather than the nodes, for there are far fewer,
and only those that have come up since it was last asked. A class that found nothing
looks no further than at the rooms that have grown since.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from operator import le

from handlers.mix import Mix, Shape
from handlers.room import Need, Room, tightest

CLASSES_MAX = 512
"""Classes ranked at the same time; a list of all nodes is kept for each."""

LAST = 1 << 62
"""Nodes with GPUs come after those without, of which the one with the least left comes first."""


class Alike:
    """The open rooms of one shape; the first by name is asked first. None has more than `memory_mib`."""

    __slots__ = ("_names", "memory_mib", "number", "rooms", "shape", "stamp", "tie")

    def __init__(self, shape: Shape, tie: int, number: int) -> None:
        self.shape, self.tie, self.number, self.stamp = shape, tie, number, number
        self.rooms: dict[str, Room] = {}
        self.memory_mib = 0
        self._names: list[str] = []

    def add(self, room: Room) -> bool:
        """Whether that is news to those who have ranked it: it is the first now, or has the most memory."""
        rooms, name, memory_mib = self.rooms, room.node_id, room.memory_mib
        is_news = not rooms or memory_mib > self.memory_mib
        if is_news:
            self.memory_mib = memory_mib
        if name not in rooms:
            heappush(self._names, name)
            rooms[name] = room
        elif rooms[name] is not room:
            rooms[name] = room
        return is_news or self.head() == name

    def head(self) -> str:
        names, rooms = self._names, self.rooms
        while names[0] not in rooms:
            heappop(names)
        return names[0]

    def first(self, memory_mib: int, barred: Collection[str]) -> Room | None:
        """The first that also has the memory, and is not `barred`."""
        names, aside, found = self._names, list[str](), None
        while names:
            room = self.rooms.get(names[0])
            if room is None or (aside and aside[-1] == names[0]):
                heappop(names)
            elif room.memory_mib < memory_mib or names[0] in barred:
                aside.append(heappop(names))
            else:
                found = room
                break
        for name in aside:
            heappush(names, name)
        return found


class Ranking:
    """The shapes of rooms in the order in which one class wants them; put right only when asked.

    No room could take it at `barren`, if that is not -1.
    """

    __slots__ = ("barren", "heap", "need", "seen", "used")

    def __init__(self, need: Need) -> None:
        self.need = need
        self.heap: list[tuple[int, int, str, int]] = []
        self.seen = self.barren = self.used = -1


class Fit:
    """Finds places in `rooms`, of whose changes it has to be told by `touch`."""

    def __init__(self, rooms: dict[str, Room], asked: Mapping[str, int]) -> None:
        self.rooms = rooms
        self.learn(asked)

    def learn(self, asked: Mapping[str, int]) -> None:
        self.mix = Mix(asked)
        self._now = 0
        self._rankings: dict[Need, Ranking] = {}
        self._once: dict[Need, None] = {}
        self._home: dict[str, Alike] = {}
        self._memory_mib: dict[str, int] = {}
        self._alike: dict[tuple[int, int, tuple[int, ...], str], Alike] = {}
        self._news: dict[int, Alike] = {}
        self._grown: dict[str, int] = {}
        for node_id in self.rooms:
            self.touch(node_id)

    def touch(self, node_id: str) -> None:
        """The room is new, or not what it was."""
        room = self.rooms[node_id]
        if not room.open:
            self.forget(node_id)
            return
        mix, memory_mib, cpu_milli = self.mix, room.memory_mib, room.cpu_milli
        devices, model = tuple(sorted(room.devices)), room.model
        tie = LAST if devices else max(0, memory_mib) << 21 | max(0, cpu_milli)
        alike = self._alike.get(key := (tie, cpu_milli, devices, model))
        self._now += 1
        if alike is None:
            shape = mix.shape(cpu_milli, devices, model)
            alike = self._alike[key] = Alike(shape, tie, self._now)
        before = self._home.get(node_id)
        if (
            before is None
            or self._memory_mib[node_id] < memory_mib
            or not _has_shrunk(before.shape, alike.shape)
        ):
            self._grown.pop(node_id, None)  # what changed last is last
            self._grown[node_id] = self._now
        if before is not None and before is not alike:
            self._leave(before, node_id)
        if alike.add(room):
            self._news.pop(alike.number, None)
            self._news[alike.number] = alike
            alike.stamp = self._now
        self._home[node_id], self._memory_mib[node_id] = alike, memory_mib

    def forget(self, node_id: str) -> None:
        """The room is no more, or closed."""
        self._grown.pop(node_id, None)
        before = self._home.pop(node_id, None)
        if before is not None:
            self._leave(before, node_id)

    def _leave(self, alike: Alike, node_id: str) -> None:
        del alike.rooms[node_id]
        if not alike.rooms:
            shape = alike.shape
            del self._alike[alike.tie, shape.cpu_milli, shape.devices, shape.model]
            del self._news[alike.number]

    def find(self, need: Need, barred: Collection[str] = ()) -> tuple[Room, tuple[int, ...]] | None:
        """The best room that is not `barred`, and the devices to take there."""
        ranking = self._rankings.get(need) or self._rank(need)
        if ranking is None:
            room = tightest([room for id, room in self.rooms.items() if id not in barred], need)
            return (room, room.pick(need)) if room else None
        ranking.used = self._now
        if ranking.barren >= 0 and self._is_barren(ranking):
            return None
        self._put_right(ranking)
        heap, news, memory_mib = ranking.heap, self._news, need.memory_mib
        aside: list[tuple[int, int, str, int]] = []
        best: tuple[Room, Shape] | None = None
        while heap:
            score, tie, name, number = heap[0]
            alike = news.get(number)
            if alike is None:
                heappop(heap)
            elif name != (head := alike.head()):
                if name < head:  # the first has left; were another first now, that would be in the heap
                    heapreplace(heap, (score, tie, head, number))
                else:
                    heappop(heap)
            elif found := alike.first(memory_mib, barred):
                best = found, alike.shape
                break
            else:
                aside.append(heappop(heap))
        for entry in aside:
            heappush(heap, entry)
        if best is None:
            if not barred:
                ranking.barren = self._now
            return None
        room, shape = best
        return room, room.pick(need, self.mix.score(need, shape)[1])

    def devices(self, need: Need, node_id: str) -> tuple[int, ...]:
        """Those to take on a node that has already been chosen, and where the need fits."""
        room = self.rooms[node_id]
        shape = self.mix.shape(room.cpu_milli, tuple(sorted(room.devices)), room.model)
        return room.pick(need, self.mix.score(need, shape)[1])

    def _rank(self, need: Need) -> Ranking | None:
        """None for a need that is met for the first time when there are many already."""
        if len(self._rankings) >= CLASSES_MAX:
            if need not in self._once:
                if len(self._once) >= CLASSES_MAX:
                    self._once.clear()
                self._once[need] = None
                return None
            oldest = min(self._rankings.values(), key=lambda ranking: (ranking.used, ranking.need))
            del self._rankings[oldest.need]
        ranking = self._rankings[need] = Ranking(need)
        return ranking

    def _is_barren(self, ranking: Ranking) -> bool:
        """Whether there is still no room."""
        need, rooms = ranking.need, self.rooms
        for node_id in reversed(self._grown):
            if self._grown[node_id] <= ranking.barren:
                break
            if rooms[node_id].fits(need):
                ranking.barren = -1
                return False
        ranking.barren = self._now
        return True

    def _put_right(self, ranking: Ranking) -> None:
        """Takes in the shapes that have come up since; those that are gone are noticed when they are met."""
        seen, heap, score = ranking.seen, ranking.heap, self.mix.score
        if seen == self._now:
            return
        need = ranking.need
        cpu_milli, memory_mib, gpus, gpu_milli, models = need
        whole = seen < 0 or len(heap) > 4 * len(self._alike) + 64
        if whole:
            heap.clear()
            seen = -1
        for alike in reversed(self._news.values()):
            if alike.stamp <= seen:
                break
            shape = alike.shape
            if shape.cpu_milli < cpu_milli or alike.memory_mib < memory_mib:
                continue
            if gpus:
                devices = shape.devices
                if (
                    len(devices) < gpus
                    or devices[-gpus] < gpu_milli
                    or (models and shape.model not in models)
                ):
                    continue
            entry = (-score(need, shape)[0], alike.tie, alike.head(), alike.number)
            heap.append(entry) if whole else heappush(heap, entry)
        if whole:
            heapify(heap)
        ranking.seen = self._now


def _has_shrunk(before: Shape, now: Shape) -> bool:
    """Whether nothing fits now that did not fit before, the memory not looked at."""
    return (
        now.cpu_milli <= before.cpu_milli
        and now.model == before.model
        and len(now.devices) == len(before.devices)
        and all(map(le, now.devices, before.devices))
    )
