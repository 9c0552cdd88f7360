"""Impatient clients, two handlers at once, a queue that delivers twice, a log that fails: by seed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from itertools import count
from random import Random

import msgspec
import pytest

from core.commands import Answer
from core.contexts import stream_of
from core.log import Unavailable, events_of
from core.memory import MemoryLog
from core.message import Command
from core.messages.catalog import Instance, LaunchInstances, Reference, RegisterImage, Resources
from core.messages.containers import (
    ContainerStarted,
    ContainerStopped,
    CreateContainer,
    DeleteContainer,
    ReportReady,
    ReportStarted,
    ReportStopped,
    RestartContainer,
    StartContainer,
    StopContainer,
)
from core.messages.deployments import (
    DeploymentEnded,
    DeploymentScaled,
    DeploymentSubmitted,
    EndDeployment,
    ScaleDeployment,
    Share,
    SubmitDeployment,
)
from core.messages.identity import RegisterUser
from core.messages.names import NameReserved, name_id
from core.messages.scheduling import (
    ClearNode,
    CreateCluster,
    OfferNode,
    PassPlacement,
    PlacementPassed,
    PlacementQueued,
    PlacementReleased,
    ReleasePlacement,
    RequestPlacement,
    RunEvicted,
    RunPlaced,
)
from handlers.aggregate import Received
from handlers.deciders import DECIDERS, STATES
from handlers.runtime import Runtime

CAPACITY_MIB = 1024
TENANT = "org_1"


def wish(random: Random) -> Command:
    one = random.randrange(4)
    container, run = f"ctr_{one}", random.randrange(1, 4)
    wishes: list[Command] = [
        RegisterUser(f"usr_{random.randrange(5)}", "s", name_id("username", f"name{one}"), None, 1),
        RegisterImage(
            f"img_{one}", "web", "1", Reference("web:1"), "usr_1", 1, hostname=f"h{one % 2}.example"
        ),
        LaunchInstances(f"img_{one}", (Instance(f"ctr_{random.randrange(9)}", "web"),), "usr_1", 1),
        CreateContainer(container, "img_1", "web", "web:1", None, Resources(), 80, "usr_1", 1),
        StartContainer(container, 1),
        StopContainer(container, 1),
        RestartContainer(container, run, 1),
        DeleteContainer(container, 1),
        ReportStarted(container, run, "node-a", "r1", "10.0.0.1", 80, 1),
        ReportReady(container, run, 1),
        ReportStopped(container, run, "exited", 0, "", 1),
        CreateCluster("default", "default", 1),
        OfferNode("default", f"node-{one % 2}", 4000, CAPACITY_MIB),
        RequestPlacement("default", TENANT, container, run, 500, random.choice([128, 256, 512]), 1),
        ReleasePlacement("default", container, run),
        PassPlacement("default", container, run, 1),
        ClearNode("default", f"node-{one % 2}", "lost", 1),
        SubmitDeployment(
            *(
                "default",
                f"dep_{one}",
                TENANT,
                "d",
                "web:1",
                "usr_1",
                1,
                Share(500, random.choice([256, 512])),
            ),
            replicas=random.randrange(1, 3),
            priority=random.choice([1, 500, 900]),
            unique=one == 3,
        ),
        ScaleDeployment("default", f"dep_{one}", random.randrange(1, 4), 1),
        EndDeployment("default", f"dep_{one}", random.choice(["completed", "cancelled"]), 1),
    ]
    return random.choice(wishes)


class Queue:
    """Commands with their sequence; readers get them in order, some twice, as after a failover."""

    def __init__(self, random: Random, handlers: list[Runtime]) -> None:
        self._random, self._handlers, self._sequence = random, handlers, count(1)
        self._sent: list[Received] = []
        self.accepted: list[int] = []

    async def send(self, command: Command) -> None:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(answer: Answer) -> None:
            if answer.refusal is None:
                self.accepted.append(sequence)
            if not answered.done():
                answered.set_result(answer)

        sequence = next(self._sequence)
        stream = stream_of(command, TENANT)
        body = msgspec.json.encode(command)
        received = Received(sequence, stream, type(command).__name__, f"c{sequence}", "sim", "r", body, done)
        self._sent.append(received)
        for handler in self._random.sample(self._handlers, k=self._random.choice([1, 1, 2])):
            handler.receive(received)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(answered, 5)

    def redeliver(self, handler: Runtime) -> None:
        """A new owner starts from an old checkpoint."""
        for received in self._sent[self._random.randrange(len(self._sent)) :]:
            handler.receive(received)


async def rough(random: Random) -> None:
    for _ in range(random.randrange(3)):
        await asyncio.sleep(0)
    if random.random() < 0.02:
        raise Unavailable("simulated")


async def run(seed: int, monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    random = Random(seed)
    log = MemoryLog(pause=lambda: rough(random))
    real_sleep = asyncio.sleep
    monkeypatch.setattr("handlers.runtime.asyncio.sleep", lambda _: real_sleep(0))
    monkeypatch.setattr("handlers.runtime.RETRY_S", 0.0)
    monkeypatch.setattr("handlers.runtime.CONFLICT_S", 0.0)

    async def park(received: Received, reason: str) -> None:
        raise AssertionError(f"nothing may be parked: {received.name}: {reason}")

    handlers = [Runtime(log, DECIDERS, STATES, park) for _ in range(2)]
    queue = Queue(random, handlers)

    async def client() -> None:
        for _ in range(25):
            await queue.send(wish(random))

    await asyncio.gather(*(client() for _ in range(4)))
    late = Runtime(log, DECIDERS, STATES, park)
    queue.redeliver(late)
    while any(a.busy for handler in (*handlers, late) for a in handler._aggregates.values()):
        await real_sleep(0)
    return log


@pytest.mark.parametrize("seed", range(200))
async def test_nothing_happens_twice_and_nothing_is_promised_twice(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await run(seed, monkeypatch)
    decided: Counter[tuple[object, int]] = Counter()
    held: dict[str, str] = {}
    starts: Counter[tuple[str, int]] = Counter()
    ends: Counter[tuple[str, int]] = Counter()
    requested: dict[tuple[str, int], int] = {}
    placed: dict[tuple[str, int], tuple[str, int]] = {}
    shares: dict[str, int] = {}
    for recorded in log.recorded:
        for decision in recorded.commit.decisions:
            decided[recorded.stream, decision.sequence] += 1
        for event in events_of(recorded):
            match event:
                case NameReserved(name_id=name, holder=holder):
                    assert held.setdefault(name, holder) == holder
                case ContainerStarted(container_id=container, run=number):
                    starts[container, number] += 1
                    assert not ends[container, number]
                case ContainerStopped(container_id=container, run=number):
                    ends[container, number] += 1
                case RunPlaced(container_id=container, run=number, node_id=node):
                    placed[container, number] = (node, requested[container, number])
                    used = Counter[str]()
                    for where, size in placed.values():
                        used[where] += size
                    assert max(used.values()) <= CAPACITY_MIB
                case PlacementReleased(container_id=container, run=number):
                    placed.pop((container, number), None)
                    del requested[container, number]
                case RunEvicted(container_id=container, run=number):
                    del placed[container, number]
                    requested.setdefault((container, number + 1), requested.pop((container, number)))
                case PlacementPassed(container_id=container, run=number):
                    requested[container, number + 1] = requested.pop((container, number))
                    if (container, number) in placed:
                        placed[container, number + 1] = placed.pop((container, number))
                case PlacementQueued(container_id=container, run=number, memory_mib=size):
                    requested[container, number] = size
                case DeploymentSubmitted(deployment_id=id, replicas=replicas, share=share):
                    for number in range(1, replicas + 1):
                        drop(requested, f"{id}-{number}")
                        requested[f"{id}-{number}", 1] = share.memory_mib
                    shares[id] = share.memory_mib
                case DeploymentScaled(deployment_id=id, added=added, removed=removed):
                    requested |= {(name, 1): shares[id] for name in added}
                    placed = {run: place for run, place in placed.items() if run[0] not in removed}
                case DeploymentEnded(deployment_id=id):
                    placed = {run: at for run, at in placed.items() if run[0].rpartition("-")[0] != id}
    assert max(decided.values(), default=1) == 1
    assert max(starts.values(), default=1) == 1
    assert max(ends.values(), default=1) == 1


def drop(runs: dict[tuple[str, int], int], container_id: str) -> None:
    for run in [run for run in runs if run[0] == container_id]:
        del runs[run]


async def test_the_same_seed_makes_the_same_log(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await run(7, monkeypatch), await run(7, monkeypatch)
    assert [(r.stream, r.commit) for r in first.recorded] == [(r.stream, r.commit) for r in second.recorded]
    assert len(first.recorded) > 20
