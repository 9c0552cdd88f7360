"""A broker, a database and handler processes of the bench's own, in a temporary folder, gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from core.bus import Bus
from core.jetstream import create_streams
from core.services.nats import Nats
from core.services.postgres import Postgres
from core.services.supervisor import Supervisor


class Ground:
    """A running nats-server with the platform's streams, a connection to it, and a Postgres."""

    def __init__(self, folder: Path, url: str, postgres_url: str, bus: Bus) -> None:
        self.folder, self.url, self.postgres_url, self.bus = folder, url, postgres_url, bus

    def start(self, module: str, **env: str) -> subprocess.Popen[str]:
        """`python -m module` on this broker; returns when it says that it is ready."""
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=os.environ | {"STRATUS_DATA_DIR": str(self.folder), "STRATUS_NATS_URL": self.url} | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if '"ready"' in line:
                # nobody reads what it says later; but a pipe that is full would hold it up
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return process
        raise RuntimeError(f"{module} ended with code {process.wait()}")

    @contextlib.contextmanager
    def running(self, module: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        process = self.start(module, **env)
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()


@contextlib.asynccontextmanager
async def ground(sync_interval: str) -> AsyncIterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="stratus-bench-") as name:
        Path(name).chmod(0o711)  # Postgres runs as somebody else, if we are root
        # a process of its own: uvloop, which we measure on, starts no process groups
        services = subprocess.Popen(
            [sys.executable, "-m", "bench.ground", name, sync_interval],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert services.stdin is not None
        assert services.stdout is not None
        try:
            nats_url, postgres_url = services.stdout.readline().split()
            bus = await Bus.connect(nats_url, "bench")
            await create_streams(bus)
            yield Ground(Path(name), nats_url, postgres_url, bus)
            await bus.close()
        finally:
            services.stdin.close()
            services.wait()


async def serve(folder: Path, sync_interval: str) -> None:
    """NATS and Postgres, until standard input ends."""
    nats, postgres = Nats(folder, sync_interval, "bench"), Postgres(folder)
    supervisor = Supervisor([nats.child(), postgres.child()], folder / "logs")
    try:
        await supervisor.start()
        print(nats.url, postgres.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        await supervisor.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
