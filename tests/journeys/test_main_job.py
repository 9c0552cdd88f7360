"""An image becomes containers behind a hostname, as a person would do it, on real Docker."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import aiohttp
import pytest

from core.services.running import Running
from gateway.cli.demo.play import HOSTNAME, built, hurt, listed, requests, settled, until
from gateway.cli.demo.stage import Failed, Stage, stratus

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def running(stage: Stage) -> Running:
    running = Running.read(stage.folder)
    assert running is not None
    return running


@pytest.fixture
def with_docker(running: Running) -> Running:
    if not running.docker_url:
        pytest.skip(f"no containers can run here: {running.docker_reason}")
    return running


async def test_an_image_becomes_containers_that_share_the_traffic_and_heal(
    stage: Stage, with_docker: Running
) -> None:
    image = await built(stage)
    path = f"/api/v1/images/{image['image_id']}/containers"
    await stage.ask("POST", path, json={"count": 3})
    containers = await settled(stage, 3)
    assert sum((await requests(stage)).values()) == 300
    answers, _ = await hurt(stage, with_docker, containers[0])
    assert answers > 0
    engine = await inspected(with_docker, containers[1]["runtime_id"])
    limits = engine["HostConfig"]
    assert (limits["NanoCpus"], limits["Memory"], limits["MemorySwap"]) == (
        500_000_000,
        512 << 20,
        512 << 20,
    )
    labels = engine["Config"]["Labels"]
    assert labels["managed-by"] == "nvidia-orchestrator"
    assert {"orchestrator-instance", "created-at", "stratus.image"} <= set(labels)


async def test_more_than_max_instances_are_refused_and_what_does_not_fit_waits(
    stage: Stage, with_docker: Running
) -> None:
    (image,) = (await stage.ask("GET", "/api/v1/images"))["items"]
    (node,) = (await stage.ask("GET", "/api/v1/nodes"))["items"]
    places = node["cpu_milli"] // image["resources"]["cpu_milli"]
    path = f"/api/v1/images/{image['image_id']}/containers"
    await stage.ask("POST", path, json={"count": 9})
    await settled(stage, min(places, 5))
    queue = await stage.ask("GET", "/api/v1/clusters/default/queue")
    assert len(queue["items"]) == max(0, 5 - places)
    assert all("for want of: 1 CPU" in waiting["reason"] for waiting in queue["items"])
    with pytest.raises(Failed, match=r"409.*max_instances"):
        await stage.ask("POST", path, json={"count": 1})


async def test_a_stopped_instance_starts_again_and_is_routed_again(
    stage: Stage, with_docker: Running
) -> None:
    """B-23: a restart, with its new address, must not be lost to the routing table."""
    for one in await listed(stage):
        await stage.ask("POST", f"/api/v1/containers/{one['container_id']}/stop")
    await until(stage, lambda found: {one["status"] for one in found} == {"stopped"})
    assert (await stage.visit(HOSTNAME))[0] == 503
    (one, *_) = await listed(stage)
    await stage.ask("POST", f"/api/v1/containers/{one['container_id']}/start")
    await settled(stage, 1)
    assert (await stage.visit(HOSTNAME))[0] == 200


async def test_a_second_period_is_billed_as_well(stage: Stage, with_docker: Running) -> None:
    """B-16: every run is an interval of its own."""
    (image,) = (await stage.ask("GET", "/api/v1/images"))["items"]
    bill = await stage.ask("GET", f"/api/billing/images/{image['ordinal']}")
    (restarted,) = [one for one in await listed(stage) if one["status"] == "running"]
    intervals = [i for i in bill["containers"] if i["container_id"] == restarted["container_id"]]
    assert len(intervals) == restarted["run"]
    assert sorted({i["status"] for i in intervals}) == ["Active", "Completed"]
    assert bill["summary"]["active_containers"] == 1


async def test_deleting_the_image_leaves_no_container_behind(stage: Stage, with_docker: Running) -> None:
    """B-32: neither here nor in the engine."""
    (image,) = (await stage.ask("GET", "/api/v1/images"))["items"]
    for one in await listed(stage):
        if one["status"] == "running":
            await stage.ask("POST", f"/api/v1/containers/{one['container_id']}/stop")
    await stage.ask("DELETE", f"/api/v1/images/{image['image_id']}")
    await until(stage, lambda found: found == [])
    async with asyncio.timeout(20):
        while await engine_containers(with_docker):
            await asyncio.sleep(0.2)
    with pytest.raises(Failed, match="404"):
        await stage.ask("GET", f"/apps/{HOSTNAME}/")


async def test_an_outside_client_needs_none_of_our_code(stage: Stage, running: Running) -> None:
    async def example(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "gateway.examples.nats_client",
            *arguments,
            env=os.environ | {"STRATUS_NATS_URL": running.nats_url},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    name = ("_", "names", "organization:outside", "ReserveName")
    fields = '{"name_id": "organization:outside", "holder": "me"}'
    code, said = await example(*name, fields)
    assert code == 0, said
    assert "NameReserved" in said
    code, said = await example(*name, fields.replace('"me"', '"you"'))
    assert code == 1
    assert "NameIsTaken" in said


async def test_the_log_can_be_read_and_replayed_from_the_command_line(stage: Stage, running: Running) -> None:
    code, said = await cli(stage, "events", "--json")
    assert code == 0, said
    assert "UserRegistered" in said
    assert "example@gmail.com" not in said
    code, said = await cli(stage, "audit", "replay", "--quiet")
    assert code == 0, said


async def cli(stage: Stage, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *stratus(*arguments, "--data", str(stage.folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def inspected(running: Running, runtime_id: str) -> Any:
    return await engine(running, f"containers/{runtime_id}/json")


async def engine_containers(running: Running) -> Any:
    return await engine(running, "containers/json?all=1")


async def engine(running: Running, path: str) -> Any:
    connector = aiohttp.UnixConnector(running.docker_url.removeprefix("unix://"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://docker/{path}") as answer,
    ):
        return await answer.json()
