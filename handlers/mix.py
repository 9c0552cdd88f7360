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

POLICY = "fgd-1"
"""Changes whenever the same cluster would be served differently."""


def is_time_to_learn(arrivals: int) -> bool:
    """True at 64, 256, 1,024, 4,096, ...: more often costs time and gains nothing on openb."""
    return arrivals >= LEARN_FIRST and arrivals.bit_count() == 1 and arrivals.bit_length() % 2 == 1


class Shape:
    """What matters of a room for GPU fragmentation. There is one of each, so that it is scored once."""

    __slots__ = ("cpu_milli", "devices", "model")

    def __init__(self, cpu_milli: int, devices: tuple[int, ...], model: str) -> None:
        self.cpu_milli, self.devices, self.model = cpu_milli, devices, model


Score = tuple[int, int | None]
"""0..99, -1 if it does not fit; and what the device to share has left, None if that is no question."""

NO: Score = (-1, None)

EVEN = 50
"""The score of a request that changes nothing."""


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
        self._wasted: dict[tuple[int, tuple[int, ...], str], int] = {}
        self._shapes: dict[tuple[int, tuple[int, ...], str], Shape] = {}
        self._scores: dict[str, dict[Shape, Score]] = {}

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
        key = (cpu_milli, devices, model)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(*key)
        return shape

    def waste(self, cpu_milli: int, devices: tuple[int, ...], model: str) -> int:
        """Idle milli-GPU that the usual work can not use there, times the weight of all work."""
        key = (bisect_right(self._cpus, cpu_milli), devices, model)
        waste = self._wasted.get(key)
        if waste is None:
            waste = self._wasted[key] = self._waste(cpu_milli, devices, model)
        return waste

    def _waste(self, cpu_milli: int, devices: tuple[int, ...], model: str) -> int:
        idle, count, usable = sum(devices), len(devices), 0
        if not idle:
            return 0
        for gpus, gpu_milli, models, cpus, cumulated in self._groups:
            if models and model not in models:
                continue
            first = bisect_left(devices, gpu_milli)
            if count - first >= gpus:
                usable += cumulated[bisect_right(cpus, cpu_milli)] * sum(devices[first:])
        return idle * self.weight - usable

    def scores(self, need: Need) -> dict[Shape, Score]:
        """What is known so far of all needs that differ in memory only."""
        return self._scores.setdefault(need.demand, {})

    def score(self, need: Need, shape: Shape) -> Score:
        """The room's memory is not looked at."""
        cpu_after = shape.cpu_milli - need.cpu_milli
        if cpu_after < 0:
            return NO
        devices, model = shape.devices, shape.model
        if not need.gpus:
            if not devices:
                return EVEN, None
            before = self.waste(shape.cpu_milli, devices, model)
            return bisect_right(self._thresholds, before - self.waste(cpu_after, devices, model)), None
        if need.models and model not in need.models:
            return NO
        first = bisect_left(devices, need.gpu_milli)
        if len(devices) - first < need.gpus:
            return NO
        before = self.waste(shape.cpu_milli, devices, model)
        if need.gpus > 1 or need.gpu_milli == WHOLE:
            after = (0,) * need.gpus + devices[:first] + devices[first + need.gpus :]
            return bisect_right(self._thresholds, before - self.waste(cpu_after, after, model)), None
        best, best_left, tried = -1, 0, -1
        for place in range(first, len(devices)):
            left = devices[place]
            if left == tried:
                continue
            tried, less = left, left - need.gpu_milli
            to = bisect_left(devices, less)
            after = (*devices[:to], less, *devices[to:place], *devices[place + 1 :])
            score = bisect_right(self._thresholds, before - self.waste(cpu_after, after, model))
            if score > best:
                best, best_left = score, left
        return best, best_left
