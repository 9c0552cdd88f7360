"""Command to event to answer, beside the raw publish that any client of the same broker could make.

The raw publish stores one message; a command stores two (itself and its commit),
one after the other, in two streams, through two more processes.
"""

from __future__ import annotations

import asyncio
import time
from itertools import count

from bench.figures import median, percentile, show
from bench.ground import Ground, ground
from core.bus import Bus
from core.commands import CommandQueue
from core.messages.names import ReserveName

PAYLOAD = b"x" * 300
_numbers = count(1)


def command() -> ReserveName:
    """Each creates a stream, the dearest case for a broker, and no reactor wants anything because of it."""
    return ReserveName(f"hostname:site-{next(_numbers)}", "usr_bench")


async def raw_awaited(bus: Bus, times: int) -> list[float]:
    """Seconds for each."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await bus.ask(b"raw.one", PAYLOAD)
        taken.append(time.perf_counter() - began)
    return taken


async def raw_pipelined(bus: Bus, times: int, in_flight: int = 512) -> float:
    """Messages a second."""
    left, free, over = times, asyncio.Semaphore(in_flight), asyncio.Event()

    def done(head: bytes, body: bytes) -> None:
        nonlocal left
        left -= 1
        free.release()
        if not left:
            over.set()

    began = time.perf_counter()
    for _ in range(times):
        await free.acquire()
        bus.call(b"raw.many", PAYLOAD, b"", done)
    await over.wait()
    return times / (time.perf_counter() - began)


async def awaited(queue: CommandQueue, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        one = command()
        began = time.perf_counter()
        await queue.send(one, "_")
        taken.append(time.perf_counter() - began)
    return taken


async def saturated(queue: CommandQueue, times: int, in_flight: int) -> float:
    """Commands a second."""
    left = iter(range(times))

    async def client() -> None:
        for _ in left:
            await queue.send(command(), "_", timeout=60)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    return times / (time.perf_counter() - began)


async def rounds(here: Ground, rounds: int, scale: int) -> dict[str, float]:
    queue = CommandQueue(here.bus, "bench")
    await here.bus.js.add_stream(name="RAW", subjects=["raw.*"])
    found: dict[str, list[float]] = {}
    await awaited(queue, 200)
    for _ in range(rounds):
        raw, ours = await raw_awaited(here.bus, 1000), await awaited(queue, 1000)
        for name, value in {
            "raw p50 ms": percentile(raw, 50) * 1e3,
            "raw p99 ms": percentile(raw, 99) * 1e3,
            "command p50 ms": percentile(ours, 50) * 1e3,
            "command p99 ms": percentile(ours, 99) * 1e3,
            "raw pipelined /s": await raw_pipelined(here.bus, 5_000 * scale),
            "commands /s, 64 in flight": await saturated(queue, 4_000 * scale, 64),
            "commands /s, 512 in flight": await saturated(queue, 4_000 * scale, 512),
        }.items():
            found.setdefault(name, []).append(value)
    return {name: median(values) for name, values in found.items()}


async def main() -> None:
    results = {}
    for sync, scale in (("always", 1), ("100ms", 4)):
        async with ground(sync) as here:
            with here.running("handlers"):
                results[sync] = await rounds(here, 3, scale)
    names = list(results["always"])
    show(
        "Commands (one broker, one handler process, one client; medians of 3)",
        ("", *(f"sync {sync}" for sync in results)),
        [(name, *(results[sync][name] for sync in results)) for name in names]
        + [
            (
                "command p50 : raw awaited p50",
                *(r["command p50 ms"] / r["raw p50 ms"] for r in results.values()),
            )
        ],
    )
