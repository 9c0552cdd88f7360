"""Two agents, each a machine to the platform: work moves when one is drained, or falls silent."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from core.services.running import Running
from gateway.cli.demo.play import built
from gateway.cli.demo.stage import Failed, Stage
from tests.journeys.test_main_job import engine_containers, running, with_docker

__all__ = ["running", "with_docker"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

SECOND = "node-second"
PATIENCE_S = 60
"""A node is given up after twenty seconds."""


def second_agent(stage: Stage, running: Running) -> subprocess.Popen[bytes]:
    """On the same engine; each touches only what bears its own label."""
    settings = {
        "STRATUS_NATS_URL": running.nats_url,
        "STRATUS_DOCKER_URL": running.docker_url,
        "STRATUS_DATA_DIR": str(stage.folder),
        "STRATUS_NODE_ID": SECOND,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "handlers.agents.node"],
        env=os.environ | settings,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def second(stage: Stage, with_docker: Running) -> Iterator[subprocess.Popen[bytes]]:
    process = second_agent(stage, with_docker)
    yield process
    process.kill()
    process.wait()


async def test_work_leaves_a_machine_that_is_drained_or_silent_and_may_return(
    stage: Stage, with_docker: Running, second: subprocess.Popen[bytes]
) -> None:
    image = await built(stage)
    await nodes(stage, lambda found: SECOND in found)
    (first,) = set(await nodes(stage, lambda found: len(found) == 2)) - {SECOND}
    share = {"cpu_milli": 300, "memory_mib": 16}
    given = {"name": "job", "image_id": image["image_id"], "share": share}
    await stage.ask("POST", f"/api/v1/nodes/{first}/cordon")
    await nodes(stage, lambda found: found[first]["cordoned"])
    job = await stage.ask("POST", "/api/v1/deployments", json=given)
    await reached(stage, job, node_id=SECOND, ready=True, run=1)
    await stage.ask("POST", f"/api/v1/nodes/{first}/uncordon")
    await stage.ask("POST", f"/api/v1/nodes/{SECOND}/drain")
    await reached(stage, job, node_id=first, ready=True, run=2)
    await stage.ask("POST", f"/api/v1/nodes/{SECOND}/uncordon")
    await stage.ask("POST", f"/api/v1/nodes/{first}/drain")
    await reached(stage, job, node_id=SECOND, ready=True, run=3)
    await stage.ask("POST", f"/api/v1/nodes/{first}/uncordon")
    second.kill()
    second.wait()
    await reached(stage, job, node_id=first, ready=True, run=4)
    (why,) = await stage.ask("GET", f"/api/v1/deployments/{job['deployment_id']}/why")
    assert (why["evicted"]["cause"], why["evicted"]["node_id"]) == ("lost", SECOND)
    again = second_agent(stage, with_docker)
    try:
        await nodes(stage, lambda found: not found[SECOND]["lost"])
        async with asyncio.timeout(PATIENCE_S):  # what the lost machine still ran is nobody's any more
            while [one["Labels"]["stratus.node"] for one in await engine_containers(with_docker)] != [first]:
                await asyncio.sleep(0.2)
    finally:
        again.kill()
        again.wait()


async def nodes(stage: Stage, true: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                listed = (await stage.ask("GET", "/api/v1/nodes"))["items"]
                found = {one["node_id"]: one for one in listed}
                if true(found):
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Failed(f"the nodes did not get there: {found}") from None


async def reached(stage: Stage, deployment: Any, **wanted: Any) -> None:
    item: Any = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await stage.ask("GET", f"/api/v1/deployments/{deployment['deployment_id']}")
                (item,) = found["items"]
                if all(item[name] == value for name, value in wanted.items()):
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Failed(f"the deployment did not get there: {item}") from None
