"""The agent against a real engine: whatever happens to them, the log tells it once."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from core.bus import Bus
from core.messages.catalog import RegisterImage, SavedImage
from core.messages.containers import (
    ContainerReady,
    ContainerStarted,
    ContainerStopped,
    DeleteContainer,
    RestartContainer,
    StopContainer,
)
from core.messages.deployments import EndDeployment, Share, SubmitDeployment
from core.messages.fleet import LoseNode
from core.messages.scheduling import VIRTUAL, CarryNode, ClearNode, CreateCluster, OfferNode, Totals
from core.services.docker import PrivateDocker
from handlers.agents.builds import Builder
from handlers.agents.engine import Engine, Wanted
from handlers.agents.logs import answer_logs
from handlers.agents.node import Agent
from projections.fleet import Node
from projections.views import Views
from tests.agents.conftest import NODE, PLATFORM
from tests.agents.platform import TENANT, Platform, eventually, now_ms
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
        Agent(NODE, "default", engine, platform.commands, views, builder, grace_s=2, eviction_grace_s=4).run()
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


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("../containers/ctr_1-1", "no image can have such a name"),
        ("web:1?\n#%00 |", "no image can have such a name"),
        ("W" * 512, "no image can have such a name"),
        ("stratus/org_8/img_1:5eed5eed", "this node has no such image"),
        ("docker.io/stratus/org_8/img_1:5eed5eed", "this node has no such image"),
    ],
)
async def test_a_reference_that_leads_elsewhere_makes_a_run_unstartable(
    platform: Platform, engine: Engine, dockerd: PrivateDocker, app_archive: bytes, ref: str, reason: str
) -> None:
    """B-09 and B-31: a reference comes from people, and one tenant can guess another's."""
    theirs = engine.ref("org_8", "img_1")
    await build(dockerd, app_archive, theirs)
    source = SavedImage(object="img_1", sha256="0" * 64, bytes=1)
    register = RegisterImage(image_id="img_1", name="web", tag="1", source=source, owner="usr_8", at_ms=1)
    await platform.commands.send(register, "org_8")
    async with agent(platform, engine):
        await platform.create("ctr_1", ref)
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
        await platform.create("ctr_2", theirs, tenant="org_8")
        await platform.until(lambda: platform.container("ctr_2").ready)
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.ending, stopped.exit_code) == ("unstartable", -1)
    assert stopped.detail == f"image {ref}: {reason}"


SLOW = b"""#include <signal.h>
#include <unistd.h>
static void leave(int signal) { sleep(1); _exit(7); }
int main(void) { signal(SIGTERM, leave); for (;;) pause(); }
"""


@pytest.fixture
async def slow(dockerd: PrivateDocker, tmp_path: Path) -> str:
    """A program that takes a second to tidy up when it is told to end, and then ends with code 7."""
    return await image_of(SLOW, "slow", dockerd, tmp_path)


async def test_who_is_evicted_may_tidy_up_and_runs_again_when_it_is_placed_again(
    platform: Platform, engine: Engine, slow: str, app_image: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", slow, cpu_milli=2500)
        await platform.create("ctr_2", app_image)
        await platform.until(lambda: platform.container("ctr_1").status == "running")
        await platform.until(lambda: platform.container("ctr_2").ready)
        evicted_ms = now_ms()
        await platform.create("ctr_3", app_image, cpu_milli=2500, priority=900)
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
        await platform.until(lambda: platform.container("ctr_3").ready)
        await platform.commands.send(RestartContainer(container_id="ctr_1", run=1, at_ms=2), TENANT)
        await platform.until(lambda: platform.container("ctr_1").run == 2)
        assert platform.container("ctr_1").status == "pending"
        await platform.commands.send(StopContainer(container_id="ctr_3", at_ms=2), TENANT)
        await platform.until(lambda: platform.container("ctr_3").status == "stopped")
        await platform.release("ctr_3", 1)
        await platform.until(lambda: platform.container("ctr_1").status == "running")
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.run, stopped.ending, stopped.exit_code) == (1, "evicted", 7)
    assert stopped.detail == "evicted: its place was needed by more urgent work"
    assert stopped.at_ms - evicted_ms >= 1000
    (urgent,) = platform.told("ctr_3", ContainerStarted)
    assert urgent.at_ms >= stopped.at_ms, "both ran at once, more than the node has"
    assert [started.run for started in platform.told("ctr_1", ContainerStarted)] == [1, 2]
    assert platform.told("ctr_2", ContainerStopped) == []


async def test_who_was_evicted_before_it_came_to_life_makes_room_at_once(
    platform: Platform, engine: Engine, app_image: str
) -> None:
    await platform.create("ctr_1", app_image, cpu_milli=2500)
    await platform.create("ctr_2", app_image, cpu_milli=1500)
    await engine.create(Wanted("ctr_2", 1, TENANT, "img_web", app_image, 8080, 250, 32))
    await platform.create("ctr_3", app_image, cpu_milli=4000, priority=900)
    async with agent(platform, engine):
        await platform.until(lambda: platform.container("ctr_3").ready)
    for victim in ("ctr_1", "ctr_2"):
        (stopped,) = platform.told(victim, ContainerStopped)
        assert (stopped.run, stopped.ending, stopped.exit_code) == (1, "evicted", -1)
        assert platform.told(victim, ContainerStarted) == []
        assert platform.container(victim).wanted


