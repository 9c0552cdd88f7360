"""A platform of one process for the agents' tests: the real deciders and views over a log in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from core.log import events_of
from core.memory import MemoryLog
from core.messages.catalog import Resources
from core.messages.containers import ContainersEvent, CreateContainer
from core.messages.deployments import PRIORITY
from core.messages.scheduling import CreateCluster, OfferNode, ReleasePlacement, RequestPlacement
from handlers.deciders import DECIDERS, STATES
from handlers.local import LocalCommands
from projections.containers import Container
from projections.views import Views, follow

TENANT = "org_7"
PATIENCE_S = 60


class Platform:
    """`async with Platform() as platform`. Stands in for the reactors: it places what it creates."""

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        self.history = MemoryLog()
        self.commands = LocalCommands(self.history, DECIDERS, STATES)
        self._followers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Platform:
        self.views = await self.new_views()
        cluster = CreateCluster(cluster_id="default", name="default", at_ms=1)
        await self.commands.send(cluster, "_")
        offer = OfferNode(cluster_id="default", node_id=self.node_id, cpu_milli=4000, memory_mib=4000)
        await self.commands.send(offer, "_")
        return self

    async def __aexit__(self, *_: object) -> None:
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)

    async def new_views(self) -> Views:
        views = Views()
        self._followers.append(asyncio.create_task(follow(self.history, views)))
        await views.wait(await self.history.end(), PATIENCE_S)
        return views

    async def create(
        self,
        container_id: str,
        ref: str,
        memory_mib: int = 32,
        port: int = 8080,
        cpu_milli: int = 250,
        priority: int = PRIORITY,
        tenant: str = TENANT,
        gpus: int = 0,
        deployment_id: str | None = None,
    ) -> None:
        """A container whose first run is placed on the node, or has to wait; a replica has its place."""
        await self.commands.send(
            CreateContainer(
                container_id=container_id,
                image_id="img_web",
                name="web",
                ref=ref,
                hostname=None,
                resources=Resources(cpu_milli=cpu_milli, memory_mib=memory_mib, gpus=gpus),
                port=port,
                owner="usr_1",
                at_ms=1,
                deployment_id=deployment_id,
            ),
            tenant,
        )
        if deployment_id is None:
            await self.place(container_id, 1, memory_mib, cpu_milli, priority, gpus)

    async def place(
        self,
        container_id: str,
        run: int,
        memory_mib: int = 32,
        cpu_milli: int = 250,
        priority: int = PRIORITY,
        gpus: int = 0,
    ) -> None:
        """Ask for a place; with a high `priority`, whoever has it is evicted."""
        await self.commands.send(
            RequestPlacement(
                cluster_id="default",
                tenant=TENANT,
                container_id=container_id,
                run=run,
                cpu_milli=cpu_milli,
                memory_mib=memory_mib,
                at_ms=now_ms(),
                priority=priority,
                gpus=gpus,
            ),
            "_",
        )

    async def release(self, container_id: str, run: int) -> None:
        release = ReleasePlacement(cluster_id="default", container_id=container_id, run=run, at_ms=now_ms())
        await self.commands.send(release, "_")

    def container(self, container_id: str) -> Container:
        container = self.views.containers.container(container_id)
        assert container is not None
        return container

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self.views.change()

    def told(self, container_id: str, event: type[ContainersEvent]) -> list[Any]:
        """Everything of a kind that was ever written of a container."""
        return [
            told
            for recorded in self.history.recorded
            for told in events_of(recorded)
            if isinstance(told, event) and told.container_id == container_id
        ]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def eventually(condition: Callable[[], Any]) -> None:
    """For what no log tells: `condition` may be a coroutine function."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.05)
