"""The reactors at work, on a log in memory with the real deciders."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from core.commands import Declined
from core.log import Unavailable
from core.memory import MemoryLog
from core.message import Command
from core.messages.catalog import DeleteImage, Instance, LaunchInstances
from core.messages.containers import ReportStopped, RestartContainer
from core.messages.fleet import RegisterNode
from handlers.deciders import DECIDERS, STATES
from handlers.local import LocalCommands
from handlers.reactors import runtime
from projections.views import Views, follow
from tests.projections.history import ADA, image


class Unreliable:
    """Commands that are counted, and sometimes do not get through."""

    def __init__(self, inner: LocalCommands) -> None:
        self._inner = inner
        self.sent: Counter[str] = Counter()
        self.under_way = self.most_at_once = 0
        self.fail: Callable[[Command], Exception | None] = lambda command: None

    async def send(
        self,
        command: Command,
        tenant: str,
        *,
        actor: str | None = None,
        correlation: str = "",
        command_id: str | None = None,
        timeout: float = 10.0,
    ) -> int:
        self.sent[command_id or ""] += 1
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(0)
            if error := self.fail(command):
                raise error
            return await self._inner.send(command, tenant, actor=actor, command_id=command_id)
        finally:
            self.under_way -= 1


class Platform:
    def __init__(self) -> None:
        self.now_ms = 1_000_000
        self.log = MemoryLog()
        self.commands = LocalCommands(self.log, DECIDERS, STATES)
        self.wires = Unreliable(self.commands)
        self.views = Views()

    async def reached(self, outcome: Callable[[], bool]) -> None:
        """Patient: what does not happen makes the test run into its own limit."""
        async with asyncio.timeout(60):
            while not outcome():
                await self.views.change()

    def running(self) -> set[tuple[str, int]]:
        return set(self.views.scheduling.placed_on("node-1"))


@pytest.fixture
async def platform(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Platform]:
    monkeypatch.setattr(runtime, "TICK_S", 0.01)
    platform = Platform()
    tasks = [
        asyncio.create_task(follow(platform.log, platform.views)),
        asyncio.create_task(runtime.run(platform.log, platform.wires, lambda: platform.now_ms)),
    ]
    yield platform
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await platform.commands.runtime.close()


async def launch(platform: Platform, count: int = 2) -> None:
    await platform.commands.send(RegisterNode("node-1", "default", "x", "e", 64_000, 64_000, 1), "_")
    await platform.commands.send(image("a", most=1000), ADA)
    instances = tuple(Instance(f"ctr_{n}", f"web-{n}") for n in range(count))
    await platform.commands.send(LaunchInstances("img_a", instances, ADA, 1), ADA)


async def test_a_launch_ends_as_runs_that_have_a_place(platform: Platform) -> None:
    await launch(platform)
    await platform.reached(lambda: platform.running() == {("ctr_0", 1), ("ctr_1", 1)})
    assert set(platform.wires.sent.values()) == {1}


async def test_a_run_that_ends_unasked_is_followed_by_another_one(platform: Platform) -> None:
    await launch(platform, 1)
    await platform.reached(lambda: platform.running() == {("ctr_0", 1)})
    await platform.commands.send(ReportStopped("ctr_0", 1, "exited", 1, "", platform.now_ms), ADA)
    await platform.reached(lambda: platform.running() == {("ctr_0", 2)})
    ended = platform.views.containers.container("ctr_0")
    assert ended is not None
    assert (ended.run, ended.status) == (1, "stopped")
    platform.now_ms += 1_000
    await platform.reached(lambda: platform.views.containers.container("ctr_0").run == 2)  # type: ignore[union-attr]


async def test_deleting_an_image_leaves_nothing_behind(platform: Platform) -> None:
    await launch(platform)
    await platform.commands.send(DeleteImage("img_a", 2), ADA)
    pool = platform.views.containers
    await platform.reached(lambda: pool.of([ADA]) != [] and all(c.deleting for c in pool.of([ADA])))
    for container in pool.of([ADA]):
        stopped = ReportStopped(container.container_id, 1, "stopped", 0, "", platform.now_ms)
        await platform.commands.send(stopped, ADA)
    await platform.reached(lambda: pool.of([ADA]) == [] and platform.running() == set())


async def test_many_wishes_are_sent_a_bounded_number_at_once(platform: Platform) -> None:
    await launch(platform, 300)
    await platform.reached(lambda: len(platform.running()) == 300)
    assert 1 < platform.wires.most_at_once <= runtime.AT_ONCE


async def test_what_was_not_answered_is_sent_again_under_the_same_id(platform: Platform) -> None:
    lost = {"left": 2}

    def lose(command: Command) -> Exception | None:
        lost["left"] -= 1
        platform.now_ms += runtime.UNAVAILABLE_MS
        return Unavailable("lost") if lost["left"] >= 0 else None

    platform.wires.fail = lose
    await launch(platform, 1)
    await platform.reached(lambda: platform.running() == {("ctr_0", 1)})
    assert sum(platform.wires.sent.values()) == len(platform.wires.sent) + 2


async def test_a_refusal_is_an_answer_and_is_not_argued_with(platform: Platform) -> None:
    def refuse(command: Command) -> Exception | None:
        return Declined("No", "conflict", "no") if isinstance(command, RestartContainer) else None

    platform.wires.fail = refuse
    await launch(platform, 1)
    await platform.reached(lambda: platform.running() == {("ctr_0", 1)})
    await platform.commands.send(ReportStopped("ctr_0", 1, "exited", 1, "", platform.now_ms), ADA)
    await platform.reached(lambda: platform.running() == {("ctr_0", 2)})
    platform.now_ms += 1_000
    async with asyncio.timeout(60):
        while not platform.wires.sent["RestartContainer:ctr_0:1"]:
            await asyncio.sleep(0.01)
    await platform.commands.send(image("b"), ADA)
    await platform.reached(lambda: platform.views.catalog.image("img_b") is not None)
    await asyncio.sleep(5 * runtime.TICK_S)
    assert platform.wires.sent["RestartContainer:ctr_0:1"] == 1


async def test_a_reactor_that_starts_late_asks_only_for_what_is_still_to_do(platform: Platform) -> None:
    await launch(platform)
    await platform.reached(lambda: len(platform.running()) == 2)
    later = Unreliable(platform.commands)
    task = asyncio.create_task(runtime.run(platform.log, later, lambda: platform.now_ms))
    await asyncio.sleep(5 * runtime.TICK_S)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert later.sent == Counter()
