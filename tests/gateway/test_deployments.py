"""Deployments over the API: placed, waiting, evicted, ended, planned, and why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.house import Client, House

Headers = dict[str, str]


class Door:
    """One caller at the API; each call says which status it expects."""

    def __init__(self, http: Client, headers: Headers) -> None:
        self._http, self._headers = http, headers

    async def __call__(self, method: str, path: str, status: int = 200, **json: Any) -> Any:
        path = f"/api/v1{path}"
        answer = await self._http.request(method, path, headers=self._headers, json=json or None)
        assert answer.status == status, await answer.text()
        return await answer.json()


@pytest.fixture
def door(http: Client, anna: Headers) -> Door:
    return Door(http, anna)


@pytest.fixture
async def other(http: Client, bert: Headers) -> Door:
    return Door(http, bert)


async def cluster(door: Door, size: int = 10_000, gpus: int = 0) -> str:
    totals = {"cpu_milli": size, "memory_mib": size, "gpus": gpus}
    made = await door("POST", "/clusters", 201, name="lab", totals=totals)
    return str(made["cluster_id"])


async def submit(door: Door, cluster_id: str, size: int, **more: Any) -> dict[str, Any]:
    given = {"name": "job", "cluster_id": cluster_id, "ref": "web:1", "share": share(size), **more}
    made: dict[str, Any] = await door("POST", "/deployments", 201, **given)
    return made


def share(size: int) -> dict[str, int]:
    return {"cpu_milli": size, "memory_mib": size}


async def until(door: Door, id: str, **wanted: Any) -> dict[str, Any]:
    """The deployment, once all of its replicas are as wanted."""
    async with asyncio.timeout(10):
        while True:
            found: dict[str, Any] = await door("GET", f"/deployments/{id}")
            if all(item[name] == value for item in found["items"] for name, value in wanted.items()):
                return found
            await asyncio.sleep(0.01)


async def test_a_deployment_is_placed_becomes_containers_and_is_completed(door: Door, house: House) -> None:
    home = await cluster(door)
    made = await submit(door, home, 2000, replicas=2, priority=700)
    assert (made["status"], made["placed"], made["priority"]) == ("running", 2, 700)
    id = made["deployment_id"]
    running = await until(door, id, status="running", ready=True)
    assert [item["container_id"] for item in running["items"]] == [f"{id}-1", f"{id}-2"]
    assert (await door("GET", "/deployments"))["items"] == [running]
    done = await door("POST", f"/deployments/{id}/complete")
    assert (done["status"], done["placed"]) == ("completed", 0)
    assert (await door("POST", f"/deployments/{id}/complete"))["status"] == "completed"
    await door("DELETE", f"/deployments/{id}", 409)
    async with asyncio.timeout(10):
        while (await door("GET", "/containers"))["items"]:
            await asyncio.sleep(0.01)


async def test_a_deployment_of_an_image_has_its_size_and_answers_for_its_hostname(
    door: Door, house: House
) -> None:
    image = await door(
        *("POST", "/images", 201),
        name="web",
        tag="1",
        source={"type": "Reference", "ref": "web:1"},
        hostname="web.example",
        resources={"cpu_milli": 250, "memory_mib": 64},
    )
    made = await door("POST", "/deployments", 201, name="web", image_id=image["image_id"], replicas=2)
    assert (made["ref"], made["share"]["cpu_milli"], made["share"]["memory_mib"]) == ("web:1", 250, 64)
    await until(door, made["deployment_id"], ready=True)
    assert len(house.views.routing.backends("web.example")) == 2


async def test_more_urgent_work_evicts_and_the_evicted_comes_back(door: Door, house: House) -> None:
    home = await cluster(door)
    low = (await submit(door, home, 6000, priority=1))["deployment_id"]
    await until(door, low, status="running")
    high = (await submit(door, home, 6000, priority=900))["deployment_id"]
    waiting = await door("GET", f"/deployments/{low}")
    assert (waiting["status"], waiting["items"][0]["evictions"]) == ("pending", 1)
    await until(door, low, status="pending", run=2)
    (why,) = await door("GET", f"/deployments/{low}/why")
    assert why["summary"].startswith("waits at 1: no node fits, for want of: 1 memory; before")
    assert (why["evicted"]["by"], why["evicted"]["victims"]) == (f"{high}-1/1", [f"{low}-1/1"])
    assert why["waiting"]["needs"] == {"cpu_milli": 6000, "memory_mib": 6000, "gpus": 0}
    assert why["waiting"]["free"] == {"cpu_milli": 4000, "memory_mib": 4000, "gpus": 0}
    (why,) = await door("GET", f"/deployments/{high}/why")
    assert (why["there"]["evicted"], why["there"]["node_id"]) == ([f"{low}-1/1"], "totals")
    await door("POST", f"/deployments/{high}/complete")
    await until(door, low, status="running", run=2)


async def test_what_helps_helps(door: Door, house: House) -> None:
    """The remedy that is named is tried."""
    home = await cluster(door)
    for priority in (300, 600):
        await submit(door, home, 5000, priority=priority)
    pending = await submit(door, home, 4000, priority=100)
    (why,) = await door("GET", f"/deployments/{pending['deployment_id']}/why")
    first, *_ = why["waiting"]["helps"]
    assert first.startswith("priority 301 instead of 100")
    assert (await submit(door, home, 4000, priority=300))["status"] == "pending"
    assert (await submit(door, home, 4000, priority=301))["status"] == "running"


async def test_a_plan_does_what_it_says_and_nothing_before(door: Door, house: House) -> None:
    home = await cluster(door)
    low = (await submit(door, home, 6000, priority=1))["deployment_id"]
    await until(door, low, status="running")
    end = await house.log.end()
    asked: dict[str, Any] = {"name": "job", "cluster_id": home, "ref": "web:1", "share": share(6000)}
    plan = await door("POST", "/deployments?plan=true", **asked, priority=2)
    assert [one["container_id"] for one in plan["evictions"]] == [f"{low}-1"]
    assert [one["node_id"] for one in plan["placements"]] == ["totals"]
    assert [turn["container_id"] for turn in plan["queue"]] == [f"{low}-1"]
    assert plan["events"] == ["DeploymentSubmitted", "RunEvicted", "RunPlaced"]
    for path, body in (
        (f"/deployments/{low}/scale?plan=true", {"replicas": 3}),
        (f"/deployments/{low}/complete?plan=true", {}),
        (f"/clusters/{home}/repack?plan=true", {"moves_max": 3}),
        ("/nodes/node-1/drain?plan=true", {}),
        ("/nodes/node-1/cordon?plan=true", {}),
        ("/nodes/node-1/uncordon?plan=true", {}),
    ):
        assert "queue" in await door("POST", path, **body), path
    assert "queue" in await door("PUT", f"/clusters/{home}/quotas/org_x?plan=true", cpu_milli=5)
    totals = {"cpu_milli": 1, "memory_mib": 1}
    made = await door("POST", "/clusters?plan=true", name="another", totals=totals)
    assert made["events"] == ["ClusterCreated"]
    await door("POST", "/clusters?plan=true", 409, name="lab", totals=totals)
    assert "queue" in await door("DELETE", f"/clusters/{home}/quotas/org_x?plan=true")
    assert "queue" in await door("DELETE", f"/deployments/{low}?plan=true")
    await door("POST", "/deployments?plan=true", 422, **{**asked, "share": share(10_001)})
    await door("POST", "/deployments?plan=yes", 422, **asked)
    assert await house.log.end() == end
    assert (await submit(door, home, 6000, priority=2))["status"] == "running"
    assert (await door("GET", f"/deployments/{low}"))["status"] == "pending"


async def test_the_queue_says_when_a_turn_will_come(door: Door) -> None:
    home = await cluster(door)
    running = await submit(door, home, 6000, duration_ms=60_000)
    first = await submit(door, home, 6000, duration_ms=60_000)
    second = await submit(door, home, 6000)
    page = await door("GET", f"/clusters/{home}/queue")
    etas = {turn["deployment_id"]: turn["eta_ms"] - running["at_ms"] for turn in page["items"]}
    assert etas == {first["deployment_id"]: 60_000, second["deployment_id"]: 120_000}
    assert [turn["position"] for turn in page["items"]] == [1, 2]


async def test_quotas_limit_and_are_whose_cluster_it_is(door: Door, other: Door, http: Client) -> None:
    home = await cluster(door)
    me = (await door("GET", f"/clusters/{home}"))["owner"]
    await other("PUT", f"/clusters/{home}/quotas/{me}", 404, cpu_milli=5000)
    await other("PUT", f"/clusters/default/quotas/{me}", 403, cpu_milli=5000)
    await door("PUT", f"/clusters/{home}/quotas/{me}", 422, weight=5)
    shown = await door("PUT", f"/clusters/{home}/quotas/{me}", cpu_milli=5000)
    assert shown["quotas"][me]["cpu_milli"] == 5000
    assert (await submit(door, home, 3000))["status"] == "running"
    blocked = await submit(door, home, 3000)
    (why,) = await door("GET", f"/deployments/{blocked['deployment_id']}/why")
    assert (blocked["status"], why["waiting"]["quota"]) == ("pending", "CPU")
    assert why["waiting"]["reason"] == "the quota allows no more CPU"
    await door("DELETE", f"/clusters/{home}/quotas/{me}")
    assert (await door("GET", f"/deployments/{blocked['deployment_id']}"))["status"] == "running"


async def test_what_is_somebody_elses_is_not_there_and_not_named(
    door: Door, other: Door, house: House
) -> None:
    """The operator sees all; others see of each other's work only that it is there."""
    shared = "default"
    mine = (await submit(other, shared, 2500, priority=1))["deployment_id"]
    await until(other, mine, status="running")
    theirs = (await submit(door, shared, 2500, priority=900))["deployment_id"]
    (why,) = await other("GET", f"/deployments/{mine}/why")
    assert why["evicted"]["by"] == "somebody else's"
    assert theirs not in str(why)
    for path in (f"/deployments/{theirs}", f"/deployments/{theirs}/why", f"/containers/{theirs}-1/why"):
        await other("GET", path, 404)
    await other("POST", f"/deployments/{theirs}/complete", 404)
    await other("POST", f"/deployments/{theirs}/scale", 404, replicas=2)
    await other("DELETE", f"/deployments/{theirs}", 404)
    asked: dict[str, Any] = {"name": "job", "cluster_id": shared, "ref": "web:1", "share": share(2500)}
    asked["priority"] = 950
    plan = await other("POST", "/deployments?plan=true", **asked)
    assert [one["container_id"] for one in plan["evictions"]] == ["somebody else's"]
    private = await cluster(door)
    await other("POST", "/deployments", 404, **{**asked, "cluster_id": private})
    await other("GET", f"/clusters/{private}/queue", 404)


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"replicas": 0}, ["body", "replicas"]),
        ({"replicas": -1}, ["body", "replicas"]),
        ({"replicas": 1.5}, ["body", "replicas"]),
        ({"priority": 1001}, ["body", "priority"]),
        ({"priority": -1}, ["body", "priority"]),
        ({"share": {"cpu_milli": 0}}, ["body", "share", "cpu_milli"]),
        ({"share": {"memory_mib": -5}}, ["body", "share", "memory_mib"]),
        ({"share": {"cpu_milli": 10**15}}, ["body", "share", "cpu_milli"]),
        ({"share": {"cpu_milli": 0.5}}, ["body", "share", "cpu_milli"]),
        ({"share": {"gpus": 1, "gpu_milli": 1001}}, ["body", "share", "gpu_milli"]),
        ({"share": {"gpus": 2, "gpu_milli": 500}}, ["body", "share", "gpu_milli"]),
        ({"share": {"gpus": 1, "gpu_models": ["K80"]}}, ["body", "share", "gpu_models"]),
        ({"share": {"cpu_milli": 10_001}}, ["body", "share"]),
        ({"gang": True, "replicas": 3, "share": {"cpu_milli": 5000}}, ["body", "replicas"]),
        ({"name": " "}, ["body", "name"]),
        ({"ref": ""}, ["body", "ref"]),
        ({"ref": None}, ["body", "ref"]),
        ({"image_id": "img_x"}, ["body", "ref"]),
        ({"colour": "red"}, ["body", "colour"]),
    ],
)
async def test_bad_input_is_refused_by_name(door: Door, change: dict[str, Any], loc: list[str]) -> None:
    home = await cluster(door)
    given = {"name": "job", "cluster_id": home, "ref": "web:1", **change}
    ((error),) = (await door("POST", "/deployments", 422, **given))["detail"]
    assert error["loc"] == loc
    assert (await door("GET", "/deployments"))["items"] == []


