"""How long a command waits at worst when the handler that would decide it is killed, or sent home."""

from __future__ import annotations

import asyncio
import signal
import time

import msgspec

from bench.commands import command
from bench.figures import median, show
from bench.ground import Ground, end, ground
from core.commands import CommandQueue
from core.jetstream import last_message

CLIENTS = 20
ROUNDS = 3


async def longest_wait(here: Ground, fault: signal.Signals) -> float:
    """Seconds the slowest of the commands took while a handler with half the partitions went away."""
    staying, leaving = here.start("handlers"), here.start("handlers")
    try:
        await _leads(here, leaving.pid)
        queue, slowest, over = CommandQueue(here.bus, "bench"), 0.0, False

        async def client() -> None:
            nonlocal slowest
            while not over:
                began = time.perf_counter()
                await queue.send(command(), "_", timeout=30)
                slowest = max(slowest, time.perf_counter() - began)
                await asyncio.sleep(0.01)

        clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
        await asyncio.sleep(0.5)
        slowest = 0.0
        leaving.send_signal(fault)
        await asyncio.sleep(4)
        over = True
        await asyncio.gather(*clients)
        return slowest
    finally:
        end(leaving)
        end(staying)


async def _leads(here: Ground, pid: int) -> None:
    """Until that process has its half."""
    async with asyncio.timeout(20):
        while True:
            led = 0
            for number in range(16):
                found = await last_message(here.bus, "LEASES", f"lease.{number}")
                led += found is not None and msgspec.json.decode(found[1])["owner"].startswith(f"{pid}-")
            if led >= 7:
                return
            await asyncio.sleep(0.1)


async def main() -> None:
    rows = []
    for name, fault in (
        ("kill -9, another takes over", signal.SIGKILL),
        ("SIGTERM, handed over", signal.SIGTERM),
    ):
        waits = []
        for _ in range(ROUNDS):
            async with ground("always") as here:
                waits.append(await longest_wait(here, fault))
        rows.append((name, median(waits) * 1e3, max(waits) * 1e3))
    show(
        f"Longest wait of a command, two handlers, {CLIENTS} clients, {ROUNDS} rounds",
        ("fault", "median ms", "worst ms"),
        rows,
    )
