"""The work that usually comes to a cluster, and how well a node suits what is not there yet.

A node is fragmented by as many milli-GPU as lie idle on it and can not be used by
the work that usually comes ("Beware of Fragmentation", USENIX ATC 2023). The
published score of a place is `int(100 * sigmoid(GPUs unfragmented))`; its coarseness
is worth half a point of allocation, so it is kept, as 99 thresholds. What work
usually comes is learned from what came.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from itertools import accumulate

from handlers.room import WHOLE, Need

_UPPER = (
    40005, 80043, 120144, 160343, 200671, 241162, 281851, 322773, 363965, 405465, 447312, 489548, 532217,
    575364, 619039, 663294, 708185, 753772, 800119, 847298, 895384, 944462, 994623, 1045969, 1098612,
    1152680, 1208311, 1265666, 1324925, 1386294, 1450010, 1516347, 1585627, 1658228, 1734601, 1815290,
    1900959, 1992430, 2090741, 2197225, 2313635, 2442347, 2586689, 2751535, 2944439, 3178054, 3476099,
    3891820, 4595120,
)  # fmt: skip
"""Micro-GPU at which 100 * sigmoid reaches 51, 52, ... 99: 1,000,000 * ln(k / (100 - k))."""

THRESHOLDS = (*(-at for at in reversed(_UPPER)), 0, *_UPPER)

PRIOR: Mapping[str, int] = {
    "2000:0:0:": 10,
    "4000:1:250:": 15,
    "6000:1:500:": 20,
    "8000:1:1000:": 40,
    "32000:4:1000:": 5,
    "64000:8:1000:": 10,
}
"""What is expected of a cluster that has seen nothing yet, in tenths of a request."""

LEARN_FIRST = 64
"""The mix is learned after so many requests, and again at four times as many, and so on."""

COMMON_PERCENT = 95
"""The rarest classes, up to the rest of the requests, are not asked about."""

KINDS_MAX = 50_000
"""Kinds of devices remembered; then they are worked out anew."""

POLICY = "fgd-2"
"""Changes whenever the same cluster would be served differently."""


def is_time_to_learn(arrivals: int) -> bool:
    """True at 64, 256, 1,024, 4,096, ...: more often costs time and gains nothing on openb."""
    return arrivals >= LEARN_FIRST and arrivals.bit_count() == 1 and arrivals.bit_length() % 2 == 1


class Shape:
    """What matters of a room for GPU fragmentation: `waste` is how much of it there is.

    `kind` stands for the devices, ascending, and their model. Another kind has another
    number; the same kind may have got a new one since.
    """

    __slots__ = ("cpu_milli", "devices", "kind", "model", "waste")

    def __init__(self, cpu_milli: int, devices: tuple[int, ...], model: str, kind: int, waste: int) -> None:
        self.cpu_milli, self.devices, self.model = cpu_milli, devices, model
        self.kind, self.waste = kind, waste


Moves = tuple[tuple[int | None, int, tuple[int, ...]], ...]
"""What a kind may become: what the device to share has left, None if that is no question; kind and devices.

