"""How well and how fast the engine places a real cluster's work: `python -m bench.scheduling [FOLDER]`.

The folder is openb's, as in `../shared/data/openb`; STRATUS_OPENB names another. Only
decisions are timed, and of those nothing but the engine: no log, no network, no
container. What the figures of other schedulers include is said beside them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import NamedTuple

from bench.figures import median, percentile, show
from bench.scheduler import Trace, cluster, play, read, request
from handlers.cluster import Cluster
from handlers.request import Request
from handlers.walk import Evicted, walk

FOLDER = Path(__file__).parents[2] / "shared/data/openb"

PUBLISHED = {
    "cpu050": (93.79, 95.21),
    "cpu100": (93.44, 95.35),
    "gpushare40": (91.69, 94.15),
    "gpushare100": (85.01, 86.90),
    "gpuspec10": (93.30, 94.95),
    "multigpu20": (93.93, 95.65),
    "multigpu50": (95.74, 97.18),
}
"""GPUs allocated at 130 % demand, in percent, by BestFit and by FGD: means of ten seeds."""

SEEDS = range(42, 47)
TRACE, SEED = "cpu100", 42
"""What is played for speed."""

SIZES = (1_213, 10_000)
DEMAND_PERCENT = 130
"""Of the GPUs there are, as in the published experiment."""

GAP_MS = 1000

RUNNING = (100, 300, 500)
ARRIVING = (500, 700, 900)
"""Priorities, by turns."""

ARRIVALS = {1_213: 3_000, 10_000: 10_000}
ROUNDS = 3
HASH_SEEDS = ("0", "1", "2")

PEERS = (
    ("kube-scheduler, 5,000 nodes", "680 to 810", "its CI thresholds: API server, etcd and the bind"),
    ("kube-scheduler, 5,000 nodes, preempting", "570", "the same; five pods a second preempt"),
    ("Nomad C2M, 6,100 hosts", "about 1,500", "RPC, Raft and running it"),
)


class Speed(NamedTuple):
    """Of one run: how long each decision took, by the clock and of CPU, and the hash of all of them."""

    wall_ns: list[int]
    cpu_ns: list[int]
    evicting: int
    evictions: int
    sha256: str


def trace(folder: Path, name: str, seed: int) -> Trace:
    nodes, pods = folder / "openb_node_list_gpu_node.csv", folder / f"openb_pod_list_{name}.csv"
    return read(nodes, pods, folder / "orders" / f"{name}_seed{seed}.txt")


def enlarged(small: Trace, size: int) -> Trace:
    """The same nodes over and over, in the same order."""
    count = len(small.nodes)
    copies = -(-size // count)
    ties = [index + copy * count for copy in range(copies) for index in small.ties]
    nodes = [small.nodes[number % count] for number in range(size)]
    return small._replace(nodes=nodes, ties=[index for index in ties if index < size])


def asking(given: Trace) -> list[dict[str, str]]:
    """The arrivals, over and over, until enough GPUs are asked for."""
    left = sum(int(node["gpu"] or 0) for node in given.nodes) * 10 * DEMAND_PERCENT
    pods = list[dict[str, str]]()
    for index in cycle(given.arrivals):
        if left <= 0:
            break
        pods.append(given.pods[index])
        left -= int(pods[-1]["num_gpu"]) * int(pods[-1]["gpu_milli"])
    return pods


def plain(given: Trace) -> Speed:
    """Nobody is more urgent than another, and who finds no place leaves."""
    home, _ = cluster(given.nodes, given.ties)
    asked = [request(pod, sequence) for sequence, pod in enumerate(asking(given), 1)]
    return timed(home, asked, wait=False)


def full(given: Trace) -> Cluster:
    """Nothing that usually comes finds a place any more."""
    home, _ = cluster(given.nodes, given.ties)
    books, refused = home.books, set[object]()
    for sequence, pod in enumerate(asking(given), 1):
        home.now_ms += GAP_MS
        asked = request(pod, sequence, RUNNING[sequence % len(RUNNING)])
        if asked.need in refused:
            continue
        books.learn(asked.need)
        books.ask(asked)
        if found := books.fit.find(asked.need):
            room, devices = found
            books.place(asked.key, room.node_id, devices, home.now_ms)
        else:
            refused.add(asked.need)
            books.release(asked.key)
        books.journal.clear()
    return home


def preempting(given: Trace, count: int, *, wait: bool) -> Speed:
    """More urgent work arrives at a full cluster. Who is evicted waits, or else leaves at once."""
    pods = [given.pods[index] for index in islice(cycle(given.arrivals), count)]
    later = 10 * len(given.nodes) + len(asking(given))
    asked = [request(pod, later + n, ARRIVING[n % len(ARRIVING)]) for n, pod in enumerate(pods)]
    return timed(full(given), asked, wait=wait)


def timed(home: Cluster, requests: list[Request], *, wait: bool) -> Speed:
    books, decided = home.books, hashlib.sha256()
    wall_ns, cpu_ns, evicting, evictions = list[int](), list[int](), 0, 0
    for asked in requests:
        home.now_ms += GAP_MS
        asked.at_ms = asked.since_ms = home.now_ms
        began, began_cpu = perf_counter_ns(), process_time_ns()
        books.learn(asked.need)
        books.ask(asked)
        steps = walk(home, asked.line)
        books.journal.clear()
        cpu_ns.append(process_time_ns() - began_cpu)
        wall_ns.append(perf_counter_ns() - began)
        for step in steps:
            decided.update(f"{type(step).__name__} {step.request.key} {step.node_id}\n".encode())
        victims = sum(isinstance(step, Evicted) for step in steps)
        evicting, evictions = evicting + bool(victims), evictions + victims
        for key in () if wait else list(books.waiting):
            books.release(key)
        books.journal.clear()
    return Speed(wall_ns, cpu_ns, evicting, evictions, decided.hexdigest())


def _row(work: str, nodes: int, runs: list[Speed]) -> tuple[str, ...]:
    first, count = runs[0], len(runs[0].wall_ns)
    return (
        work,
        f"{nodes:,}",
        f"{median([count * 10**9 // sum(run.wall_ns) for run in runs]):,.0f}",
        f"{median([count * 10**9 // sum(run.cpu_ns) for run in runs]):,.0f}",
        *(f"{median([percentile(run.wall_ns, at) for run in runs]) / 1e6:,.2f}" for at in (50, 99)),
        f"{first.evictions:,}, {100 * first.evicting // count} %" if first.evictions else "",
    )


def allocated(folder: Path) -> None:
    rows, means = list[tuple[object, ...]](), list[float]()
    for name, published in PUBLISHED.items():
        runs = [play(trace(folder, name, seed)) for seed in SEEDS]
        shares = [100 * run.used_gpu_milli / run.gpu_milli for run in runs]
        means.append(sum(shares) / len(shares))
        rows.append((name, f"{min(shares):.2f} to {max(shares):.2f}", means[-1], *published))
    published = tuple(sum(column) / len(PUBLISHED) for column in zip(*PUBLISHED.values(), strict=True))
    rows.append(("mean", "", sum(means) / len(means), *published))
    columns = ("trace", f"{len(SEEDS)} seeds", "mean", "BestFit", "FGD")
    show(f"GPUs allocated at {DEMAND_PERCENT} % demand, in percent, beside what is published", columns, rows)


def speeds(folder: Path) -> None:
    rows, small = list[tuple[str, ...]](), trace(folder, TRACE, SEED)
    larger = {size: enlarged(small, size) for size in SIZES}
    for size, given in larger.items():
        runs = [plain(given) for _ in range(ROUNDS)]
        rows.append(_row("plain", size, runs))
    for wait, work in ((False, "preempting"), (True, "with a queue")):
        for size, given in larger.items():
            runs = [preempting(given, ARRIVALS[size], wait=wait) for _ in range(ROUNDS)]
            rows.append(_row(work, size, runs))
    columns = ("work", "nodes", "per s", "per CPU s", "p50 ms", "p99 ms", "evictions")
    show(f"Decisions a second of the engine alone, one core, {TRACE}, medians of {ROUNDS}", columns, rows)
    print(
        f"plain: from empty to {DEMAND_PERCENT} % of the GPUs asked for; preempting: the cluster is full, and"
    )
    print("most arrivals evict somebody, who leaves; with a queue: who waits, and is tried each time")
    show("Published by others, who do more for each", ("system", "a second", "includes"), PEERS)


def hashes(folder: Path) -> None:
    command = [sys.executable, "-m", "bench.scheduling", str(folder), "--hashes"]
    rows = [(seed, *_output(command, {**os.environ, "PYTHONHASHSEED": seed}).split()) for seed in HASH_SEEDS]
    same = len({row[1:] for row in rows}) == 1
    title = f"sha256 of all decisions: {'the same' if same else 'NOT THE SAME'} under every PYTHONHASHSEED"
    show(title, ("PYTHONHASHSEED", "plain", "preempting"), [[cell[:16] for cell in row] for row in rows])


def _output(command: list[str], env: dict[str, str]) -> str:
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


async def main() -> None:
    measure(Path(os.environ.get("STRATUS_OPENB") or FOLDER))


def measure(folder: Path) -> None:
    if not (folder / "orders").is_dir():
        print(f"scheduling: not measured, for openb is not in {folder}; STRATUS_OPENB may say where it is")
        return
    allocated(folder)
    speeds(folder)
    hashes(folder)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [folder, "--hashes"]:
            small = trace(Path(folder), TRACE, SEED)
            print(play(small).sha256, preempting(small, 1000, wait=True).sha256)
        case [folder]:
            measure(Path(folder))
        case _:
            asyncio.run(main())
