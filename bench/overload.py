"""What preemption costs when more is asked for than there is, simulated: `python -m bench.overload`.

Requests as openb has them come to 60 of its nodes, a fifth more of them than there is
room for, and whoever is evicted starts again from nothing. The engine is the
platform's own. Beside it, on the same nodes and with the same search for free places,
run two other rules as we understand them. Time is virtual, in whole milliseconds, and
what is random is drawn from a seed before the first request comes.
"""

from __future__ import annotations

import asyncio
import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from math import log
from pathlib import Path
from random import Random
from time import perf_counter
from typing import NamedTuple

from bench.figures import median, show
from bench.scheduler import cluster, request
from handlers.backlog import Line
from handlers.cluster import Cluster
from handlers.preemption import VICTIMS_MAX
from handlers.request import Request
from handlers.room import Room
from handlers.walk import Evicted, Placed, Step, barred_to, walk

SEEDS = (1, 2, 3, 4, 5)
NODES = 60
JOBS = 6000
LOAD_PERCENT = 120

PRIORITIES = {100: 35, 300: 25, 500: 20, 700: 12, 900: 8}
"""How many of a hundred requests have which: the more urgent, the fewer."""

MEDIAN_S = 600
SIGMA = 1.5
LONGEST_S = 6 * 3600
"""Runs are log-normal; one that outlasts the whole test would say nothing about it."""

WARM_PERCENT = 20
"""Until then the nodes are filling up, so that utilisation does not count."""

TRACE = "openb_pod_list_gpuspec10.csv"

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
SYNTHETIC_NODES = (
    ((96_000, 393_216, 8, "G2"), 45),
    ((104_000, 524_288, 2, "T4"), 40),
    ((64_000, 262_144, 2, "P100"), 15),
)
SYNTHETIC_PODS = (
    ((8_000, 16_384, 0, 0, ""), 13),
    ((4_000, 8_192, 1, 250, ""), 12),
    ((6_000, 12_288, 1, 500, ""), 15),
    ((3_000, 8_192, 1, 700, ""), 10),
    ((8_000, 32_768, 1, 1000, ""), 42),
    ((8_000, 32_768, 1, 1000, "T4|P100"), 6),
    ((16_000, 65_536, 2, 1000, ""), 1),
    ((64_000, 262_144, 8, 1000, ""), 1),
)

INVERTED = "inverted"
SPENT = "only spent ones are in the way"
BARRED = "the place is kept for another"
MANY = f"more than {VICTIMS_MAX} would have to go"
SPARED = (SPENT, BARRED, MANY)
"""Why somebody may wait for what less urgent work holds."""

ENDS, ARRIVES = 0, 1
"""Kinds of events; of those at the same moment, ends come first."""

Row = dict[str, str]
Policy = Callable[[Cluster, Line | None], list[Step]]
Sparing = Callable[[Request, int], bool]


class Market(NamedTuple):
    """What nodes and requests are drawn from, and whose they are."""

    nodes: Sequence[Row]
    pods: Sequence[Row]
    source: str


class Job(NamedTuple):
    at_ms: int
    runs_ms: int
    priority: int
    pod: Row


class Plan(NamedTuple):
    """All that will happen but for what is decided; it ends with the last arrival."""

    nodes: Sequence[Row]
    jobs: Sequence[Job]
    ends_ms: int


class Outcome(NamedTuple):
    """`inverted` and `spared` wait after the average cycle, the latter for the reason named."""

    lost_percent: float
    evictions: int
    evictions_max: int
    inverted: float
    inverted_cycles: int
    spared: dict[str, float]
    used_percent: float
    completed_percent: float
    waited_s: dict[int, float]
    ms_per_cycle: float

    def figures(self) -> dict[str, float]:
        return {
            "work lost to restarts, % of work done": self.lost_percent,
            "evictions": self.evictions,
            "evictions of one request, at most": self.evictions_max,
            "cycles that leave an inversion": self.inverted_cycles,
            "inverted after a cycle": self.inverted,
            "GPUs in use, %": self.used_percent,
            "completed by the last arrival, %": self.completed_percent,
            **{f"wait at priority {level}, s": waited for level, waited in self.waited_s.items()},
            **{f"passed by: {reason}": self.spared.get(reason, 0) for reason in SPARED},
            "ms to decide a cycle": self.ms_per_cycle,
        }


