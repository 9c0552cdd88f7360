"""What the demo shows, step by step. Each step checks what it claims, or the play is over."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from rich.console import Console
from rich.table import Table

from core.services.running import Running
from gateway.cli.demo.stage import Failed, Stage, packed_app, stratus

HOSTNAME = "hello.demo"
INSTANCES = 3
REQUESTS = 300
DEPLOYMENTS = "/api/v1/deployments"
BILLABLE_S = 31
"""The price list counts a container's first minute from its 31st second on."""

console = Console(highlight=False)


async def play(stage: Stage) -> None:
    async with step("Start the platform: log, database, engine, five processes"):
        running = await stage.start()
    if not running.docker_url:
        raise Failed(f"no containers can run here: {running.docker_reason}")
    console.print(f"    {stage.url}, containers on {running.docker_url}")
    async with step("Sign in as the development user"):
        await stage.sign_in("example@gmail.com", "example123")
    async with step(f"Build an image from gateway/cli/demo/app and give it the hostname {HOSTNAME}"):
        image = await built(stage)
    console.print(f"    {image['ref']}")
    async with step(f"Start {INSTANCES} instances"):
        path = f"/api/v1/images/{image['image_id']}/containers"
        await stage.ask("POST", path, json={"count": INSTANCES})
        containers = await settled(stage, INSTANCES)
    for one in containers:
        console.print(f"    {one['name']} on {one['node_id']} at {one['address']}:{one['port']}")
    async with step(f"Send {REQUESTS} requests through the proxy"):
        spread = await requests(stage)
    for who, share in sorted(spread.items()):
        console.print(f"    {who}  {share:>4}  {'█' * (share // 5)}")
    async with step("Kill one container behind the platform's back, under traffic"):
        answers, healed_s = await hurt(stage, running, containers[0])
    console.print(f"    {answers} requests meanwhile, none failed; replaced after {healed_s:.1f} s")
    async with step(f"Keep up traffic until the containers have run for {BILLABLE_S} s"):
        await until_billable(stage, containers[1:])
    async with step("Submit urgent work to the full machine"):
        low, high = await preempted(stage, image)
    console.print(f"    {high} runs; {low} had to go for it", highlight=False)
    async with step("Ask why, complete the urgent work, and see the other return"):
        said = await returned(stage, low, high)
    console.print(f"    {said}", markup=False)
    async with step("Stop all instances"):
        for one in await listed(stage):
            await stage.ask("POST", f"/api/v1/containers/{one['container_id']}/stop")
        await until(stage, lambda found: all(one["status"] == "stopped" for one in found))
    async with step("Bill"):
        bill = await stage.ask("GET", f"/api/billing/images/{image['ordinal']}")
    show(bill)
    async with step("Replay the whole log from nothing and compare"):
        said = await replayed(stage)
    console.print("\n".join(f"    {line}" for line in said.splitlines()), markup=False)


@asynccontextmanager
async def step(title: str) -> AsyncIterator[None]:
    began = time.monotonic()
    with console.status(title):
        yield
    console.print(f"[green]✓[/green] {title} [dim]({time.monotonic() - began:.1f} s)[/dim]")


async def built(stage: Stage) -> Any:
    form = aiohttp.FormData()
    for name, value in {"name": "hello", "tag": "1", "hostname": HOSTNAME, "max_instances": "5"}.items():
        form.add_field(name, value)
    form.add_field("file", await packed_app(), filename="hello.tar.gz")
    image = await stage.ask("POST", "/api/v1/images", data=form)
    async with asyncio.timeout(60):
        while image["status"] not in ("ready", "build_failed"):
            await asyncio.sleep(0.1)
            image = await stage.ask("GET", f"/api/v1/images/{image['image_id']}")
    if image["status"] == "build_failed":
        raise Failed(f"the build failed: {image['reason']}")
    return image


async def listed(stage: Stage) -> list[Any]:
    found: list[Any] = (await stage.ask("GET", "/api/v1/containers"))["items"]
    return found


async def until(stage: Stage, true: Any) -> list[Any]:
    try:
        async with asyncio.timeout(30):
            while not true(found := await listed(stage)):
                await asyncio.sleep(0.1)
            return found
    except TimeoutError:
        raise Failed(f"the containers did not get there: {await listed(stage)}") from None


async def settled(stage: Stage, count: int) -> list[Any]:
    return await until(stage, lambda found: sum(one["ready"] for one in found) == count)


