"""kill -9 of every process, once each, under traffic: what was acknowledged is there, exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from uuid import uuid4

import aiohttp
import pytest

from core.bus import Bus
from core.jetstream import JetStreamLog
from core.services.running import Running
from gateway.cli.demo.stage import Failed, Stage, stratus

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLIENTS = 4
VICTIMS = ("handlers", "projections", "gateway", "agent", "nats", "postgres", "docker")


class Traffic:
    """Clients that register images, each until it is acknowledged, under one idempotency key."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._over = stage, False
        self.acknowledged: list[str] = []
        self._tasks = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]

    async def _client(self) -> None:
        while not self._over:
            name = f"image-{uuid4().hex}"
            while not await self._registered(name):
                await asyncio.sleep(0.1)
            self.acknowledged.append(name)
            await asyncio.sleep(0.01)

    async def _registered(self, name: str) -> bool:
        body = {"name": name, "tag": "1", "source": {"type": "Reference", "ref": "hello:1"}}
        try:
            await self._stage.ask(
                "POST", "/api/v1/images", json=body, idempotency_key=name, timeout=aiohttp.ClientTimeout(15)
            )
            return True
        except (aiohttp.ClientError, TimeoutError):
            return False
        except Failed as failure:
            if any(f": {status} " in str(failure) for status in (502, 503, 504)):
                return False
            raise

    async def grows(self) -> None:
        before = len(self.acknowledged)
        async with asyncio.timeout(30):
            while len(self.acknowledged) < before + 2 * CLIENTS:
                await asyncio.sleep(0.05)

    async def end(self) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)


async def restarted(stage: Stage, name: str, pid: int) -> None:
    async with asyncio.timeout(30):
        while True:
            running = Running.read(stage.folder)
            process = running.processes.get(name) if running else None
            if process is not None and process.pid not in (0, pid) and process.lives:
                return
            await asyncio.sleep(0.05)


async def test_every_acknowledged_command_survives_the_death_of_every_process(stage: Stage) -> None:
    """B-18: nothing is said before it is kept."""
    running = Running.read(stage.folder)
    assert running is not None
    traffic = Traffic(stage)
    await traffic.grows()
    for name in VICTIMS:
        if name not in running.processes:
            continue  # an engine that was there before us is not ours to kill
        pid = running.processes[name].pid
        os.kill(pid, signal.SIGKILL)
        await restarted(stage, name, pid)
        await traffic.grows()
    await traffic.end()

    found = Counter[str]()
    after = 0
    while True:
        page = await stage.ask("GET", f"/api/v1/images?limit=1000&after={after}")
        found.update(image["name"] for image in page["items"])
        if len(page["items"]) < 1000:
            break
        after = page["items"][-1]["ordinal"]
    assert {name: found[name] for name in traffic.acknowledged if found[name] != 1} == {}
    await no_command_was_decided_twice(running)


async def no_command_was_decided_twice(running: Running) -> None:
    bus = await Bus.connect(running.nats_url, "test")
    log, decided = JetStreamLog(bus), Counter[tuple[object, str]]()
    end = await log.end()
    async for batch in log.follow():
        for recorded in batch:
            decided.update((recorded.stream, decision.command) for decision in recorded.commit.decisions)
        if batch[-1].position >= end:
            break
    await bus.close()
    assert [command for command, times in decided.items() if times > 1] == []


async def test_and_the_replay_agrees_with_what_lives(stage: Stage) -> None:
    process = await asyncio.create_subprocess_exec(
        *stratus("audit", "replay", "--data", str(stage.folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
