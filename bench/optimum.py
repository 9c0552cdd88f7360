"""How near the queue comes to what is best, where that can be proved: `python -m bench.optimum`.

Best is: as many as possible of the highest priority, with them as many as possible of
the next, and so on. CP-SAT proves it for a few nodes, and needs `pip install ortools`,
which nothing else does. Requests are openb's, and none ends. The engine is the
platform's own and meets them in two ways: one after the other, when it may have to
evict, or all at once, when the nodes are offered last.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from bench.figures import show
from bench.overload import Market, Row, market
from bench.scheduler import cluster, request
from handlers.cluster import Cluster, Node
from handlers.request import Request
from handlers.room import WHOLE, Need
from handlers.walk import walk

CP_SAT = "ortools.sat.python.cp_model"

LEVELS = 5
"""Priorities; one of a level counts as much as two of the next lower."""

SECONDS = 10.0
"""For one level of one instance; what is not proved by then does not count."""


class Family(NamedTuple):
    """Instances of one kind; `demand_percent` of what the nodes have is asked for."""

    name: str
    nodes: int
    demand_percent: int
    shared: bool
    seeds: range


FAMILIES = (
    Family("whole GPUs, 6 nodes", 6, 150, False, range(15)),
    Family("shared GPUs, 3 nodes", 3, 150, True, range(24)),
    Family("tight, 4 nodes, 2.5x", 4, 250, True, range(24)),
)


class Instance(NamedTuple):
    """Requests have their level as their priority, and are in the order in which they come."""

    nodes: Sequence[Row]
    requests: Sequence[tuple[Row, int]]

    def asked(self) -> list[Request]:
        return [request(pod, number, level) for number, (pod, level) in enumerate(self.requests)]


Counts = tuple[int, ...]
"""How many have a place, by level, the highest first."""


def instance(goods: Market, family: Family, seed: int) -> Instance:
    """Requests are drawn until they ask for enough of the resource that is then scarcest."""
    random = Random(f"{family.name} {seed}")
    nodes = random.sample([row for row in goods.nodes if int(row["gpu"] or 0)], family.nodes)
    home, _ = cluster(nodes, range(len(nodes)))
    gpus = WHOLE * sum(node.gpus for node in home.nodes.values())
    cpus = sum(node.cpu_milli for node in home.nodes.values())
    requests, gpu, cpu = list[tuple[Row, int]](), 0, 0
    while 100 * max(gpu / gpus, cpu / cpus) < family.demand_percent:
        pod = random.choice(goods.pods)
        need = request(pod, 0).need
        is_shared = need.gpus == 1 and need.gpu_milli < WHOLE
        if (is_shared and not family.shared) or not any(one.could_hold(need) for one in home.nodes.values()):
            continue
        requests.append((pod, random.randrange(LEVELS)))
        gpu, cpu = gpu + need.gpus * need.gpu_milli, cpu + need.cpu_milli
    return Instance(nodes, requests)


def placed(home: Cluster) -> Counts:
    found = Counter(one.priority for one in home.requests.values() if one.node_id is not None)
    return tuple(found[level] for level in reversed(range(LEVELS)))


def one_by_one(given: Instance) -> Counts:
    home, _ = cluster(given.nodes, range(len(given.nodes)))
    for one in given.asked():
        home.books.learn(one.need)
        home.books.ask(one)
        walk(home, one.line)
        home.books.journal.clear()
    return placed(home)


def at_once(given: Instance) -> Counts:
    offered, _ = cluster(given.nodes, range(len(given.nodes)))
    home = Cluster(name="batch")
    for one in given.asked():
        home.books.learn(one.need)
        home.books.ask(one)
    for node_id, node in offered.nodes.items():
        home.books.offer(node_id, node)
    walk(home)
    return placed(home)


def best(given: Instance, seconds: float = SECONDS) -> Counts | None:
    """None if it could not be proved in time."""
    cp_model: Any = import_module(CP_SAT)
    offered, _ = cluster(given.nodes, range(len(given.nodes)))
    groups = Counter((one.priority, one.need) for one in given.asked())
    model = cp_model.CpModel()
    levels: dict[int, list[Any]] = {level: [] for level in range(LEVELS)}
    everywhere: dict[tuple[int, Need], list[Any]] = {group: [] for group in groups}
    for node in offered.nodes.values():
        for (level, need), count in _on(model, node, groups).items():
            levels[level].append(count)
            everywhere[level, need].append(count)
    for group, times in groups.items():
        model.add(sum(everywhere[group]) <= times)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.random_seed = 1
    counts: list[int] = []
    for level in reversed(range(LEVELS)):
        total = sum(levels[level])
        model.maximize(total)
        if solver.solve(model) != cp_model.OPTIMAL:
            return None
        counts.append(round(solver.objective_value))
        model.add(total >= counts[-1])
        model.clear_hints()
        for number in range(len(model.proto.variables)):
            variable = model.get_int_var_from_proto_index(number)
            model.add_hint(variable, solver.value(variable))
    return tuple(counts)


def _on(model: Any, node: Node, groups: Counter[tuple[int, Need]]) -> dict[tuple[int, Need], Any]:
    """How many of each group are on the node, with what keeps them within its bounds."""
    able = {group: times for group, times in groups.items() if node.could_hold(group[1])}
    full = [model.new_bool_var("full") for _ in range(node.gpus)]
    for device, next_device in pairwise(full):
        model.add(device >= next_device)  # which device it is makes no difference
    counts: dict[tuple[int, Need], Any] = {}
    on_device: list[list[Any]] = [[] for _ in full]
    whole = []
    for group, times in able.items():
        need = group[1]
        if not need.gpus or need.gpu_milli == WHOLE:
            count = model.new_int_var(0, times, "count")
            whole.append(need.gpus * count)
        else:
            fitting = min(times, WHOLE // need.gpu_milli)
            parts = [model.new_int_var(0, fitting, "part") for _ in full]
            for taken, part in zip(on_device, parts, strict=True):
                taken.append(need.gpu_milli * part)
            count = sum(parts)
        counts[group] = count
    model.add(sum(whole) <= sum(full))
    for taken, device in zip(on_device, full, strict=True):
        model.add(sum(taken) <= WHOLE * (1 - device))
    for resource in ("cpu_milli", "memory_mib"):
        asked = [getattr(need, resource) * count for (_, need), count in counts.items()]
        model.add(sum(asked) <= getattr(node, resource))
    return counts


def weighed(counts: Counts) -> int:
    return sum(count << level for level, count in zip(reversed(range(LEVELS)), counts, strict=True))


class Standing(NamedTuple):
    """What one way of being served came to, against the best."""

    weighted_percent: float
    count_percent: float
    top_percent: float
    equal_percent: float


def standing(pairs: Sequence[tuple[Counts, Counts]]) -> Standing:
    """Means over instances, of (found, best)."""

    def mean(values: list[float]) -> float:
        return sum(values) / max(1, len(values))

    return Standing(
        mean([100 * weighed(found) / max(1, weighed(proved)) for found, proved in pairs]),
        mean([100 * sum(found) / max(1, sum(proved)) for found, proved in pairs]),
        mean([100 * found[0] / max(1, proved[0]) for found, proved in pairs]),
        mean([100.0 * (found == proved) for found, proved in pairs]),
    )


WAYS = {"one by one": one_by_one, "all at once": at_once}


async def main() -> None:
    try:
        import_module(CP_SAT)
    except ModuleNotFoundError:
        raise SystemExit("bench.optimum needs CP-SAT: pip install ortools") from None
    goods, rows = market(), []
    for family in FAMILIES:
        given = [instance(goods, family, seed) for seed in family.seeds]
        proved = [(one, counts) for one in given if (counts := best(one))]
        for name, way in WAYS.items():
            stands = standing([(way(one), counts) for one, counts in proved])
            rows.append((f"{family.name}, {name}", f"{len(proved)} of {len(given)}", *stands))
    show(
        f"What the queue reaches, in % of the proved optimum: {goods.source}, {LEVELS} priorities,\n"
        f"each worth two of the next; what CP-SAT did not prove in {SECONDS:g} s a priority does not count",
        ("", "proved", "weighted", "count", "highest", "equal"),
        rows,
    )


if __name__ == "__main__":
    asyncio.run(main())
