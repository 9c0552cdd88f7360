"""Priorities on a real platform with real Docker: who makes room, who comes back, and what that costs."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from core.services.running import Running
from gateway.cli.demo.play import built, replayed
from gateway.cli.demo.stage import Failed, Stage
from tests.journeys.test_main_job import engine_containers, running, with_docker

__all__ = ["running", "with_docker"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def submit(stage: Stage, name: str, cpu_milli: int, **more: Any) -> Any:
    (image,) = (await stage.ask("GET", "/api/v1/images"))["items"]
    given = {
        "name": name,
        "image_id": image["image_id"],
        "share": {"cpu_milli": cpu_milli, "memory_mib": 64},
        **more,
    }
    return await stage.ask("POST", "/api/v1/deployments", json=given)


async def reached(stage: Stage, deployment: Any, **wanted: Any) -> Any:
    """The deployment, once all its replicas are as wanted."""
    found = None
    try:
        async with asyncio.timeout(60):
            while True:
                found = await stage.ask("GET", f"/api/v1/deployments/{deployment['deployment_id']}")
                if all(item[name] == value for item in found["items"] for name, value in wanted.items()):
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Failed(f"it did not get there: {found}") from None


async def capacity(stage: Stage) -> int:
    (node,) = (await stage.ask("GET", "/api/v1/nodes"))["items"]
    cpu_milli: int = node["cpu_milli"]
    return cpu_milli


async def test_urgent_work_takes_the_place_and_gives_it_back(stage: Stage, with_docker: Running) -> None:
    await built(stage)
    whole = await capacity(stage)
    low = await submit(stage, "low", whole * 3 // 4, priority=100)
    await reached(stage, low, ready=True)
    high = await submit(stage, "high", whole * 3 // 4, priority=900)
    assert (await reached(stage, low, place="waiting", run=2))["status"] == "pending"
    await reached(stage, high, ready=True)
    (victim,) = await stage.ask("GET", f"/api/v1/deployments/{low['deployment_id']}/why")
    assert victim["evicted"]["by"] == f"{high['deployment_id']}-1/1"
    assert victim["waiting"]["position"] == 1
    (kept,) = await engine_containers(with_docker)
    assert kept["Labels"]["stratus.container"] == f"{high['deployment_id']}-1"
    await stage.ask("POST", f"/api/v1/deployments/{high['deployment_id']}/complete")
    back = await reached(stage, low, ready=True)
    assert [item["run"] for item in back["items"]] == [2]
    assert [item["evictions"] for item in back["items"]] == [1]


async def test_while_a_victim_leaves_nobody_pays_for_it_longer_than_it_runs(
    stage: Stage, with_docker: Running
) -> None:
    """The interval of the evicted run has an end, that of the run which followed has none."""
    (image,) = (await stage.ask("GET", "/api/v1/images"))["items"]
    bill = await stage.ask("GET", f"/api/billing/images/{image['ordinal']}")
    (low,) = [one for one in (await stage.ask("GET", "/api/v1/deployments"))["items"] if one["name"] == "low"]
    states = sorted(
        (one["status"], one["end_time"] is None)
        for one in bill["containers"]
        if one["container_id"] == low["items"][0]["container_id"]
    )
    assert states == [("Active", True), ("Completed", False)]


async def test_a_cluster_of_totals_runs_real_containers_too(stage: Stage, with_docker: Running) -> None:
    """Its numbers may be larger than any machine's."""
    totals = {"cpu_milli": 10**9, "memory_mib": 10**6, "gpus": 8}
    made = await stage.ask("POST", "/api/v1/clusters", json={"name": "lab", "totals": totals})
    share = {"cpu_milli": 10**8, "memory_mib": 64, "gpus": 2}
    job = await submit(stage, "job", 1, cluster_id=made["cluster_id"], share=share, replicas=2)
    running = await reached(stage, job, ready=True)
    assert [item["node_id"] for item in running["items"]] == ["totals", "totals"]
    await stage.ask("DELETE", f"/api/v1/deployments/{job['deployment_id']}")
    async with asyncio.timeout(30):
        while any(
            one["Labels"]["stratus.container"].startswith(job["deployment_id"])
            for one in await engine_containers(with_docker)
        ):
            await asyncio.sleep(0.2)


async def test_what_can_not_start_says_so_and_keeps_its_place(stage: Stage, with_docker: Running) -> None:
    given = {"name": "no such|image", "ref": "no such|image", "share": {"cpu_milli": 10, "memory_mib": 6}}
    made = await stage.ask("POST", "/api/v1/deployments", json=given)
    ended = await reached(stage, made, ending="unstartable")
    assert ended["status"] == "running"
    assert ended["items"][0]["detail"]
    await stage.ask("DELETE", f"/api/v1/deployments/{made['deployment_id']}")


