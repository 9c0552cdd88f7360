"""A platform for the command line to talk to: real broker, real handlers, machines that only beat."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from click.testing import CliRunner, Result

from core.bus import Bus
from core.commands import CommandQueue
from core.contexts import PLATFORM, Stream
from core.jetstream import JetStreamLog, create_streams
from core.message import Command
from core.messages.fleet import RegisterNode
from gateway.cli import main
from gateway.exchange import now_ms
from projections.views import Views, follow
from tests.broker import Broker

T = TypeVar("T")
BEAT_S = 1.0
PATIENCE_S = 60.0


class House:
    """`stratus(*words)` is the command line; the rest happens in a thread that stands for everybody else."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._numbers = count(1)
        self._nodes: list[str] = []
        self._views = Views()

    @contextmanager
    def open(self) -> Iterator[House]:
        self._thread.start()
        try:
            self._do(self._connect())
            yield self
        finally:
            self._do(self._leave())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def stratus(self, *words: str) -> Result:
        """Each may be several, as in a shell."""
        words = tuple(part for word in words for part in shlex.split(word))
        return CliRunner().invoke(main, words, env={"STRATUS_NATS_URL": self.url, "COLUMNS": "250"})

    def said(self, *words: str) -> str:
        """What it prints when all goes well."""
        result = self.stratus(*words)
        assert result.exit_code == 0, result.output
        return result.output

    def told(self, *words: str) -> Any:
        return msgspec.json.decode(self.said(*words, "--json"))

    def send(self, command: Command, tenant: str = PLATFORM) -> None:
        self._do(self._commands.send(command, tenant))

    def commits(self, cluster: str) -> int:
        """How many there are in the cluster's stream."""
        self.until(lambda views: cluster in _named(views))
        return len(self._do(self._history.read(_named(self._views)[cluster])))

    def name(self, prefix: str) -> str:
        """A new one each time."""
        return f"{prefix}-{next(self._numbers)}"

    def cluster(self, *amounts: str) -> str:
        """A new cluster of fixed totals, by its name."""
        name = self.name("cluster")
        self.said("clusters", "create", name, *amounts)
        return name

    def machines(self, *gpus: int, cpu_milli: int = 4000, memory_mib: int = 8192) -> tuple[str, list[str]]:
        """A new cluster of machines that have so many GPUs; its name, and theirs."""
        cluster_id = self.name("fleet")
        nodes = [self.name("node") for _ in gpus]
        self._nodes += nodes
        for node_id, number in zip(nodes, gpus, strict=True):
            self.send(
                RegisterNode(
                    node_id=node_id,
                    cluster_id=cluster_id,
                    address="10.0.0.1",
                    engine="docker 28",
                    cpu_milli=cpu_milli,
                    memory_mib=memory_mib,
                    at_ms=now_ms(),
                    gpus=number,
                    gpu_model="T4" if number else "",
                )
            )
        self.until(lambda views: _offered(views, cluster_id) == set(nodes))
        return cluster_id, nodes

    def submit(self, name: str, cluster: str, *words: str) -> str:
        """The id of what has been submitted."""
        said = self.said("deployments", "submit", name, "--ref", "web:1", "--cluster", cluster, *words)
        return next(word for word in said.split() if word.startswith("dep_") and "-" not in word)

    def until(self, holds: Callable[[Views], bool]) -> None:
        self._do(self._until(holds))

    async def _until(self, holds: Callable[[Views], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                change = self._views.change()
                if holds(self._views):
                    change.close()
                    return
                await change

    async def _connect(self) -> None:
        self._bus = await Bus.connect(self.url, "test")
        await create_streams(self._bus)
        self._history = JetStreamLog(self._bus)
        self._commands = CommandQueue(self._bus, "ann")
        self._works = [
            asyncio.create_task(self._beat()),
            asyncio.create_task(follow(self._history, self._views)),
        ]

    async def _beat(self) -> None:
        while True:
            for node_id in self._nodes:
                self._bus.publish(f"beat.{node_id}", b"")
            await asyncio.sleep(BEAT_S)

    async def _leave(self) -> None:
        for work in self._works:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
        await self._bus.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _named(views: Views) -> dict[str, Stream]:
    clusters = views.scheduling.clusters.values()
    return {one.name: Stream(PLATFORM, "scheduling", one.cluster_id) for one in clusters}


def _offered(views: Views, cluster_id: str) -> set[str]:
    cluster = views.scheduling.cluster(cluster_id)
    return {one.node_id for one in cluster.offers.values() if one.open} if cluster else set()


@contextmanager
def handlers(url: str, folder: Path) -> Iterator[None]:
    """The process, ready."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STRATUS_")}
    environ |= {"STRATUS_NATS_URL": url, "STRATUS_DATA_DIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "handlers"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    reader = threading.Thread(target=process.stdout.read)  # a full pipe would stop them
    with process.stdout as said:
        try:
            assert any(msgspec.json.decode(line)["event"] == "ready" for line in said), "ended, not ready"
            reader.start()
            yield
        finally:
            process.terminate()
            process.wait()
            if reader.ident:
                reader.join()


@contextmanager
def house(folder: Path) -> Iterator[House]:
    broker = Broker(folder)
    broker.start()
    try:
        with House(broker.url).open() as one, handlers(broker.url, folder / "data"):
            yield one
    finally:
        broker.stop()
