"""How soon the whole platform is ready, and what it takes while nothing happens."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from bench.figures import median, show
from core.services.running import Running
from gateway.cli.demo.stage import Stage

ROUNDS = 3
IDLE_S = 10
PYTHON = ("handlers", "projections", "gateway", "agent")


def resident_mib(pid: int) -> float:
    """Without what is shared with other processes counted twice (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no Pss in smaps_rollup")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def idle(running: Running) -> dict[str, tuple[float, float]]:
    """MiB and percent of a core, by process."""
    pids = {"supervisor": running.supervisor.pid} | {n: p.pid for n, p in running.processes.items()}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    await asyncio.sleep(IDLE_S)
    return {
        name: (resident_mib(pid), 100 * (cpu_s(pid) - before[name]) / IDLE_S) for name, pid in pids.items()
    }


async def main() -> None:
    ready, found = [], {}
    with tempfile.TemporaryDirectory(prefix="stratus-bench-") as name:
        Path(name).chmod(0o711)
        for number in range(ROUNDS + 1):
            stage = Stage(Path(name))
            try:
                began = time.perf_counter()
                running = await stage.start()
                if number:  # the first start creates a database
                    ready.append(time.perf_counter() - began)
                if number == ROUNDS:
                    found = await idle(running)
            finally:
                await stage.clear()
    python = [found[name] for name in (*PYTHON, "supervisor")]
    show(
        f"`stratus up`: ready in {median(ready):.1f} s warm (median of {ROUNDS}); idle over {IDLE_S} s",
        ("process", "MiB (PSS)", "% of a core"),
        [(name, *values) for name, values in found.items()]
        + [("all Python together", sum(mib for mib, _ in python), sum(cpu for _, cpu in python))],
    )