def market() -> Market:
    here = Path(os.environ.get("STRATUS_OPENB") or Path(__file__).parents[2] / "shared/data/openb")
    nodes, pods = here / "openb_node_list_gpu_node.csv", here / TRACE
    if nodes.exists() and pods.exists():
        with nodes.open(newline="") as node_rows, pods.open(newline="") as pod_rows:
            return Market(list(csv.DictReader(node_rows)), list(csv.DictReader(pod_rows)), "openb requests")
    return Market(
        list(_made(NODE_COLUMNS, SYNTHETIC_NODES)),
        list(_made(POD_COLUMNS, SYNTHETIC_PODS)),
        f"a SYNTHETIC mix of requests, for want of openb in {here}",
    )


def _made(columns: Sequence[str], kinds: Iterable[tuple[tuple[int | str, ...], int]]) -> Iterator[Row]:
    for kind, (values, times) in enumerate(kinds):
        for number in range(times):
            yield dict(zip(columns, (f"made-{kind}-{number}", *map(str, values)), strict=True))


def plan(goods: Market, seed: int, nodes: int = NODES, jobs: int = JOBS) -> Plan:
    """Arrivals are spread so that the resource that is scarcest is asked for `LOAD_PERCENT` of the time."""
    random = Random(seed)
    chosen = random.sample(goods.nodes, nodes)
    home, _ = cluster(chosen, range(nodes))
    able = {
        pod["name"]: any(node.could_hold(request(pod, 0).need) for node in home.nodes.values())
        for pod in goods.pods
    }
    pods = random.choices([pod for pod in goods.pods if able[pod["name"]]], k=jobs)
    priorities = random.choices(list(PRIORITIES), list(PRIORITIES.values()), k=jobs)
    seconds = [min(LONGEST_S, random.lognormvariate(log(MEDIAN_S), SIGMA)) for _ in range(jobs)]
    runs_ms = [max(1, int(1000 * length)) for length in seconds]
    gpu, cpu = _demand(pods, runs_ms)
    gpus = 1000 * sum(node.gpus for node in home.nodes.values())
    cpus = sum(node.cpu_milli for node in home.nodes.values())
    ends_ms = 100 * max(gpu // max(1, gpus), cpu // cpus) // LOAD_PERCENT
    arrivals = sorted(random.randrange(ends_ms) for _ in range(jobs))
    return Plan(chosen, [Job(*one) for one in zip(arrivals, runs_ms, priorities, pods, strict=True)], ends_ms)


def _demand(pods: Iterable[Row], runs_ms: Iterable[int]) -> tuple[int, int]:
    """Milli-GPU and milli-CPU, times milliseconds."""
    gpu = cpu = 0
    for pod, length in zip(pods, runs_ms, strict=True):
        need = request(pod, 0).need
        gpu += need.gpus * need.gpu_milli * length
        cpu += need.cpu_milli * length
    return gpu, cpu


class Tally:
    """Who ran and waited for how long, and what of it was for nothing."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.warm_ms = plan.ends_ms * WARM_PERCENT // 100
        self.since_ms: dict[str, int] = {}
        self.waited_ms = Counter[int]()
        self.evictions = Counter[str]()
        self.completed = self.used = self.lost = self.warm_gpu = 0

    def waits(self, one: Request, now_ms: int) -> None:
        self.since_ms[one.container_id] = now_ms

    def runs(self, one: Request, now_ms: int) -> None:
        self.waited_ms[one.priority] += now_ms - self.since_ms[one.container_id]
        self.since_ms[one.container_id] = now_ms

    def ends(self, one: Request, now_ms: int) -> None:
        self.completed += 1
        self._stops(one, now_ms)

    def _stops(self, one: Request, now_ms: int) -> None:
        since_ms = self.since_ms.pop(one.container_id)
        self.used += one.need.weight * (now_ms - since_ms)
        self.warm_gpu += one.gpus * one.gpu_milli * max(0, now_ms - max(since_ms, self.warm_ms))

    def goes(self, one: Request, now_ms: int) -> None:
        self.lost += one.need.weight * (now_ms - self.since_ms[one.container_id])
        self.evictions[one.container_id] += 1
        self._stops(one, now_ms)
        self.waits(one, now_ms)

    def stands(self, one: Request, now_ms: int) -> None:
        """How it is in the end."""
        if one.node_id is None:
            self.runs(one, now_ms)
        else:
            self._stops(one, now_ms)


class Watch:
    """Who waits for what is free or held by less urgent work: what no cycle may leave behind.

    What a node has left is reckoned from its total and its runs. `yields` says who may
    be evicted by the rule that is watched; who waits only because of that is counted
    apart. Only what has changed since the last look is looked at.
    """

    def __init__(self, home: Cluster, yields: Sparing) -> None:
        self.home, self.yields = home, yields
        self._heads: dict[Line, str] = {}
        self._reserved: dict[str, str] = {}
        self._without: dict[tuple[str, int], Room] = {}
        self._found: dict[Line, dict[str, str]] = {}

    def look(self, touched: set[str]) -> Counter[str]:
        """How many wait who are inverted, or would be but for one of `SPARED`."""
        home = self.home
        changed = touched | {id for id, _ in self._reserved.items() ^ home.reserved.items()}
        self._reserved = dict(home.reserved)
        for place in [place for place in self._without if place[0] in changed]:
            del self._without[place]
        heads = {line: key for _, _, key, line in home.books.waiting.heads()}
        for line in self._found.keys() - heads.keys():
            del self._found[line]
        for line, key in heads.items():
            known = self._heads.get(line) == key
            if not known:
                self._found.pop(line, None)
            for node_id in changed if known else home.nodes:
                self._judge(line, home.requests[key], node_id)
        self._heads = heads
        count = Counter[str]()
        for line, found in self._found.items():
            reasons = set(found.values())
            count[INVERTED if INVERTED in reasons else min(reasons)] += len(home.books.waiting.line(line))
        return count

    def _judge(self, line: Line, head: Request, node_id: str) -> None:
        found = self._found.get(line)
        if found:
            found.pop(node_id, None)
            if not found:
                del self._found[line]
        if self._room(node_id, line.priority).fits(head.need):
            self._found.setdefault(line, {})[node_id] = self._reason(head, node_id)

    def _room(self, node_id: str, priority: int) -> Room:
        """What is left but for all that is less urgent."""
        room = self._without.get((node_id, priority))
        if room is None:
            runs = self.home.books.runs[node_id].values()
            staying = [run for run in runs if run.priority >= priority]
            room = self._without[node_id, priority] = self._left(node_id, staying)
        return room

    def _left(self, node_id: str, staying: Iterable[Request]) -> Room:
        room = self.home.nodes[node_id].room(node_id)
        for run in staying:
            room.take(run.need, run.devices)
        return room

    def _reason(self, head: Request, node_id: str) -> str:
        runs = self.home.books.runs[node_id].values()
        staying = [run for run in runs if not self.yields(run, head.priority)]
        if not self._left(node_id, staying).fits(head.need):
            return SPENT
        if node_id in barred_to(self.home, head):
            return BARRED
        if len(runs) - len(staying) > VICTIMS_MAX and not self._left(node_id, runs).fits(head.need):
            return MANY
        return INVERTED


def run(on: Plan, policy: Policy, yields: Sparing) -> Outcome:
    home, _ = cluster(on.nodes, range(len(on.nodes)))
    books, tally, watch = home.books, Tally(on), Watch(home, yields)
    asked = [request(job.pod, number, job.priority) for number, job in enumerate(on.jobs)]
    events = [(job.at_ms, ARRIVES, number, 0) for number, job in enumerate(on.jobs)]
    placed, starts, found = dict[int, Request](), Counter[int](), Counter[str]()
    inverted_cycles, cycles, took_s = 0, 0, 0.0
    while events and events[0][0] < on.ends_ms:
        home.now_ms, kind, number, start = heappop(events)
        one, now_ms, touched, only = asked[number], home.now_ms, set[str](), None
        if kind == ARRIVES:
            one.at_ms = one.since_ms = now_ms
            tally.waits(one, now_ms)
            books.learn(one.need)
            books.ask(one)
            only = one.line
        elif start == starts[number]:
            one = placed.pop(number)
            assert one.node_id is not None
            touched.add(one.node_id)
            tally.ends(one, now_ms)
            books.release(one.key)
        else:  # it has been evicted since
            continue
        began = perf_counter()
        steps = policy(home, only)
        took_s += perf_counter() - began
        books.journal.clear()
        for step in steps:
            number, touched = step.request.sequence, touched | {step.node_id}
            if isinstance(step, Placed):
                tally.runs(step.request, now_ms)
                placed[number] = step.request
                starts[number] += 1
                heappush(events, (now_ms + on.jobs[number].runs_ms, ENDS, number, starts[number]))
            elif isinstance(step, Evicted):
                tally.goes(step.request, now_ms)
                starts[number] += 1
        seen = watch.look(touched)
        found += seen
        inverted_cycles += seen[INVERTED] > 0
        cycles += 1
    for one in home.requests.values():
        tally.stands(one, on.ends_ms)
    gpus = 1000 * sum(node.gpus for node in home.nodes.values())
    asked_of = Counter(job.priority for job in on.jobs)
    return Outcome(
        lost_percent=100 * tally.lost / max(1, tally.used),
        evictions=tally.evictions.total(),
        evictions_max=max(tally.evictions.values(), default=0),
        inverted=found.pop(INVERTED, 0) / cycles,
        inverted_cycles=inverted_cycles,
        spared={reason: times / cycles for reason, times in found.items()},
        used_percent=100 * tally.warm_gpu / max(1, gpus * (on.ends_ms - tally.warm_ms)),
        completed_percent=100 * tally.completed / len(on.jobs),
        waited_s={level: tally.waited_ms[level] / 1000 / max(1, asked_of[level]) for level in PRIORITIES},
        ms_per_cycle=1000 * took_s / cycles,
    )


def backfill(home: Cluster, only: Line | None) -> list[Step]:
    """Our port: by priority, then first come; who fits nowhere lets others try, and nobody has to go."""
    return _by_priority(home, only, lambda _: None)


def kubernetes(home: Cluster, only: Line | None) -> list[Step]:
    """Our port: backfill, and victims in the order of Kubernetes' default preemption, without limit."""

    def make_room(one: Request) -> tuple[str, list[Request]] | None:
        nodes = [node_id for _, node_id in home.books.pressure.yielding(one.need, one.priority)]
        choices = [(node_id, _kubernetes_victims(home, one, node_id)) for node_id in sorted(nodes)]
        return min(choices, key=lambda choice: _kubernetes_key(choice[1]), default=None)

    return _by_priority(home, only, make_room)


def _kubernetes_victims(home: Cluster, one: Request, node_id: str) -> list[Request]:
    """All that is less urgent, save what may stay: the more urgent and longer running are asked first."""
    runs = home.books.runs[node_id].values()
    room = home.nodes[node_id].room(node_id)
    for run in runs:
        if run.priority >= one.priority:
            room.take(run.need, run.devices)
    victims = []
    for run in sorted(runs, key=lambda run: (-run.priority, run.since_ms, run.sequence)):
        if run.priority < one.priority:
            room.take(run.need, run.devices)
            if not room.fits(one.need):
                room.give_back(run.need, run.devices)
                victims.append(run)
    return victims


def _kubernetes_key(victims: list[Request]) -> tuple[int, int, int, int]:
    """Lowest highest priority, lowest sum, fewest, latest start of the highest; 2^31 each, as there."""
    highest = max(run.priority for run in victims)
    total = sum(run.priority + (1 << 31) for run in victims)
    return highest, total, len(victims), -min(run.since_ms for run in victims if run.priority == highest)


def _by_priority(
    home: Cluster, only: Line | None, make_room: Callable[[Request], tuple[str, list[Request]] | None]
) -> list[Step]:
    books, steps, blocked = home.books, list[Step](), set[Line]()
    heads = [head for head in books.waiting.heads() if only in (None, head[3])]
    while heads:
        key, line = heappop(heads)[2:]
        head = books.waiting.head(line)
        if head is None or line in blocked:
            continue
        if head[2] != key:
            heappush(heads, head)
            continue
        one = home.requests[key]
        if found := books.fit.find(one.need):
            room, devices = found
            node_id = room.node_id
        elif choice := make_room(one):
            node_id, victims = choice
            for victim in victims:
                steps.append(Evicted(victim, node_id, by=key))
                books.evict(victim.key, home.now_ms, counts=False)
            devices = books.fit.devices(one.need, node_id)
            heads = books.waiting.heads()
        else:
            blocked.add(line)
            continue
        books.place(key, node_id, devices, home.now_ms)
        steps.append(Placed(one, node_id, devices))
        if following := books.waiting.head(line):
            heappush(heads, following)
    return steps


POLICIES: dict[str, tuple[Policy, Sparing]] = {
    "this engine": (walk, Request.yields_to),
    "no preemption": (backfill, lambda run, priority: run.priority < priority),
    "Kubernetes' order": (kubernetes, lambda run, priority: run.priority < priority),
}


async def main() -> None:
    goods = market()
    plans = [plan(goods, seed) for seed in SEEDS]
    outcomes = [[run(one, policy, yields).figures() for one in plans] for policy, yields in POLICIES.values()]
    show(
        f"Overload, simulated: {LOAD_PERCENT} % of {NODES} nodes asked for by {JOBS:,} of {goods.source}\n"
        f"medians of {len(SEEDS)} seeds; the rules beside the engine are our ports of them",
        ("", *POLICIES),
        [
            (name, *(float(median([figures[name] for figures in each])) for each in outcomes))
            for name in outcomes[0][0]
        ],
    )


if __name__ == "__main__":
    asyncio.run(main())