async def test_who_ended_by_itself_before_it_was_evicted_did_so(
    platform: Platform, engine: Engine, dockerd: PrivateDocker, app_image: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image, cpu_milli=2500)
        await platform.until(lambda: platform.container("ctr_1").ready)
    await meddle(dockerd, "POST", "ctr_1-1/kill")
    await eventually(lambda: _has_ended(engine))
    await platform.create("ctr_2", app_image, cpu_milli=2500, priority=900)
    async with agent(platform, engine, await platform.new_views()):
        await platform.until(lambda: platform.container("ctr_2").ready)
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.ending, stopped.exit_code) == ("exited", 137)


async def test_who_was_evicted_and_ended_while_no_agent_was_there_was_evicted(
    platform: Platform, engine: Engine, dockerd: PrivateDocker, app_image: str
) -> None:
    """As when the agent ends in the middle of it."""
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image, cpu_milli=2500)
        await platform.until(lambda: platform.container("ctr_1").ready)
    await platform.create("ctr_2", app_image, cpu_milli=2500, priority=900)
    await meddle(dockerd, "POST", "ctr_1-1/stop")
    async with agent(platform, engine, await platform.new_views()):
        await platform.until(lambda: platform.container("ctr_2").ready)
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.ending, stopped.exit_code) == ("evicted", 0)


async def test_who_is_stopped_while_it_is_evicted_was_stopped(
    platform: Platform, engine: Engine, slow: str, app_image: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", slow, cpu_milli=2500)
        await platform.until(lambda: platform.container("ctr_1").status == "running")
        await platform.create("ctr_2", app_image, cpu_milli=2500, priority=900)
        await asyncio.sleep(0.3)
        await platform.commands.send(StopContainer(container_id="ctr_1", at_ms=2), TENANT)
        await platform.until(lambda: platform.container("ctr_2").ready)
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.ending, stopped.exit_code) == ("stopped", 7)


async def test_a_node_that_was_drained_stops_what_it_ran(
    platform: Platform, engine: Engine, app_image: str
) -> None:
    async with agent(platform, engine):
        await platform.create("ctr_1", app_image)
        await platform.until(lambda: platform.container("ctr_1").ready)
        clear = ClearNode(cluster_id="default", node_id=NODE, cause="drained", at_ms=now_ms())
        await platform.commands.send(clear, "_")
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
        await eventually(lambda: _is_empty(engine))
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert (stopped.ending, stopped.detail) == ("evicted", "evicted: its node was drained")


async def test_a_node_that_was_given_up_returns(platform: Platform, absent: str, engine: Engine) -> None:
    async with agent(platform, engine):
        await platform.until(lambda: platform.views.fleet.node(NODE))
        await platform.commands.send(LoseNode(node_id=NODE, at_ms=2), "_")
        await platform.until(lambda: not _node(platform).lost)
    position = _node(platform).since
    assert position == await platform.history.end()


def _node(platform: Platform) -> Node:
    node = platform.views.fleet.node(NODE)
    assert node is not None
    return node


async def test_what_runs_for_totals_runs_here_without_their_gpus(
    platform: Platform, engine: Engine, app_image: str
) -> None:
    totals = Totals(cpu_milli=2_000_000, memory_mib=1 << 20, gpus=64)
    create = CreateCluster(cluster_id="lab", name="lab", at_ms=1, totals=totals)
    await platform.commands.send(create, "_")
    carry = CarryNode(cluster_id="lab", node_id=VIRTUAL, carrier=NODE, at_ms=1)
    await platform.commands.send(carry, "_")
    share = Share(cpu_milli=1_000_000, memory_mib=64, gpus=16)
    submit = SubmitDeployment(
        cluster_id="lab", deployment_id="dep", tenant=TENANT, name="d", ref=app_image, owner="u", at_ms=1
    )
    await platform.commands.send(replace(submit, share=share), "_")
    async with agent(platform, engine):
        await platform.create("dep-1", app_image, cpu_milli=1_000_000, deployment_id="dep", gpus=16)
        await platform.until(lambda: platform.container("dep-1").ready)
        end = EndDeployment(cluster_id="lab", deployment_id="dep", outcome="completed", at_ms=2)
        await platform.commands.send(end, "_")
        await platform.commands.send(DeleteContainer(container_id="dep-1", at_ms=2), TENANT)
        await platform.until(lambda: platform.views.containers.container("dep-1") is None)
    (stopped,) = platform.told("dep-1", ContainerStopped)
    assert (stopped.ending, stopped.exit_code) == ("stopped", 0)


async def test_a_run_gets_the_gpus_of_its_place_by_the_numbers_of_the_driver(
    platform: Platform,
    engine: Engine,
    dockerd: PrivateDocker,
    app_image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf 'Quadro\\nTesla T4\\nTesla T4\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    async with agent(platform, engine):
        await platform.until(lambda: platform.views.fleet.node(NODE))
        node = _node(platform)
        assert (node.gpus, node.gpu_model) == (2, "Tesla T4")
        offer = OfferNode(
            cluster_id="default", node_id=NODE, cpu_milli=4000, memory_mib=4000, gpus=2, gpu_model="Tesla T4"
        )
        await platform.commands.send(offer, "_")
        await platform.create("ctr_1", app_image, gpus=2)
        await eventually(lambda: _asks_for_gpus(dockerd, ["1", "2"]))
        await platform.until(lambda: platform.container("ctr_1").status == "stopped")
    (stopped,) = platform.told("ctr_1", ContainerStopped)
    assert stopped.ending == "unstartable"
    assert "could not select device driver" in stopped.detail


async def _asks_for_gpus(dockerd: PrivateDocker, numbers: list[str]) -> bool:
    async with docker(dockerd) as http, http.get("http://docker/containers/ctr_1-1/json") as response:
        found = await response.json()
    requests = found["HostConfig"]["DeviceRequests"] if response.status == 200 else []
    return [request["DeviceIDs"] for request in requests] == [numbers]


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