async def test_a_drained_node_is_emptied_and_takes_its_work_back(stage: Stage, with_docker: Running) -> None:
    (node,) = (await stage.ask("GET", "/api/v1/nodes"))["items"]
    (low,) = [one for one in (await stage.ask("GET", "/api/v1/deployments"))["items"] if one["name"] == "low"]
    plan = await stage.ask("POST", f"/api/v1/nodes/{node['node_id']}/drain?plan=true")
    assert [one["container_id"] for one in plan["evictions"]] == [low["items"][0]["container_id"]]
    await stage.ask("POST", f"/api/v1/nodes/{node['node_id']}/drain")
    await reached(stage, low, place="waiting", status="pending")
    async with asyncio.timeout(30):
        while await engine_containers(with_docker):
            await asyncio.sleep(0.2)
    await stage.ask("POST", f"/api/v1/nodes/{node['node_id']}/uncordon")
    await reached(stage, low, ready=True)
    await stage.ask("DELETE", f"/api/v1/deployments/{low['deployment_id']}")


KILLED = ("handlers", "agent", "nats", "handlers")


async def test_whatever_is_killed_meanwhile_what_is_placed_runs_and_what_waits_says_why(
    stage: Stage, with_docker: Running
) -> None:
    """Submitted, scaled and cancelled at random: in the end Docker has what the log has placed, no more."""
    random, live = Random(7), list[str]()
    (image,) = (await stage.ask("GET", "/api/v1/images"))["items"]

    async def anything() -> None:
        given = {
            "name": "any",
            "image_id": image["image_id"],
            "replicas": random.choice([1, 1, 2]),
            "priority": random.choice([1, 500, 900]),
            "share": {"cpu_milli": random.choice([200, 400, 900]), "memory_mib": 16},
        }
        match random.choice(["submit", "submit", "scale", "cancel"]):
            case "scale" if live:
                path = f"/api/v1/deployments/{random.choice(live)}/scale"
                await stage.ask("POST", path, json={"replicas": random.choice([1, 2, 3])})
            case "cancel" if live:
                await stage.ask("DELETE", f"/api/v1/deployments/{live.pop(random.randrange(len(live)))}")
            case _:
                made = await stage.ask("POST", "/api/v1/deployments", json=given)
                live.append(made["deployment_id"])

    for victim in KILLED:
        for _ in range(6):
            with suppress(Failed, TimeoutError):  # what was not acknowledged may have happened or not
                await anything()
        now = Running.read(stage.folder)
        assert now is not None
        with suppress(ProcessLookupError):
            os.kill(now.processes[victim].pid, signal.SIGKILL)
    placed, waiting = await settled(stage)
    assert len(placed) > 1
    there = {
        one["Labels"]["stratus.container"]
        for one in await engine_containers(with_docker)
        if one["State"] == "running"
    }
    assert there == placed
    for deployment in await alive(stage):
        for why in await stage.ask("GET", f"/api/v1/deployments/{deployment['deployment_id']}/why"):
            assert (why["waiting"] is not None) == (why["container_id"] in waiting)
            assert why["waiting"] is None or why["waiting"]["reason"]
    assert "The replay agrees." in await replayed(stage)
    for deployment in await alive(stage):
        await stage.ask("DELETE", f"/api/v1/deployments/{deployment['deployment_id']}")


async def alive(stage: Stage) -> list[Any]:
    found = (await stage.ask("GET", "/api/v1/deployments?limit=1000"))["items"]
    return [one for one in found if one["status"] in ("pending", "partial", "running")]


async def settled(stage: Stage) -> tuple[set[str], set[str]]:
    """The containers that have a place, once all of those are ready, and those that wait for one."""
    async with asyncio.timeout(90):
        while True:
            with suppress(Failed, TimeoutError):
                items = [item for one in await alive(stage) for item in one["items"]]
                placed = {item["container_id"] for item in items if item["place"] == "placed"}
                waiting = {item["container_id"] for item in items if item["place"] == "waiting"}
                found = (await stage.ask("GET", "/api/v1/containers?limit=1000"))["items"]
                ready = {one["container_id"] for one in found if one["ready"]}
                if ready == placed and {one["container_id"] for one in found} == placed | waiting:
                    return placed, waiting
            await asyncio.sleep(0.2)
