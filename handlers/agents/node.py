"""The hands of one machine: Docker runs what the log has placed here, and the log learns what happened.

    python -m handlers.agents.node

Containers do not depend on their agent. One that ends, or is ended, leaves them
running, and the next one finds them by their labels.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog
import uvloop
from msgspec.structs import replace

from core import telemetry
from core.bus import Bus, connect_when_up
from core.commands import CommandQueue, Commands, Declined
from core.jetstream import JetStreamLog
from core.log import Unavailable
from core.message import Command
from core.messages.catalog import Reference
from core.messages.containers import Ending, ReportReady, ReportStarted, ReportStopped
from core.messages.fleet import RegisterNode
from core.messages.scheduling import VIRTUAL, Cause, CreateCluster
from core.objects import Objects
from core.services.docker import platform_id
from core.settings import Settings
from handlers.agents import gpus
from handlers.agents.builds import Builder
from handlers.agents.convergence import (
    Evict,
    Key,
    Probe,
    Remove,
    SayEnded,
    SayEvicted,
    SayGone,
    SayStarted,
    Start,
    Step,
    Stop,
    plan,
)
from handlers.agents.engine import (
    Actual,
    BuildRefused,
    Engine,
    EngineIsDown,
    EngineRefused,
    Wanted,
    is_reference,
)
from handlers.agents.heartbeat import Heart
from handlers.agents.logs import answer_logs
from projections.containers import Container
from projections.views import Views, follow

log = structlog.get_logger(__name__)

CATCH_UP_S = 300
RESYNC_S = 10
GRACE_S = 10
EVICTION_GRACE_S = 30
"""Nobody asked what is evicted whether it is convenient."""

AGAIN_S = 1.0
PROBE_S = 0.1
PROBE_SLOW_S = 5.0
PROBES_FAST = 600
STARTS_TRIED = 3
RESERVE_MIB = 512
"""Of the machine's memory, kept for the platform and the system; an eighth, if that is more."""

WHY: dict[Cause, str] = {
    "preempted": "its place was needed by more urgent work",
    "drained": "its node was drained",
    "lost": "its node was given up",
    "repacked": "it was moved so that less is wasted",
}


