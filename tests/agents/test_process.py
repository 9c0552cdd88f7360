"""The agent as the process it is, with everything around it real."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.bus import Bus
from core.commands import CommandQueue
from core.jetstream import JetStreamLog
from core.log import Recorded, events_of
from core.messages.catalog import Instance, LaunchInstances, Reference, RegisterImage, Resources
from core.messages.containers import ContainerStopped, StopContainer
from core.services.docker import PrivateDocker, platform_id
from handlers.agents.engine import Engine
from projections.views import Views, follow
from tests.broker import Broker
from tests.docker import remove_all

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


@asynccontextmanager
async def process(module: str, environ: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ready at the beginning of the block, ended at its end."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b'"ready"' not in (line := await child.stdout.readline()):
                assert line, f"{module} ended before it was ready"
        yield child
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
            await child.communicate()


@pytest.fixture
def environ(broker: Broker, dockerd: PrivateDocker, tmp_path: Path) -> dict[str, str]:
    return os.environ | {
        "STRATUS_NATS_URL": broker.url,
        "STRATUS_DOCKER_URL": dockerd.url,
        "STRATUS_DATA_DIR": str(tmp_path),
        "STRATUS_NODE_ID": "node-process",
        "PYTHONUNBUFFERED": "1",
    }


async def test_containers_outlive_their_agent_and_the_next_one_goes_on(
    bus: Bus, dockerd: PrivateDocker, environ: dict[str, str], app_image: str, tmp_path: Path
) -> None:
    history, views, commands = JetStreamLog(bus), Views(), CommandQueue(bus, "usr_1")
    following = asyncio.create_task(follow(history, views))
    engine = Engine(dockerd.url, "node-process", platform_id(tmp_path))

    async def until_ready(container_id: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not ((known := views.containers.container(container_id)) and known.ready):
                await views.change()

    async with process("handlers", environ):
        async with process("handlers.agents.node", environ) as agent:
            register = RegisterImage(
                image_id="img_web",
                name="web",
                tag="1",
                source=Reference(ref=app_image),
                owner="usr_1",
                at_ms=1,
                resources=Resources(cpu_milli=250, memory_mib=32),
            )
            await commands.send(register, "org_7")
            launch = LaunchInstances(
                image_id="img_web",
                instances=(Instance("ctr_1", "a"), Instance("ctr_2", "b")),
                by="usr_1",
                at_ms=1,
            )
            await commands.send(launch, "org_7")
            await until_ready("ctr_1")
            await until_ready("ctr_2")
            agent.send_signal(signal.SIGTERM)
            assert await agent.wait() == 0
        before = await engine.containers()
        assert [found.state for found in before] == ["running", "running"]
        await commands.send(StopContainer(container_id="ctr_2", at_ms=2), "org_7")
        async with process("handlers.agents.node", environ), asyncio.timeout(PATIENCE_S):
            while len(left := await engine.containers()) == 2:
                await asyncio.sleep(0.05)
        assert left == [found for found in before if found.container_id == "ctr_1"]
    ends = [
        event
        async for batch in _all(history)
        for recorded in batch
        for event in events_of(recorded)
        if isinstance(event, ContainerStopped)
    ]
    assert [(end.container_id, end.ending) for end in ends] == [("ctr_2", "stopped")]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await engine.close()
    await remove_all(dockerd)


async def _all(history: JetStreamLog) -> AsyncIterator[list[Recorded]]:
    end = await history.end()
    async for batch in history.follow():
        yield batch
        if batch[-1].position >= end:
            return
