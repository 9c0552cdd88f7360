"""The agent against a real engine: whatever happens to them, the log tells it once."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from core.bus import Bus
from core.messages.containers import (
    ContainerReady,
    ContainerStarted,
    ContainerStopped,
    DeleteContainer,
    RestartContainer,
    StopContainer,
)
from core.services.docker import PrivateDocker
from handlers.agents.builds import Builder
from handlers.agents.engine import Engine, Wanted
from handlers.agents.node import Agent, answer_logs
from projections.views import Views
from tests.agents.conftest import NODE, PLATFORM
from tests.agents.platform import TENANT, Platform, eventually
from tests.docker import build, docker, tar_of


@pytest.fixture
async def platform() -> AsyncIterator[Platform]:
    async with Platform(NODE) as platform:
        yield platform


@asynccontextmanager
async def agent(platform: Platform, engine: Engine, views: Views | None = None) -> AsyncIterator[None]:
    """An agent at work, until the end of the block."""
    views = views or platform.views
    builder = Builder(NODE, engine, None, None, platform.commands, views)  # type: ignore[arg-type]  # builds nothing
    task = asyncio.create_task(
        Agent(NODE, "default", engine, platform.commands, views, builder, grace_s=2).run()
    )
    try:
        yield
    finally:
        assert not task.done(), task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def meddle(dockerd: PrivateDocker, method: str, path: str) -> None:
    async with docker(dockerd) as http, http.request(method, f"http://docker/containers/{path}") as response:
        assert response.status < 300


async def test_what_is_placed_here_is_started_probed_and_told(
    platform: Platform, engine: Engine, app_image: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image, port=9000)
        await platform.until(lambda: platform.container("ctr_1").ready)
    (started,) = platform.told("ctr_1", ContainerStarted)
    assert (started.run, started.node_id, started.port) == (1, NODE, 9000)
    assert len(platform.told("ctr_1", ContainerReady)) == 1
    async with aiohttp.ClientSession() as http, http.get(f"http://{started.address}:9000/") as response:
        assert await response.text() == "hello from ctr_1, port 9000\n"
    assert platform.views.fleet.node(NODE) is not None


SLEEP = b"""#include <unistd.h>
int main(void) { for (;;) pause(); }
"""


@pytest.fixture
async def deaf(dockerd: PrivateDocker, tmp_path: Path) -> str:
    """A program that runs and listens to nobody, not even to SIGTERM."""
    return await image_of(SLEEP, "deaf", dockerd, tmp_path)


async def image_of(source: bytes, name: str, dockerd: PrivateDocker, folder: Path) -> str:
    (folder / "main.c").write_bytes(source)
    subprocess.run(["gcc", "-O0", "-static", "-o", folder / "main", folder / "main.c"], check=True)
    dockerfile = b'FROM scratch\nCOPY main /\nENTRYPOINT ["/main"]\n'
    await build(dockerd, tar_of(Dockerfile=dockerfile, main=(folder / "main").read_bytes()), f"{name}:1")
    return f"{name}:1"


async def test_what_does_not_answer_runs_and_is_not_ready(
    platform: Platform, engine: Engine, deaf: str, app_image: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", deaf)
        await platform.until(lambda: platform.container("ctr_1").status == "running")
        await platform.create("ctr_2", app_image)
        await platform.until(lambda: platform.container("ctr_2").ready)
        assert not platform.container("ctr_1").ready
        await platform.commands.send(StopContainer(container_id="ctr_1", at_ms=2), TENANT)
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
    assert platform.told("ctr_1", ContainerReady) == []


async def test_a_container_stopped_as_asked_ends_once_and_is_removed(
    platform: Platform, engine: Engine, app_image: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image)
        await platform.until(lambda: platform.container("ctr_1").ready)
        await platform.commands.send(StopContainer(container_id="ctr_1", at_ms=2), TENANT)
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
        await eventually(lambda: _is_empty(engine))
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.run, stopped.ending, stopped.exit_code) == (1, "stopped", 0)


async def _is_empty(engine: Engine) -> bool:
    return await engine.containers() == []


async def test_a_container_killed_behind_our_back_ends_once_and_may_run_again(
    platform: Platform, engine: Engine, dockerd: PrivateDocker, app_image: str
) -> None:
    """B-19: a crash is an event, so its bill ends."""
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image)
        await platform.until(lambda: platform.container("ctr_1").ready)
        await meddle(dockerd, "POST", "ctr_1-1/kill")
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
        (stopped,) = platform.told("ctr_1", ContainerStopped)
        assert (stopped.ending, stopped.exit_code) == ("exited", 137)
        await platform.commands.send(RestartContainer(container_id="ctr_1", run=1, at_ms=3), TENANT)
        await platform.place("ctr_1", 2)
        await platform.until(
            lambda: platform.container("ctr_1").run == 2 and platform.container("ctr_1").ready
        )
        await eventually(lambda: _is_alone(engine, 2))
    assert len(platform.told("ctr_1", ContainerStopped)) == 1


async def _is_alone(engine: Engine, run: int) -> bool:
    return [found.run for found in await engine.containers()] == [run]


async def test_a_container_removed_behind_our_back_ends_once(
    platform: Platform, engine: Engine, dockerd: PrivateDocker, app_image: str
) -> None:
    """B-19: so is a removal nobody asked us for."""
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image)
        await platform.until(lambda: platform.container("ctr_1").ready)
        await meddle(dockerd, "DELETE", "ctr_1-1?force=1")
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert stopped.ending in ("lost", "exited")


async def test_a_deleted_container_leaves_nothing(platform: Platform, engine: Engine, app_image: str) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image)
        await platform.until(lambda: platform.container("ctr_1").ready)
        await platform.commands.send(DeleteContainer(container_id="ctr_1", at_ms=2), TENANT)
        await platform.until(lambda: platform.views.containers.container("ctr_1") is None)
        await eventually(lambda: _is_empty(engine))
    assert len(platform.told("ctr_1", ContainerStopped)) == 1


async def test_the_next_agent_adopts_what_the_last_one_started(
    platform: Platform, engine: Engine, app_image: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image)
        await platform.until(lambda: platform.container("ctr_1").ready)
    (before,) = await engine.containers()
    end = await platform.history.end()
    async with agent(platform, engine, await platform.new_views()):
        await platform.create("ctr_2", app_image)
        await platform.until(lambda: platform.container("ctr_2").ready)
    assert before in await engine.containers()
    later = [recorded.stream.key for recorded in platform.history.recorded[end:]]
    assert "ctr_1" not in later


async def test_what_ended_while_no_agent_was_there_ended_then(
    platform: Platform, engine: Engine, dockerd: PrivateDocker, app_image: str
) -> None:
    """B-19: even one nobody was there to see."""
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image)
        await platform.until(lambda: platform.container("ctr_1").ready)
    await meddle(dockerd, "POST", "ctr_1-1/kill")
    await eventually(lambda: _has_ended(engine))
    (ended,) = await engine.containers()
    async with agent(platform, engine, await platform.new_views()):
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.at_ms, stopped.ending) == (ended.ended_ms, "exited")


async def _has_ended(engine: Engine) -> bool:
    return [found.state for found in await engine.containers()] == ["ended"]


async def test_what_was_created_but_not_told_is_told_by_the_next_agent(
    platform: Platform, engine: Engine, app_image: str
) -> None:
    wanted = Wanted("ctr_1", 1, TENANT, "img_web", app_image, 8080, 250, 32)
    await engine.start(await engine.create(wanted))
    await platform.create("ctr_1", app_image)
    async with agent(platform, engine):
        await platform.until(lambda: platform.container("ctr_1").ready)
    assert len(await engine.containers()) == 1


async def test_what_the_log_does_not_know_is_removed(
    platform: Platform, engine: Engine, app_image: str
) -> None:
    wanted = Wanted("ctr_9", 1, TENANT, "img_web", app_image, 8080, 250, 32)
    await engine.start(await engine.create(wanted))
    async with agent(platform, engine):
        await eventually(lambda: _is_empty(engine))


async def test_an_image_that_is_not_here_makes_a_run_unstartable(platform: Platform, engine: Engine) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", "nothing:1")
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.ending, stopped.exit_code) == ("unstartable", -1)
    assert stopped.detail == "image nothing:1: this node has no such image"


async def test_an_image_without_a_program_makes_a_run_unstartable(
    platform: Platform, engine: Engine, dockerd: PrivateDocker
) -> None:
    await build(dockerd, tar_of(Dockerfile=b"FROM scratch\nCOPY Dockerfile /\n"), "empty:1")
    async with agent(platform, engine):
        await platform.create("ctr_1", "empty:1")
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert stopped.ending == "unstartable"
    assert "No command specified" in stopped.detail


HOG = b"""#include <stdlib.h>
#include <string.h>
int main(void) { for (;;) { char *more = malloc(1 << 20); if (more) memset(more, 1, 1 << 20); } }
"""


@pytest.fixture
async def hog(dockerd: PrivateDocker, tmp_path: Path) -> str:
    """A program that takes all the memory it can get."""
    return await image_of(HOG, "hog", dockerd, tmp_path)


async def test_a_container_that_takes_too_much_memory_ends_for_that_reason(
    platform: Platform, engine: Engine, hog: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", hog, memory_mib=16)
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.ending, stopped.exit_code) == ("oom", 137)
    assert stopped.detail == "out of memory: more than 16 MiB"
    assert len(platform.told("ctr_1", ContainerStarted)) == 1


async def test_containers_and_their_agent_survive_a_crash_of_the_engine(
    platform: Platform, dockerd: PrivateDocker, app_archive: bytes, tmp_path: Path
) -> None:
    own = PrivateDocker(tmp_path / "own")  # not the one of the other tests
    await own.start()
    try:
        await build(own, app_archive, "app:1")
        engine = Engine(own.url, NODE, PLATFORM)
        async with agent(platform, engine):
            await platform.create("ctr_1", "app:1")
            await platform.create("ctr_2", "app:1")
            await platform.until(lambda: all(platform.container(c).ready for c in ("ctr_1", "ctr_2")))
            process = own.process
            assert process is not None
            process.kill()
            await process.wait()
            await platform.create("ctr_3", "app:1")
            await own.start()
            await platform.until(lambda: platform.container("ctr_3").ready)
            await meddle(own, "POST", "ctr_2-1/kill")
            await platform.until(lambda: platform.container("ctr_2").status == "stopped")
        assert platform.told("ctr_1", ContainerStopped) == []
        assert len(platform.told("ctr_1", ContainerStarted)) == 1
        await engine.close()
    finally:
        await own.stop(grace_s=0)
        shutil.rmtree(tmp_path / "own")


async def test_while_no_engine_answers_nothing_is_told(platform: Platform, absent: str) -> None:
    engine = Engine(absent, NODE, PLATFORM)
    async with agent(platform, engine):
        await platform.create("ctr_1", "app:1")
        await asyncio.sleep(0.3)
    assert platform.container("ctr_1").status != "stopped"
    await engine.close()


async def test_the_lines_of_a_container_can_be_asked_for(bus: Bus, engine: Engine, web: Wanted) -> None:
    await engine.start(await engine.create(web))
    await answer_logs(bus, NODE, engine)
    await eventually(lambda: _says_something(engine, web))
    _, reply = await bus.request(f"agent.{NODE}.logs", b'{"container_id":"ctr_1","run":1,"tail":10}')
    assert b"listening on port 8080" in reply
    _, reply = await bus.request(f"agent.{NODE}.logs", b'{"container_id":"ctr_1","run":2}')
    assert reply == b'{"lines":[]}'
    _, reply = await bus.request(f"agent.{NODE}.logs", b'{"run":"one"}')
    assert b"error" in reply


async def _says_something(engine: Engine, web: Wanted) -> bool:
    return await engine.logs(web.name, 1) != []