Numbers, and tuples of them, cost the garbage collector nothing.
"""

Score = tuple[int, int | None]
"""0..99, -1 if it does not fit; and what the device to share has left, None if that is no question."""

NO: Score = (-1, None)

EVEN = 50
"""The score of a request that changes nothing."""


class Use:
    """What the usual work can use of devices of one model.

    `table` has, by how many of the usual CPU sizes are left, the weight of the work that
    a single device is large enough for, by how many of the usual `sizes` it has left;
    `several` is the work that takes more than one.
    """

    __slots__ = ("several", "sizes", "table")

    def __init__(
        self, sizes: list[int], table: list[list[int]], several: list[tuple[int, int, list[int]]]
    ) -> None:
        self.sizes, self.table, self.several = sizes, table, several

    def waste(self, devices: tuple[int, ...], weight: int, cpus: int) -> int:
        idle = sum(devices)
        if not idle:
            return 0
        waste, sizes, weights, count = idle * weight, self.sizes, self.table[cpus], len(devices)
        for left in devices:
            waste -= left * weights[bisect_right(sizes, left)]
        for gpus, gpu_milli, weighed in self.several:
            if gpus <= count and devices[-gpus] >= gpu_milli:
                waste -= weighed[cpus] * sum(devices[bisect_left(devices, gpu_milli) :])
        return waste


class Mix:
    """The work that usually comes, by what it asks of GPUs: CPUs ascending, with cumulated weights."""

    def __init__(self, asked: Mapping[str, int]) -> None:
        weights = dict(PRIOR)
        for demand, times in asked.items():
            weights[demand] = weights.get(demand, 0) + 10 * times
        common, covered, total = dict[str, int](), 0, sum(weights.values())
        for demand, weight in sorted(weights.items(), key=lambda one: (-one[1], one[0])):
            if 100 * covered >= COMMON_PERCENT * total:
                break
            common[demand], covered = weight, covered + weight
        self.weight = covered
        self._thresholds = [-(-at * covered // 1000) for at in THRESHOLDS]
        self._groups = self._grouped(common)
        self._cpus = sorted({cpu for *_, cpus, _ in self._groups for cpu in cpus})
        self._uses: dict[str, Use] = {}
        self._last = 0
        self._kinds: dict[tuple[tuple[int, ...], str], int] = {}
        self._moves: dict[tuple[int, int], dict[int, Moves]] = {}
        self._wasted: dict[int, int] = {}

    @staticmethod
    def _grouped(common: Mapping[str, int]) -> list[tuple[int, int, tuple[str, ...], list[int], list[int]]]:
        groups: dict[tuple[int, int, tuple[str, ...]], list[tuple[int, int]]] = {}
        for demand, weight in common.items():
            cpu_milli, gpus, gpu_milli, models = demand.split(":")
            allowed = tuple(models.split("|")) if models else ()
            if gpus != "0":  # to work without GPUs every idle one is waste
                groups.setdefault((int(gpus), int(gpu_milli), allowed), []).append((int(cpu_milli), weight))
        table = []
        for (gpus_, milli, allowed), members in sorted(groups.items()):
            members.sort()
            cumulated = [0]
            for _, weight in members:
                cumulated.append(cumulated[-1] + weight)
            table.append((gpus_, milli, allowed, [cpu for cpu, _ in members], cumulated))
        return table

    def shape(self, cpu_milli: int, devices: tuple[int, ...], model: str) -> Shape:
        """`devices` ascending."""
        kind = self._kind(devices, model)
        waste = self._waste(kind, devices, model, bisect_right(self._cpus, cpu_milli))
        return Shape(cpu_milli, devices, model, kind, waste)

    def waste(self, cpu_milli: int, devices: tuple[int, ...], model: str) -> int:
        """Idle milli-GPU that the usual work can not use there, times the weight of all work."""
        return self.shape(cpu_milli, devices, model).waste

    def _kind(self, devices: tuple[int, ...], model: str) -> int:
        kind = self._kinds.get((devices, model))
        if kind is None:
            if len(self._kinds) >= KINDS_MAX:
                self._kinds.clear()
                self._moves.clear()
                self._wasted.clear()
            kind = self._kinds[devices, model] = self._last = self._last + 1
        return kind

    def _waste(self, kind: int, devices: tuple[int, ...], model: str, cpus: int) -> int:
        """With so many of the usual CPU sizes left."""
        key = kind * (len(self._cpus) + 1) + cpus
        waste = self._wasted.get(key)
        if waste is None:
            use = self._uses.get(model)
            if use is None:
                use = self._uses[model] = self._used(model)
            waste = self._wasted[key] = use.waste(devices, self.weight, cpus)
        return waste

    def _used(self, model: str) -> Use:
        singles, several = dict[int, list[int]](), list[tuple[int, int, list[int]]]()
        for gpus, gpu_milli, models, cpus, cumulated in self._groups:
            if models and model not in models:
                continue
            weights = [cumulated[bisect_right(cpus, cpu)] for cpu in (-1, *self._cpus)]
            if gpus > 1:
                several.append((gpus, gpu_milli, weights))
            else:
                others = singles.get(gpu_milli, [0] * len(weights))
                singles[gpu_milli] = [one + other for one, other in zip(weights, others, strict=True)]
        sizes = sorted(singles)
        table = [
            [0, *accumulate(singles[size][cpus] for size in sizes)] for cpus in range(len(self._cpus) + 1)
        ]
        return Use(sizes, table, several)

    def score(self, need: Need, shape: Shape) -> Score:
        """The room's memory is not looked at."""
        cpu_after = shape.cpu_milli - need.cpu_milli
        if cpu_after < 0:
            return NO
        model = shape.model
        if need.gpus:
            if need.models and model not in need.models:
                return NO
        elif not shape.devices:
            return EVEN, None
        known = self._moves.get(need[2:4])
        moves = known.get(shape.kind) if known is not None else None
        if moves is None:
            moves = self._moved(need, shape)
        cpus, thresholds, before = bisect_right(self._cpus, cpu_after), self._thresholds, shape.waste
        best, best_left = NO
        for left, kind, devices in moves:
            score = bisect_right(thresholds, before - self._waste(kind, devices, model, cpus))
            if score > best:
                best, best_left = score, left
        return best, best_left

    def _moved(self, need: Need, shape: Shape) -> Moves:
        """Empty if it does not fit. Several come from the devices with least left; one may share any."""
        devices, gpus, gpu_milli = shape.devices, need.gpus, need.gpu_milli
        first = bisect_left(devices, gpu_milli)
        afters: list[tuple[int | None, tuple[int, ...]]] = []
        if not gpus:
            afters.append((None, devices))
        elif gpus > 1 or gpu_milli == WHOLE:
            if len(devices) - first >= gpus:
                afters.append((None, (0,) * gpus + devices[:first] + devices[first + gpus :]))
        else:
            for place in range(first, len(devices)):
                left = devices[place]
                if place == first or left != devices[place - 1]:
                    less = left - gpu_milli
                    to = bisect_left(devices, less)
                    afters.append((left, (*devices[:to], less, *devices[to:place], *devices[place + 1 :])))
        moves = tuple((left, self._kind(after, shape.model), after) for left, after in afters)
        self._moves.setdefault((gpus, gpu_milli), {})[shape.kind] = moves
        return moves