async def requests(stage: Stage) -> Counter[str]:
    spread: Counter[str] = Counter()
    for _ in range(REQUESTS // 10):
        for status, text in await asyncio.gather(*(stage.visit(HOSTNAME) for _ in range(10))):
            if status != 200:
                raise Failed(f"the proxy answered {status}: {text}")
            spread[text.split(",")[0].removeprefix("hello from ")] += 1
    if len(spread) != INSTANCES or max(spread.values()) - min(spread.values()) > 1:
        raise Failed(f"the spread is uneven: {dict(spread)}")
    return spread


async def hurt(stage: Stage, running: Running, victim: Any) -> tuple[int, float]:
    """Requests answered while it happened, and seconds until all instances were ready again."""
    answers: list[int] = []
    over = False

    async def traffic() -> None:
        while not over:
            status, text = await stage.visit(HOSTNAME)
            answers.append(status)
            if status != 200:
                raise Failed(f"a request failed with {status}: {text}")
            await asyncio.sleep(0.01)

    clients = [asyncio.create_task(traffic()) for _ in range(4)]
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await stage.kill_behind_its_back(running.docker_url, victim["runtime_id"])

    def replaced(found: list[Any]) -> bool:
        one = next(one for one in found if one["container_id"] == victim["container_id"])
        return bool(one["run"] > victim["run"] and one["ready"])

    await until(stage, replaced)
    healed_s = time.monotonic() - began
    over = True
    await asyncio.gather(*clients)
    return len(answers), healed_s


async def preempted(stage: Stage, image: Any) -> tuple[str, str]:
    """The containers of who had to go, and of who came."""
    (node,) = (await stage.ask("GET", "/api/v1/nodes"))["items"]
    held = INSTANCES * image["resources"]["cpu_milli"]
    share = {"cpu_milli": node["cpu_milli"] - held, "memory_mib": 64}
    given = {"image_id": image["image_id"], "share": share}
    low = await stage.ask("POST", DEPLOYMENTS, json={"name": "nightly", "priority": 100, **given})
    await reached(stage, low, lambda one: bool(one["ready"]))
    high = await stage.ask("POST", DEPLOYMENTS, json={"name": "urgent", "priority": 900, **given})
    await reached(stage, high, lambda one: bool(one["ready"]))
    return low["items"][0]["container_id"], high["items"][0]["container_id"]


async def returned(stage: Stage, low: str, high: str) -> str:
    """Why the one waited, in the platform's words."""
    deployment_id = low.rpartition("-")[0]
    (why,) = await stage.ask("GET", f"{DEPLOYMENTS}/{deployment_id}/why")
    if why["evicted"]["by"] != f"{high}/1":
        raise Failed(f"it was not evicted by {high}: {why}")
    await stage.ask("POST", f"{DEPLOYMENTS}/{high.rpartition('-')[0]}/complete")
    again = {"deployment_id": deployment_id}
    await reached(stage, again, lambda one: bool(one["ready"]) and one["run"] == 2)
    await stage.ask("DELETE", f"{DEPLOYMENTS}/{deployment_id}")
    await until(stage, lambda found: len(found) == INSTANCES)
    return str(why["summary"])


async def reached(stage: Stage, deployment: Any, true: Any) -> None:
    found = None
    try:
        async with asyncio.timeout(30):
            while True:
                found = await stage.ask("GET", f"{DEPLOYMENTS}/{deployment['deployment_id']}")
                if all(true(item) for item in found["items"]):
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Failed(f"the deployment did not get there: {found}") from None


async def until_billable(stage: Stage, containers: list[Any]) -> None:
    since_ms = max(one["started_ms"] for one in containers)
    while time.time() * 1000 < since_ms + BILLABLE_S * 1000 + 500:
        status, text = await stage.visit(HOSTNAME)
        if status != 200:
            raise Failed(f"a request failed with {status}: {text}")
        await asyncio.sleep(0.05)


def show(bill: Any) -> None:
    table = Table(box=None, padding=(0, 2, 0, 4))
    for name in ("container", "from", "to", "minutes", "cost"):
        table.add_column(name, justify="right" if name in ("minutes", "cost") else "left")
    for interval in bill["containers"]:
        times = (interval["start_time"], interval["end_time"])
        cost = f"${interval['cost']:.2f}"
        table.add_row(
            interval["container_id"][:12],
            *(str(at).partition("T")[2][:12] for at in times),
            str(interval["duration_minutes"]),
            cost,
        )
    table.add_row("", "", "", "total", f"${bill['summary']['total_cost']:.2f}")
    console.print(table)
    if any(interval["status"] != "Completed" for interval in bill["containers"]):
        raise Failed("something is still being billed")
    cents = sum(round(interval["cost"] * 100) for interval in bill["containers"])
    if cents != round(bill["summary"]["total_cost"] * 100) or cents < 2:
        raise Failed("the bill does not add up")


async def replayed(stage: Stage) -> str:
    process = await asyncio.create_subprocess_exec(
        *stratus("audit", "replay", "--data", str(stage.folder)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise Failed(f"the replay differs:\n{said.decode()}")
    return said.decode().strip()
