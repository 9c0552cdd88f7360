"""Which node a request leaves the least waste on: Fragmentation Gradient Descent, in integers.

A request goes where fragmentation grows least, or shrinks most; between equals, to
the node without GPUs that has least left, and then to the first by name. Each class
of requests ranks the shapes of rooms rather than the nodes, for there are far fewer,
and only those that have come up since it was last asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from heapq import heapify, heappop, heappush, heapreplace

from handlers.mix import Mix, Score, Shape
from handlers.room import Need, Room, tightest

CLASSES_MAX = 512
"""Classes ranked at the same time; a list of all nodes is kept for each."""

NEWS_MAX = 50_000
"""Changes remembered; then every ranking is made anew."""

LAST = 1 << 62
"""Nodes with GPUs come after those without, of which the one with the least left comes first."""


class Alike:
    """The open rooms of one shape; the first by name is asked first."""

    def __init__(self, shape: Shape, tie: int, number: int) -> None:
        self.shape, self.tie, self.number = shape, tie, number
        self.rooms: dict[str, Room] = {}
        self._names: list[str] = []

    def add(self, room: Room) -> bool:
        """Whether it is the first now."""
        if room.node_id not in self.rooms:
            heappush(self._names, room.node_id)
        self.rooms[room.node_id] = room
        return self.head() == room.node_id

    def head(self) -> str:
        names = self._names
        while names[0] not in self.rooms:
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
    """The shapes of rooms in the order in which one class wants them; put right only when asked."""

    def __init__(self, need: Need, scores: dict[Shape, Score]) -> None:
        self.need, self.scores = need, scores
        self.heap: list[tuple[int, int, str, int]] = []
        self.seen = -1


class Fit:
    """Finds places in `rooms`, of whose changes it has to be told by `touch`."""

    def __init__(self, rooms: dict[str, Room], asked: Mapping[str, int]) -> None:
        self.rooms = rooms
        self.learn(asked)

    def learn(self, asked: Mapping[str, int]) -> None:
        self.mix = Mix(asked)
        self._rankings: dict[Need, Ranking] = {}
        self._once: dict[Need, None] = {}
        self._home: dict[str, Alike] = {}
        self._alike: dict[tuple[Shape, int], Alike] = {}
        self._kinds: list[Alike] = []
        self._news: list[Alike] = []
        for node_id in self.rooms:
            self.touch(node_id)

    def touch(self, node_id: str) -> None:
        """The room is new, or not what it was."""
        room, before = self.rooms[node_id], self._home.pop(node_id, None)
        shape = self._shape(room)
        tie = LAST if shape.devices else max(0, room.memory_mib) << 21 | max(0, room.cpu_milli)
        if before is not None and (before.shape is not shape or before.tie != tie or not room.open):
            del before.rooms[node_id]
            if not before.rooms:
                del self._alike[before.shape, before.tie]
        if room.open:
            alike = self._alike.get((shape, tie))
            if alike is None:
                alike = self._alike[shape, tie] = Alike(shape, tie, len(self._kinds))
                self._kinds.append(alike)
            if alike.add(room):
                self._news.append(alike)
            self._home[node_id] = alike
        if len(self._news) > NEWS_MAX + 4 * len(self.rooms):
            self._kinds, self._news = list(self._alike.values()), list(self._alike.values())
            for number, kind in enumerate(self._kinds):
                kind.number = number
            self._rankings.clear()

    def forget(self, node_id: str) -> None:
        """The room is no more."""
        self.rooms[node_id].open = False
        self.touch(node_id)

    def _shape(self, room: Room) -> Shape:
        return self.mix.shape(room.cpu_milli, tuple(sorted(room.devices)), room.model)

    def find(self, need: Need, barred: Collection[str] = ()) -> tuple[Room, tuple[int, ...]] | None:
        """The best room that is not `barred`, and the devices to take there."""
        ranking = self._rankings.get(need) or self._rank(need)
        if ranking is None:
            room = tightest([room for id, room in self.rooms.items() if id not in barred], need)
            return (room, room.pick(need)) if room else None
        self._put_right(ranking)
        heap, kinds = ranking.heap, self._kinds
        aside: list[tuple[int, int, str, int]] = []
        found = None
        while heap:
            score, tie, name, number = heap[0]
            alike = kinds[number]
            if not alike.rooms:
                heappop(heap)
            elif name != (head := alike.head()):
                if name < head:  # the first has left; were another first now, that would be in the heap
                    heapreplace(heap, (score, tie, head, number))
                else:
                    heappop(heap)
            elif found := alike.first(need.memory_mib, barred):
                break
            else:
                aside.append(heappop(heap))
        for entry in aside:
            heappush(heap, entry)
        return (found, found.pick(need, ranking.scores[alike.shape][1])) if found else None

    def devices(self, need: Need, node_id: str) -> tuple[int, ...]:
        """Those to take on a node that has already been chosen, and where the need fits."""
        room = self.rooms[node_id]
        return room.pick(need, self.mix.score(need, self._shape(room))[1])

    def _rank(self, need: Need) -> Ranking | None:
        """None for a need that is met for the first time when there are many already."""
        if len(self._rankings) >= CLASSES_MAX:
            if need not in self._once:
                if len(self._once) >= CLASSES_MAX:
                    self._once.clear()
                self._once[need] = None
                return None
            oldest = min(self._rankings.values(), key=lambda ranking: (ranking.seen, ranking.need))
            del self._rankings[oldest.need]
        ranking = self._rankings[need] = Ranking(need, self.mix.scores(need))
        return ranking

    def _put_right(self, ranking: Ranking) -> None:
        """Takes in the shapes that have come up since; those that are gone are noticed when they are met."""
        now = len(self._news)
        if ranking.seen == now:
            return
        need, scores, heap = ranking.need, ranking.scores, ranking.heap
        whole = ranking.seen < 0 or len(heap) > 4 * len(self._alike) + 64
        if whole:
            heap.clear()
        for alike in self._alike.values() if whole else self._news[ranking.seen :]:
            if alike.rooms and (alike.shape.devices or alike.tie >> 21 >= need.memory_mib):
                scored = scores.get(alike.shape)
                if scored is None:
                    scored = scores[alike.shape] = self.mix.score(need, alike.shape)
                if scored[0] >= 0:
                    entry = (-scored[0], alike.tie, alike.head(), alike.number)
                    heap.append(entry) if whole else heappush(heap, entry)
        if whole:
            heapify(heap)
        ranking.seen = now