class Agent:
    """Converges one node. `grace_s` is how long a container may take to stop, if it was not evicted."""

    def __init__(
        self,
        node_id: str,
        cluster_id: str,
        engine: Engine,
        commands: Commands,
        views: Views,
        builder: Builder,
        beat: Callable[[], None] = lambda: None,
        grace_s: int = GRACE_S,
        eviction_grace_s: int = EVICTION_GRACE_S,
    ) -> None:
        self._node_id, self._cluster_id = node_id, cluster_id
        self._engine, self._commands, self._views, self._builder = engine, commands, views, builder
        self._grace_s, self._eviction_grace_s = grace_s, eviction_grace_s
        self._gpus = gpus.Gpus()
        self._beat, self._return_at = beat, 0.0
        self._wake = asyncio.Event()
        self._changed: set[str] = set()
        self._steps: dict[Key, asyncio.Task[None]] = {}
        self._probes: dict[Key, asyncio.Task[None]] = {}
        self._refusals: dict[Key, int] = {}
        self._starts = asyncio.Semaphore(2 * (os.cpu_count() or 1))

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """For ever. Needs views that have caught up with the log: what those do not know is removed."""
        await self._until_it_works(self._register)
        ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear_the_engine())
            group.create_task(self._hear_the_log())
            group.create_task(self._sweep())
            while True:
                await self._until_it_works(lambda: self._converge(group))
                with suppress(TimeoutError):
                    async with asyncio.timeout(RESYNC_S):
                        await self._wake.wait()
                self._wake.clear()

    async def _until_it_works(self, work: Callable[[], Awaitable[None]]) -> None:
        """Again and again while the engine or the log is away."""
        away = False
        while True:
            try:
                await work()
            except (EngineIsDown, EngineRefused, Unavailable, TimeoutError) as error:
                if not away:
                    log.warning("waiting", reason=str(error) or "the views do not keep up")
                away = True
                await asyncio.sleep(AGAIN_S)
            else:
                if away:
                    log.info("going on")
                return

    async def _register(self) -> None:
        machine, self._gpus = await self._engine.machine(), await gpus.find()
        await self._send(
            CreateCluster(cluster_id=self._cluster_id, name=self._cluster_id, at_ms=_now_ms()), "_"
        )
        await self._send(
            RegisterNode(
                node_id=self._node_id,
                cluster_id=self._cluster_id,
                address=socket.gethostname(),
                engine=machine.engine,
                cpu_milli=machine.cpu_milli,
                memory_mib=machine.memory_mib - max(RESERVE_MIB, machine.memory_mib // 8),
                at_ms=_now_ms(),
                gpus=len(self._gpus.numbers),
                gpu_model=self._gpus.model,
            ),
            "_",
        )

    async def _return(self) -> None:
        """With a sign of life, lest it be given up again; and with pauses, should that be missed."""
        now = asyncio.get_running_loop().time()
        if now >= self._return_at:
            self._return_at = now + RESYNC_S
            self._beat()
            await self._register()

    async def _hear_the_engine(self) -> None:
        while True:
            with suppress(EngineIsDown, EngineRefused):
                async for runtime_id in self._engine.changes():
                    self._changed.add(runtime_id)
                    self._wake.set()
            await asyncio.sleep(AGAIN_S)

    async def _hear_the_log(self) -> None:
        """Most of what happens in the log is no business of this node."""
        before = None
        while True:
            change = asyncio.ensure_future(self._views.change())
            now = self._concern()
            if now != before:
                before = now
                self._wake.set()
            await change

    def _concern(self) -> object:
        """What of the log this node has to act upon."""
        placed, leaving = self._placed(), self._leaving()
        wishes = [
            (key, wish and (wish.run, wish.wanted, wish.status, wish.ready))
            for key in sorted({*placed, *leaving})
            for wish in [self._views.containers.container(key.container_id)]
        ]
        return placed, leaving, wishes, self._is_lost()

    async def _sweep(self) -> None:
        """Forget images whose upload was deleted, as soon as no container needs them."""
        while True:
            with suppress(EngineIsDown, EngineRefused):
                for ref in await self._engine.refs():
                    if ref not in {self._engine.ref(i.tenant, i.image_id) for i in self._views.catalog.all()}:
                        await self._engine.forget(ref)
            await asyncio.sleep(RESYNC_S)

    def _placed(self) -> set[Key]:
        return {Key(*placed) for placed in self._views.scheduling.placed_on(self._node_id)}

    def _leaving(self) -> dict[Key, bool]:
        """The runs that have lost their places here, and whether they were evicted."""
        leaving = self._views.scheduling.leaving().items()
        return {Key(*run): left.evicted for run, left in leaving if left.node_id == self._node_id}

    def _is_crowded(self, key: Key) -> bool:
        place = self._views.scheduling.place(*key)
        return place is not None and self._views.scheduling.is_crowded(place, self._lives)

    def _lives(self, run: tuple[str, int]) -> bool:
        container = self._views.containers.container(run[0])
        return container is not None and container.run == run[1] and container.status != "stopped"

    def _may_start(self, key: Key) -> bool:
        """Still; much may happen while an image is made."""
        scheduling, container = self._views.scheduling, self._views.containers.container(key.container_id)
        place = scheduling.place(*key)
        return (
            place is not None
            and scheduling.agent_of(place) == self._node_id
            and key not in self._leaving()
            and container is not None
            and container.wanted
            and self._lives(key)
            and not self._is_crowded(key)
        )

    def _is_lost(self) -> bool:
        node = self._views.fleet.node(self._node_id)
        return node is not None and node.lost

    async def _converge(self, group: asyncio.TaskGroup) -> None:
        """Take the next step for each run that has none under way."""
        if self._is_lost():
            await self._return()
        busy = set(self._steps)  # what is listed now may be older than the ends of these
        changed, self._changed = self._changed, set()
        actual = await self._engine.containers(changed)
        steps = plan(
            self._placed(), self._views.containers.container, actual, self._leaving(), self._is_crowded
        )
        for key, task in list(self._probes.items()):
            if not isinstance(steps.get(key), Probe):
                task.cancel()
        for key, step in steps.items():
            running = self._probes if isinstance(step, Probe) else self._steps
            if key in running or key in busy:
                continue
            running[key] = task = group.create_task(self._take(key, step))
            task.add_done_callback(lambda _, running=running, key=key: self._done(running, key))  # type: ignore[misc]

    def _done(self, running: dict[Key, asyncio.Task[None]], key: Key) -> None:
        del running[key]
        self._wake.set()

    async def _take(self, key: Key, step: Step) -> None:
        try:
            match step:
                case Start(container=container):
                    async with self._starts:
                        await self._start(key, container)
                case SayStarted(container=container, actual=actual):
                    await self._say_started(container, actual.runtime_id)
                case Probe(container=container, actual=actual):
                    await self._probe(container, actual)
                case Stop(container=container, actual=actual):
                    await self._stop(container, actual, self._grace_s)
                case Evict(container=container, actual=actual):
                    await self._stop(container, actual, self._eviction_grace_s, self._eviction(container))
                case SayEnded(container=container, actual=actual):
                    await self._say_ended(container, actual)
                case SayGone(container=container):
                    await self._say_gone(key, container)
                case SayEvicted(container=container):
                    await self._say_evicted(key, container)
                case Remove(actual=actual):
                    await self._engine.remove(actual.runtime_id)
                    self._refusals.pop(key, None)
        except (EngineIsDown, EngineRefused, Unavailable, TimeoutError) as error:
            log.warning(
                "step failed", step=type(step).__name__, container_id=key.container_id, reason=str(error)
            )
            await asyncio.sleep(AGAIN_S)  # what is still to do then will be planned again

    async def _start(self, key: Key, container: Container) -> None:
        try:
            image = await self._image(container)
            if not self._may_start(key):
                return  # what is to be done instead will be planned
            runtime_id = await self._engine.create(self._wanted(container), read_only=image)
            await self._engine.start(runtime_id)
        except BuildRefused as refused:
            await self._say_stopped(container, "unstartable", str(refused), _now_ms())
        except EngineRefused as refused:
            self._refusals[key] = self._refusals.get(key, 0) + 1
            if refused.status not in (400, 404) and self._refusals[key] < STARTS_TRIED:
                raise
            await self._say_stopped(container, "unstartable", str(refused), _now_ms())
        else:
            self._refusals.pop(key, None)
            await self._say_started(container, runtime_id)

    async def _image(self, container: Container) -> bool:
        """Make sure the image is here, made again from its upload if need be; whether it is read-only."""
        ref, tenant = container.ref, container.tenant
        if not is_reference(ref):
            raise BuildRefused(f"image {ref}: no image can have such a name")
        if (found := await self._engine.image(ref, tenant)) is None:
            image = self._views.catalog.image(container.image_id)
            if (
                image is None
                or (image.tenant, image.ref) != (tenant, ref)
                or isinstance(image.source, Reference)
            ):
                raise BuildRefused(f"image {ref}: this node has no such image")
            await self._builder.make(image, ref, lambda line: None)
            found = await self._engine.image(ref, tenant)
        return found is not None and found.read_only

    def _wanted(self, container: Container) -> Wanted:
        """Raises `BuildRefused` for GPUs that are not there (any more)."""
        place = self._views.scheduling.place(container.container_id, container.run)
        # those of a cluster's totals are only numbers
        devices = place.devices if place is not None and place.node_id != VIRTUAL else ()
        if devices and max(devices) >= len(self._gpus.numbers):
            raise BuildRefused(f"GPU {max(devices)}: this node has only {len(self._gpus.numbers)}")
        return Wanted(
            container_id=container.container_id,
            run=container.run,
            tenant=container.tenant,
            image_id=container.image_id,
            ref=container.ref,
            port=container.port,
            cpu_milli=container.resources.cpu_milli,
            memory_mib=container.resources.memory_mib,
            devices=tuple(self._gpus.numbers[device] for device in devices),
        )

    async def _say_started(self, container: Container, runtime_id: str) -> None:
        actual = await self._engine.inspect(runtime_id)
        if actual is None:
            return  # gone already; that is found out in the next round
        await self._send(
            ReportStarted(
                container_id=container.container_id,
                run=container.run,
                node_id=self._node_id,
                runtime_id=runtime_id,
                address=actual.address,
                port=container.port,
                at_ms=actual.started_ms or _now_ms(),
            ),
            container.tenant,
        )

    async def _probe(self, container: Container, actual: Actual) -> None:
        """Until its port accepts a connection: soon at first, patiently later."""
        tries = 0
        while not await _accepts(actual.address, container.port):
            tries += 1
            await asyncio.sleep(PROBE_S if tries < PROBES_FAST else PROBE_SLOW_S)
        await self._send(
            ReportReady(container_id=container.container_id, run=container.run, at_ms=_now_ms()),
            container.tenant,
        )

    async def _stop(self, container: Container, actual: Actual, grace_s: int, eviction: str = "") -> None:
        if actual.state == "running":
            await self._engine.stop(actual.runtime_id, grace_s)
        if (ended := await self._engine.inspect(actual.runtime_id)) is not None:
            await self._say_ended(self._latest(container), ended, eviction)

    def _latest(self, container: Container) -> Container:
        """Whether it is still wanted may have changed while it stopped."""
        latest = self._views.containers.container(container.container_id)
        return replace(container, wanted=latest is not None and latest.wanted)

    def _eviction(self, container: Container, ended_ms: int | None = None) -> str:
        """Why it was evicted; '' if it was not, or had ended before, which nobody but its node knew."""
        run, scheduling = (container.container_id, container.run), self._views.scheduling
        leaving, following = scheduling.leaving().get(run), scheduling.place(run[0], run[1] + 1)
        if leaving is None or not leaving.evicted:
            return ""
        told = following.evicted if following is not None else None
        if told is None or told.run != container.run:
            return "evicted"
        if ended_ms is not None and ended_ms < told.at_ms:
            return ""
        return f"evicted: {WHY[told.cause]}"

    async def _say_ended(self, container: Container, ended: Actual, eviction: str = "") -> None:
        """When it ended is what Docker says, however late this is told."""
        if container.status != "running" and ended.started_ms:
            await self._say_started(container, ended.runtime_id)
        eviction = eviction or self._eviction(container, ended.ended_ms)
        ending: Ending
        match ended:
            case _ if not container.wanted:
                ending, detail = "stopped", "stopped as asked"
            case _ if eviction:
                ending, detail = "evicted", eviction
            case Actual(oom=True):
                ending, detail = "oom", f"out of memory: more than {container.resources.memory_mib} MiB"
            case _:
                ending, detail = "exited", ended.detail or f"exited with code {ended.exit_code}"
        code = ended.exit_code if ended.started_ms else -1
        await self._say_stopped(container, ending, detail, ended.ended_ms or _now_ms(), code)

    async def _say_evicted(self, key: Key, container: Container) -> None:
        if await self._engine.inspect(f"{key.container_id}-{key.run}") is not None:
            return  # it came after the list was made
        await self._say_stopped(container, "evicted", self._eviction(container) or "evicted", _now_ms())

    async def _say_gone(self, key: Key, container: Container) -> None:
        if await self._engine.inspect(f"{key.container_id}-{key.run}") is not None:
            return  # it came after the list was made
        if container.status == "running":
            await self._say_stopped(container, "lost", "the engine does not have it any more", _now_ms())
        else:
            await self._say_stopped(container, "stopped", "stopped before it was started", _now_ms())

    async def _say_stopped(
        self, container: Container, ending: Ending, detail: str, at_ms: int, exit_code: int = -1
    ) -> None:
        await self._send(
            ReportStopped(
                container_id=container.container_id,
                run=container.run,
                ending=ending,
                exit_code=exit_code,
                detail=detail[:2000],
                at_ms=at_ms,
            ),
            container.tenant,
        )

    async def _send(self, command: Command, tenant: str) -> None:
        """Until it is answered and our own views know; a refusal is an answer."""
        try:
            position = await self._commands.send(command, tenant, actor=self._node_id)
        except Declined as declined:
            log.warning("declined", command=type(command).__name__, reason=declined.rejection)
        else:
            await self._views.wait(position, RESYNC_S)


async def _accepts(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def main() -> None:
    settings = Settings.read(os.environ)
    telemetry.configure("agent", settings.log_level)
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        bus = await connect_when_up(settings.nats_url, settings.node_id)
        engine = Engine(settings.docker_url, settings.node_id, platform_id(settings.data_dir))
        try:
            await _work(settings, bus, engine)
        finally:
            await engine.close()
            await bus.close()
    except asyncio.CancelledError:
        log.info("stopped; containers keep running")


async def _work(settings: Settings, bus: Bus, engine: Engine) -> None:
    node_id, history, views = settings.node_id, JetStreamLog(bus), Views()
    commands = CommandQueue(bus, actor=node_id)
    builder = Builder(node_id, engine, bus, Objects(bus), commands, views)
    heart = Heart(bus, node_id)
    agent = Agent(node_id, settings.cluster_id, engine, commands, views, builder, heart.beat)
    async with asyncio.TaskGroup() as group:
        group.create_task(heart.run())
        group.create_task(follow(history, views))
        await views.wait(await history.end(), CATCH_UP_S)
        await answer_logs(bus, node_id, engine)
        group.create_task(builder.run())
        group.create_task(agent.run(ready=lambda: log.info("ready", node_id=node_id)))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    uvloop.run(main())
