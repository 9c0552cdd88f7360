"""A broker and handler processes of the bench's own, in a temporary folder, gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from core.bus import Bus, connect_when_up
from core.jetstream import create_streams
from core.services.nats import Nats


class Ground:
    """A running nats-server with the platform's streams, and a connection to it."""

    def __init__(self, folder: Path, url: str, bus: Bus) -> None:
        self.folder, self.url, self.bus = folder, url, bus

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
        nats = Nats(Path(name), sync_interval, "bench")
        server = subprocess.Popen(nats.child().argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            bus = await connect_when_up(nats.url, "bench")
            await create_streams(bus)
            yield Ground(Path(name), nats.url, bus)
            await bus.close()
        finally:
            server.kill()
            await asyncio.to_thread(server.wait)