async def test_the_same_request_twice_is_one_deployment(http: Client, anna: Headers, door: Door) -> None:
    home = await cluster(door)
    given = {"name": "job", "cluster_id": home, "ref": "web:1"}
    headers = {**anna, "Idempotency-Key": "once"}
    found = set()
    for _ in range(2):
        answer = await http.post("/api/v1/deployments", json=given, headers=headers)
        found.add((await answer.json())["deployment_id"])
    assert len(found) == 1
    assert len((await door("GET", "/deployments"))["items"]) == 1


async def test_scaling_adds_and_removes_replicas_and_a_gang_is_not_scaled(door: Door, house: House) -> None:
    home = await cluster(door)
    id = (await submit(door, home, 1000))["deployment_id"]
    assert (await door("POST", f"/deployments/{id}/scale", replicas=3))["placed"] == 3
    await until(door, id, ready=True)
    smaller = await door("POST", f"/deployments/{id}/scale", replicas=1)
    assert [item["container_id"] for item in smaller["items"]] == [f"{id}-1"]
    gang = await submit(door, home, 1000, replicas=2, gang=True)
    await door("POST", f"/deployments/{gang['deployment_id']}/scale", 409, replicas=3)
    await door("DELETE", f"/containers/{id}-1", 409)
    async with asyncio.timeout(10):
        while len(house.views.containers.of_image(id)) > 1:
            await asyncio.sleep(0.01)


