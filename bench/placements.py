"""Deployments submitted, decided and in the log on disk, from a client's point of view: the whole way.

The cluster has openb's 1,213 machines, and the requests are openb's too. Nothing runs,
for the machines have no agents; but what the platform does besides goes on as always, so
each replica becomes a container that waits for its machine.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

from bench.figures import median, percentile, show
from bench.ground import Ground, ground
from bench.scheduler import Trace
from bench.scheduling import FOLDER, SEED, TRACE, trace
from core.commands import CommandQueue
from core.messages.deployments import Share, SubmitDeployment
from core.messages.scheduling import CreateCluster, OfferNode

IN_FLIGHT = 512
SUBMITTED = 4_000
ROUNDS = 3
_numbers = count(1)
PEERS = "kube-scheduler's own thresholds: 680 to 810, 570 with preemption; Nomad C2M about 1,500"


def workload(given: Trace) -> Iterator[Share]:
    for index in cycle(given.arrivals):
        pod = given.pods[index]
        gpus = int(pod["num_gpu"])
        yield Share(
            cpu_milli=max(1, int(pod["cpu_milli"])),
            memory_mib=max(1, int(pod["memory_mib"])),
            gpus=gpus,
            gpu_milli=int(pod["gpu_milli"]) if gpus else 1000,
            gpu_models=tuple(spec.split("|")) if (spec := pod.get("gpu_spec") or "") and gpus else (),
        )


async def offer(queue: CommandQueue, cluster_id: str, given: Trace) -> None:
    await queue.send(CreateCluster(cluster_id, cluster_id, 1), "_")
    commands = [
        OfferNode(
            cluster_id,
            f"{cluster_id}-{number:05}",
            int(row["cpu_milli"]),
            int(row["memory_mib"]),
            int(row["gpu"] or 0),
            row["model"] or "",
            at_ms=1,
        )
        for number, row in enumerate(given.nodes)
    ]
    await asyncio.gather(*(queue.send(command, "_", timeout=120) for command in commands))


async def submit(
    queue: CommandQueue, cluster_id: str, shares: Iterator[Share], times: int, priority: int
) -> tuple[float, list[float]]:
    """Deployments a second, and how many seconds each took."""
    left, taken = iter(range(times)), list[float]()

    async def client() -> None:
        for _ in left:
            command = SubmitDeployment(
                cluster_id,
                f"{cluster_id}-{next(_numbers)}",
                "org_bench",
                "bench",
                "bench:1",
                "usr_bench",
                1,
                next(shares),
                priority=priority,
            )
            began = time.perf_counter()
            await queue.send(command, "_", timeout=120)
            taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))
    return times / (time.perf_counter() - began), taken


async def round_(here: Ground, given: Trace, number: int) -> dict[str, float]:
    queue = CommandQueue(here.bus, "bench")
    cluster_id = f"bench-{number}"
    await offer(queue, cluster_id, given)
    shares = workload(given)
    plain, waits = await submit(queue, cluster_id, shares, SUBMITTED, 100)
    await submit(queue, cluster_id, shares, len(given.arrivals) - SUBMITTED, 100)
    over, _ = await submit(queue, cluster_id, shares, SUBMITTED, 900)
    return {
        "placed or queued /s": plain,
        "answer p50 ms": percentile(waits, 50) * 1e3,
        "answer p99 ms": percentile(waits, 99) * 1e3,
        "the same on a full cluster, with preemption /s": over,
    }


async def main() -> None:
    folder = Path(os.environ.get("STRATUS_OPENB") or FOLDER)
    if not (folder / "orders").is_dir():
        print(f"placements: not measured, for openb is not in {folder}; STRATUS_OPENB may say where it is")
        return
    given = trace(folder, TRACE, SEED)
    results: dict[str, dict[str, float]] = {}
    for sync in ("always", "100ms"):
        found: list[dict[str, float]] = []
        async with ground(sync) as here:
            for number in range(ROUNDS):
                with here.running("handlers"):
                    found.append(await round_(here, given, number))
        results[sync] = {name: median([one[name] for one in found]) for name in found[0]}
    names = list(results["always"])
    where = f"openb {TRACE}, {len(given.nodes)} nodes, {IN_FLIGHT} in flight, medians of {ROUNDS}"
    show(
        f"Deployments, durable and end to end ({where}; {PEERS})",
        ("", *(f"sync {sync}" for sync in results)),
        [(name, *(results[sync][name] for sync in results)) for name in names],
    )
