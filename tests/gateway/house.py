"""A platform in one process: real deciders and reactors, a log in memory, an agent without an engine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256

import msgspec
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request
from msgspec.structs import replace

from core.contexts import PLATFORM
from core.memory import MemoryLog
from core.messages.containers import Ending, ReportReady, ReportStarted, ReportStopped
from core.messages.fleet import RegisterNode
from core.objects import Stored, TooLarge
from core.vault import MemoryKeys, Vault
from gateway.application import make_app
from gateway.database import Ledger
from gateway.policy import Policy
from handlers.deciders import DECIDERS, STATES
from handlers.local import LocalCommands
from handlers.questions import LocalQuestions
from handlers.reactors import runtime as reactors
from projections.containers import Container
from projections.views import Views, follow

Client = TestClient[Request, Application]

SECRET = "a secret of the tests, long enough"
POLICY = Policy(
    jwt_secret=SECRET,
    logins_per_minute=0,
    logins_per_minute_and_address=0,
    outcome_s=2.0,
    upload_bytes=1 << 20,
    own_hosts=frozenset({"localhost", "platform.example"}),
)


class MemoryObjects:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, name: str, chunks: AsyncIterable[bytes], limit: int) -> Stored:
        data = b"".join([chunk async for chunk in chunks])
        if len(data) > limit:
            raise TooLarge(f"larger than {limit} bytes")
        self.kept[name] = data
        return Stored(sha256(data).hexdigest(), len(data))

    async def delete(self, name: str) -> None:
        self.kept.pop(name, None)


class Agent:
    """Answers what an agent is asked over the bus."""

    def __init__(self) -> None:
        self.lines = ["hello", "world"]

    async def request(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, timeout: float = 5.0
    ) -> tuple[dict[str, str], bytes]:
        asked = msgspec.json.decode(data)
        assert subject == "agent.node-1.logs"
        return {}, msgspec.json.encode({"lines": self.lines[-asked["tail"] :]})


class House:
    """`address` and `port` are where started containers answer; `fails` is how they end instead, if set."""

    def __init__(self, policy: Policy = POLICY, ledger: Ledger | None = None) -> None:
        self.log, self.views, self.vault = MemoryLog(), Views(), Vault(MemoryKeys(), b"pepper")
        self.commands = LocalCommands(self.log, DECIDERS, STATES)
        self.objects, self.agent = MemoryObjects(), Agent()
        self.backends: list[tuple[str, int]] = [("127.0.0.1", 9)]
        self.fails: Ending | None = None
        self.app = make_app(
            commands=self.commands,
            questions=LocalQuestions(self.log, DECIDERS, STATES),
            views=self.views,
            log=self.log,
            vault=self.vault,
            objects=self.objects,
            bus=self.agent,
            ledger=ledger or Ledger(""),
            policy=policy,
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Client]:
        works = (follow(self.log, self.views), reactors.run(self.log, self.commands), self._work())
        tasks = [asyncio.create_task(work) for work in works]
        server = TestServer(self.app)
        await server.start_server()
        client = TestClient(server)
        try:
            await self.commands.send(
                RegisterNode(
                    node_id="node-1",
                    cluster_id="default",
                    address="127.0.0.1",
                    engine="none",
                    cpu_milli=4000,
                    memory_mib=4096,
                    at_ms=1,
                ),
                PLATFORM,
            )
            yield client
            for task in tasks:
                assert not task.done() or task.exception() is None
        finally:
            await client.close()
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _work(self) -> None:
        """What an agent does: who has lost its place goes, who has one comes up or, as wished, goes down.

        A cluster's totals that the node carries are its own.
        """
        scheduling = self.views.scheduling
        while True:
            seen = self.views.position
            for (container_id, run), leaving in list(scheduling.leaving().items()):
                container = self.views.containers.container(container_id)
                if leaving.node_id != "node-1" or container is None or not is_live(container, run):
                    continue
                if not container.wanted:
                    await self._stopped(container, "stopped", 0, "")
                elif leaving.evicted:  # else it shall be deleted: that wish is on its way
                    await self._stopped(container, "evicted", -1, "")
            for container_id, run in scheduling.placed_on("node-1"):
                container = self.views.containers.container(container_id)
                if container and is_live(container, run):
                    await self._converge(container)
            await self.views.wait(seen + 1, 3600)

    async def _converge(self, c: Container) -> None:
        match c.status:
            case "starting" if c.wanted and self.fails:
                await self._stopped(c, self.fails, -1, "no such image")
            case "starting" if c.wanted:
                address, port = self.backends[(c.ordinal - 1) % len(self.backends)]
                started = ReportStarted(
                    container_id=c.container_id,
                    run=c.run,
                    node_id="node-1",
                    runtime_id=sha256(f"{c.container_id}{c.run}".encode()).hexdigest(),
                    address=address,
                    port=port,
                    at_ms=1000,
                )
                await self.commands.send(started, c.tenant)
                ready = ReportReady(container_id=c.container_id, run=c.run, at_ms=1001)
                await self.commands.send(ready, c.tenant)
            case "starting" | "running" if not c.wanted:
                await self._stopped(c, "stopped", 0, "")

    async def _stopped(self, c: Container, ending: Ending, exit_code: int, detail: str) -> None:
        command = ReportStopped(
            container_id=c.container_id,
            run=c.run,
            ending=ending,
            exit_code=exit_code,
            detail=detail,
            at_ms=61_000,
        )
        await self.commands.send(command, c.tenant)


def is_live(container: Container, run: int) -> bool:
    return container.run == run and container.status != "stopped"


def strict(**changes: object) -> Policy:
    return replace(POLICY, **changes)