async def test_a_drained_node_is_emptied_and_work_returns_after_it(door: Door, house: House) -> None:
    id = (await submit(door, "default", 1000))["deployment_id"]
    await until(door, id, status="running")
    shown = await door("POST", "/nodes/node-1/drain")
    assert (shown["cordoned"], shown["drained"]) == (True, True)
    waiting = await until(door, id, place="waiting", status="pending", run=2)
    assert waiting["status"] == "pending"
    (why,) = await door("GET", f"/deployments/{id}/why")
    assert why["evicted"]["cause"] == "drained"
    assert why["waiting"]["reason"] == "no node takes work"
    await door("POST", "/nodes/node-1/uncordon")
    await until(door, id, status="running", run=2)


async def test_only_the_operator_drains_a_node(http: Client, bert: Headers, other: Door) -> None:
    for verb in ("cordon", "drain", "uncordon"):
        await other("POST", f"/nodes/node-1/{verb}", 403)
        await other("POST", f"/nodes/node-1/{verb}?plan=true", 403)


async def test_members_of_an_organisation_share_its_clusters_and_deployments(
    http: Client, anna: Headers, bert: Headers
) -> None:
    made = await Door(http, anna)("POST", "/organizations", 201, name="Analytical")
    code = {"invite": made["invite"]}
    for headers in (anna, bert):
        await Door(http, headers)("POST", "/organizations/join", **code)
    again = [Door(http, await again_in(http, name)) for name in ("anna", "bert")]
    home = await cluster(again[0])
    id = (await submit(again[0], home, 1000))["deployment_id"]
    assert (await again[1]("GET", f"/deployments/{id}"))["deployment_id"] == id


async def again_in(http: Client, name: str) -> Headers:
    pair = {"login": name, "password": f"{name}s password"}
    answer = await http.post("/api/v1/auth/sign-in", json=pair)
    http.session.cookie_jar.clear()
    return {"Authorization": f"Bearer {(await answer.json())['access_token']}"}


async def test_a_long_queue_is_told_page_by_page(door: Door) -> None:
    home = await cluster(door)
    first = await submit(door, home, 10_000)
    waiting = [await submit(door, home, 10_000) for _ in range(5)]
    found, after = list[str](), 0
    while after is not None:
        page = await door("GET", f"/clusters/{home}/queue?limit=2&after={after}")
        found += [turn["deployment_id"] for turn in page["items"]]
        after = page["next"]
    assert found == [one["deployment_id"] for one in waiting]
    assert first["status"] == "running"
    await door("GET", f"/clusters/{home}/queue?limit=0", 422)
