"""Clusters and deployments of the hypervisor dialect: its shapes, and its rules of who runs and who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from random import Random
from typing import Any

import pytest
from msgspec import Struct

from tests.gateway.house import Client, House
from tests.gateway.test_hypervisor import logged_in, post

Json = dict[str, Any]

KINDS = ("ram", "cpu", "gpu")
WEB: Json = {
    "name": "web",
    "image_path": "registry.example/web:1",
    "ram_required": 10,
    "cpu_required": 20,
    "gpu_required": 5,
    "priority": 7,
}


class Peer(Struct):
    """Somebody with a token, who speaks of sizes: so much of each resource alike."""

    http: Client
    token: str

    async def post(self, path: str, status: int = 200, **given: Any) -> Json:
        found: Json = await post(self.http, path, status, self.token, **given)
        return found

    async def get(self, path: str, status: int = 200, **given: Any) -> Json:
        answer = await self.http.get(path, headers={"Authorization": f"Bearer {self.token}"}, **given)
        assert answer.status == status, await answer.text()
        found: Json = await answer.json()
        return found

    async def cluster(self, size: int = 100, name: str = "one") -> int:
        totals = {f"total_{kind}": size for kind in KINDS}
        made = await self.post("/clusters/create/", json={"name": name, **totals})
        number: int = made["id"]
        return number

    async def run(self, cluster_id: int, size: int, priority: int, status: int = 200, **other: Any) -> Json:
        """Named after its priority, unless it is told otherwise."""
        needs = {f"{kind}_required": size for kind in KINDS}
        given = {"name": f"p{priority}", "image_path": "web:1", "priority": priority, **needs, **other}
        return await self.post("/deployments/create/", status, json={**given, "cluster_id": cluster_id})

    async def status(self, name: str) -> str:
        found = await self.get("/deployments/get_deployment/", params={"deployment_name": name})
        status: str = found["status"]
        return status

    async def statuses(self, names: Iterable[str]) -> dict[str, str]:
        return {name: await self.status(name) for name in names}

    async def complete(self, name: str, status: int = 200) -> Json:
        return await self.post("/deployments/complete/", status, params={"deployment_name": name})

    async def completes(self, name: str) -> int:
        headers, asked = {"Authorization": f"Bearer {self.token}"}, {"deployment_name": name}
        return (await self.http.post("/deployments/complete/", headers=headers, params=asked)).status

    async def free(self, cluster_id: int) -> int:
        """What is available, which has to be as much of each."""
        found = await self.get("/clusters/get_cluster/", params={"id": cluster_id})
        left = {found[f"available_{kind}"] for kind in KINDS}
        assert len(left) == 1
        (size,) = left
        return int(size)


@pytest.fixture
async def ada(http: Client) -> Peer:
    return Peer(http, await logged_in(http, "ada"))


@pytest.fixture
async def bob(http: Client, ada: Peer) -> Peer:
    return Peer(http, await logged_in(http, "bob"))


def sent(form: str, asked: Json) -> Any:
    """As the query or as the body."""
    return {form: asked}


SLASHES = pytest.mark.parametrize("slash", ["", "/"])
FORMS = pytest.mark.parametrize("form", ["params", "json"])


@SLASHES
@FORMS
async def test_a_cluster_is_made_and_found_by_its_number_and_by_its_name(
    ada: Peer, slash: str, form: str
) -> None:
    given = {"name": "one", "total_ram": 64, "total_cpu": 35, "total_gpu": 0}
    made = await ada.post(f"/clusters/create{slash}", json=given)
    assert made == {
        "id": made["id"],
        **given,
        "available_ram": 64,
        "available_cpu": 35.0,
        "available_gpu": 0,
    }
    assert type(made["id"]) is int
    assert {type(made[name]) for name in ("total_cpu", "available_cpu")} == {float}
    assert {type(made[f"{of}_{kind}"]) for of in ("total", "available") for kind in ("ram", "gpu")} == {int}
    for asked in ({"id": made["id"]}, {"cluster_name": "one"}, {"id": made["id"], "cluster_name": "one"}):
        assert await ada.get(f"/clusters/get_cluster{slash}", **sent(form, asked)) == made


@SLASHES
@FORMS
async def test_a_deployment_is_made_found_and_completed(ada: Peer, slash: str, form: str) -> None:
    cluster_id = await ada.cluster()
    made = await ada.post(f"/deployments/create{slash}", json={**WEB, "cluster_id": cluster_id})
    assert made == {"id": made["id"], **WEB, "cluster_id": cluster_id, "status": "Running"}
    assert [type(made[f"{kind}_required"]) for kind in KINDS] == [int, float, int]
    asked = ({"id": made["id"]}, {"deployment_name": "web"}, {"id": made["id"], "deployment_name": "web"})
    for which in asked:
        assert await ada.get(f"/deployments/get_deployment{slash}", **sent(form, which)) == made
    cluster = await ada.get("/clusters/get_cluster", params={"id": cluster_id})
    assert [cluster[f"available_{kind}"] for kind in KINDS] == [90, 80.0, 95]
    done = await ada.post(f"/deployments/complete{slash}", **sent(form, asked[0]))
    assert done == {**made, "status": "Completed"}
    assert await ada.get(f"/deployments/get_deployment{slash}", **sent(form, asked[1])) == done
    assert await ada.free(cluster_id) == 100


async def test_the_query_comes_before_the_body(ada: Peer) -> None:
    first, second = await ada.cluster(name="one"), await ada.cluster(name="two")
    found = await ada.get("/clusters/get_cluster/", params={"id": first}, json={"id": second})
    assert found["id"] == first


async def test_a_cpu_may_be_divided_into_thousandths(ada: Peer) -> None:
    """B-13: the former column was of integers."""
    made = await ada.post(
        "/clusters/create/", json={"name": "one", "total_ram": 1, "total_cpu": 1.001, "total_gpu": 0}
    )
    assert made["total_cpu"] == 1.001
    given = {**WEB, "cluster_id": made["id"], "ram_required": 1, "gpu_required": 0, "cpu_required": 0.3}
    assert (await ada.post("/deployments/create/", json=given))["cpu_required"] == 0.3
    left = await ada.get("/clusters/get_cluster/", params={"cluster_name": "one"})
    assert left["available_cpu"] == 0.701


TOO_MUCH = 10**13
BAD_RAM = (0, -1, 1.5, True, "1", None, TOO_MUCH, 10**40)
BAD_CPU = (0, -1, -0.5, 0.0005, 1.2345, True, "1", None, TOO_MUCH, 10**40, 1e300)
BAD_GPU = (-1, 1.5, True, "1", None, TOO_MUCH, 10**40)
BAD = [
    (f"{{}}_{kind}", value)
    for kind, values in (("ram", BAD_RAM), ("cpu", BAD_CPU), ("gpu", BAD_GPU))
    for value in values
]


async def is_refused(peer: Peer, path: str, given: Json, field: str) -> None:
    (error,) = (await peer.post(path, 422, json=given))["detail"]
    assert error["loc"] == ["body", field]


async def test_a_cluster_of_bad_figures_is_refused_by_the_field(ada: Peer) -> None:
    """B-08: nothing negative, nothing of no size; nor what nobody could count."""
    good = {"name": "one", "total_ram": 1, "total_cpu": 1, "total_gpu": 0}
    names = [("name", value) for value in ("", "  ", "x" * 101, 1, None)]
    for field, value in [(field.format("total"), value) for field, value in BAD] + names:
        await is_refused(ada, "/clusters/create/", {**good, field: value}, field)
    for field in good:
        await is_refused(ada, "/clusters/create/", {k: v for k, v in good.items() if k != field}, field)
    await ada.get("/clusters/get_cluster/", 404, params={"cluster_name": "one"})
    await ada.post("/clusters/create/", json=good)


async def test_a_deployment_of_bad_figures_is_refused_by_the_field(ada: Peer) -> None:
    """B-08: nothing negative, which would leave 600 of 100 free."""
    cluster_id = await ada.cluster()
    good = {**WEB, "cluster_id": cluster_id}
    others: list[tuple[str, Any]] = [
        *(("name", value) for value in ("", "  ", "x" * 201, 1, None)),
        *(("image_path", value) for value in ("", "x" * 513, 1, None)),
        *(("priority", value) for value in (1.5, True, "1", None, 10**6 + 1, -(10**6) - 1, 10**40)),
        *(("cluster_id", value) for value in (1.5, True, "one", None)),
    ]
    for field, value in [(field.format("{}").split("_")[1], value) for field, value in BAD]:
        await is_refused(
            ada, "/deployments/create/", {**good, f"{field}_required": value}, f"{field}_required"
        )
    for field, value in others:
        await is_refused(ada, "/deployments/create/", {**good, field: value}, field)
    for field in good:
        await is_refused(ada, "/deployments/create/", {k: v for k, v in good.items() if k != field}, field)
    assert await ada.free(cluster_id) == 100
    await ada.get("/deployments/get_deployment/", 404, params={"deployment_name": "web"})
    await ada.post("/deployments/create/", json={**good, "priority": -(10**6)})


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_larger_than_the_whole_cluster_is_refused_by_the_field(ada: Peer, kind: str) -> None:
    cluster_id, field = await ada.cluster(100), f"{kind}_required"
    (error,) = (await ada.run(cluster_id, 1, 1, 422, **{field: 101}))["detail"]
    assert error["loc"] == ["body", field]
    assert "100" in error["msg"]
    assert (await ada.run(cluster_id, 1, 1, **{field: 100}))["status"] == "Running"


async def test_all_that_is_too_large_is_named(ada: Peer) -> None:
    errors = (await ada.run(await ada.cluster(100), 101, 1, 422))["detail"]
    assert [error["loc"] for error in errors] == [["body", f"{kind}_required"] for kind in KINDS]


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/clusters/get_cluster/", "cluster_name"),
        ("GET", "/deployments/get_deployment/", "deployment_name"),
        ("POST", "/deployments/complete/", "deployment_name"),
    ],
)
@FORMS
async def test_what_is_asked_for_badly_is_not_found(
    ada: Peer, method: str, path: str, name: str, form: str
) -> None:
    one, two = await ada.cluster(name="one"), await ada.cluster(name="two")
    number = one
    if name == "deployment_name":
        number = (await ada.run(one, 1, 1, name="one"))["id"]
        await ada.run(two, 1, 2, name="two")

    async def asked(status: int, **which: Any) -> None:
        headers = {"Authorization": f"Bearer {ada.token}"}
        answer = await ada.http.request(method, path, headers=headers, **sent(form, which))
        assert answer.status == status, await answer.text()

    await asked(400)
    await asked(400, id=number, **{name: "two"})
    await asked(400, id=number, **{name: "none"})
    for id in (0, -1, number + 100, 10**40):
        await asked(404, id=id)
    for text in ("none", "", "x" * 5000, "a|b"):
        await asked(404, **{name: text})
    await asked(422, id="one")
    await asked(422, id="1.5")


async def test_without_a_token_nothing_is_told_or_done(http: Client) -> None:
    for method, path in (
        ("POST", "/clusters/create/"),
        ("GET", "/clusters/get_cluster/"),
        ("POST", "/deployments/create/"),
        ("GET", "/deployments/get_deployment/"),
        ("POST", "/deployments/complete/"),
    ):
        for headers in ({}, {"Authorization": "Bearer nonsense"}):
            answer = await http.request(method, path, headers=headers, json={})
            assert answer.status == 401
            assert "detail" in await answer.json()


async def test_the_front_door_says_that_somebody_is_there(http: Client) -> None:
    answer = await http.get("/")
    assert answer.status == 200
    assert isinstance((await answer.json())["message"], str)


async def test_a_clusters_name_is_taken_once(ada: Peer, bob: Peer) -> None:
    """B-10: it was an error 500."""
    await ada.cluster(name="one")
    given = {"name": "one", "total_ram": 1, "total_cpu": 1, "total_gpu": 1}
    for peer in (ada, bob):
        assert await peer.post("/clusters/create/", 409, json=given) == {
            "detail": "Cluster name already exists"
        }


async def test_priority_and_name_are_refused_in_different_words(ada: Peer) -> None:
    """B-10: it was always the priority."""
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 10, 1, name="web")
    priority = (await ada.run(cluster_id, 10, 1, 409, name="other"))["detail"]
    name = (await ada.run(cluster_id, 10, 2, 409, name="web"))["detail"]
    assert "riority" in priority
    assert "riority" not in name
    assert "name" in name
    assert await ada.free(cluster_id) == 90
    await ada.get("/deployments/get_deployment/", 404, params={"deployment_name": "other"})


async def test_a_refused_name_costs_no_priority_and_a_refused_priority_no_name(ada: Peer) -> None:
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 10, 1, name="web")
    await ada.run(cluster_id, 10, 1, 409, name="other")
    await ada.run(cluster_id, 10, 2, 409, name="web")
    await ada.run(cluster_id, 101, 2, 422, name="other")
    assert (await ada.run(cluster_id, 10, 2, name="other"))["status"] == "Running"


async def test_priority_and_name_are_free_again_once_it_is_complete(ada: Peer) -> None:
    """B-11: they were used up for ever."""
    cluster_id = await ada.cluster()
    first = await ada.run(cluster_id, 10, 1)
    await ada.complete("p1")
    second = await ada.run(cluster_id, 20, 1)
    assert second["id"] != first["id"]
    found = await ada.get("/deployments/get_deployment/", params={"deployment_name": "p1"})
    assert found == second
    former = await ada.get("/deployments/get_deployment/", params={"id": first["id"]})
    assert former == {**first, "status": "Completed"}


async def test_who_waits_has_name_and_priority_too(ada: Peer) -> None:
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 100, 2)
    assert (await ada.run(cluster_id, 1, 1))["status"] == "Pending"
    await ada.run(cluster_id, 1, 1, 409, name="other")
    await ada.run(cluster_id, 1, 3, 409, name="p1")


async def test_a_priority_is_one_clusters_affair(ada: Peer, bob: Peer) -> None:
    """B-11: it was blocked for all clusters, by anybody."""
    for peer, cluster in ((ada, "one"), (ada, "two"), (bob, "three")):
        cluster_id = await peer.cluster(name=cluster)
        assert (await peer.run(cluster_id, 10, 1, name=f"in-{cluster}"))["status"] == "Running"
    assert (await bob.run(cluster_id, 10, 2, name="in-one"))["status"] == "Running"


# the worked examples: sizes and priorities in the order in which they come, on a cluster of 100
CASES: dict[str, tuple[list[tuple[int, int]], set[int], int]] = {
    "s1": ([(60, 1), (40, 2), (80, 10)], {10}, 20),
    "s2": ([(50, 5), (50, 1), (60, 3)], {5, 1}, 0),
    "s3": ([(60, 10), (80, 9), (40, 1)], {10, 1}, 0),
    "s5": ([(30, 1), (30, 2), (40, 3), (35, 9)], {9, 3}, 25),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_worked_examples(ada: Peer, case: str) -> None:
    """B-03 as well: in s2 nobody goes, for it would not help."""
    steps, running, free = CASES[case]
    cluster_id = await ada.cluster()
    for size, priority in steps:
        made = await ada.run(cluster_id, size, priority)
        assert made["status"] == await ada.status(made["name"])
    assert {p for _, p in steps if await ada.status(f"p{p}") == "Running"} == running
    assert {p for _, p in steps if await ada.status(f"p{p}") == "Pending"} == {p for _, p in steps} - running
    assert await ada.free(cluster_id) == free


async def test_s4_who_is_more_urgent_does_not_starve_when_somebody_completes(ada: Peer) -> None:
    """B-06: a completion lets the first of the queue have its turn, at the cost of less urgent ones."""
    cluster_id = await ada.cluster()
    for size, priority in ((60, 10), (80, 9), (40, 1)):
        await ada.run(cluster_id, size, priority)
    await ada.complete("p10")
    assert await ada.statuses(["p10", "p9", "p1"]) == {"p10": "Completed", "p9": "Running", "p1": "Pending"}
    assert await ada.free(cluster_id) == 20


async def test_s6_a_pending_one_can_not_be_completed(ada: Peer) -> None:
    """B-05: nothing is given back that was never had, and nothing comes back from completion."""
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 100, 2)
    await ada.run(cluster_id, 30, 1)
    assert "pending" in (await ada.complete("p1", 409))["detail"]
    assert await ada.status("p1") == "Pending"
    assert await ada.free(cluster_id) == 0
    await ada.complete("p2")
    assert await ada.status("p1") == "Running"
    assert await ada.free(cluster_id) == 70


async def test_s7_a_completed_one_can_not_be_completed_again(ada: Peer) -> None:
    """B-05: 160 of 100 were free."""
    cluster_id = await ada.cluster()
    for size, priority in ((60, 2), (40, 1)):
        await ada.run(cluster_id, size, priority)
    await ada.complete("p2")
    assert "completed" in (await ada.complete("p2", 409))["detail"]
    assert await ada.statuses(["p2", "p1"]) == {"p2": "Completed", "p1": "Running"}
    assert await ada.free(cluster_id) == 60


async def test_s8_nobody_goes_for_the_sake_of_another_cluster(ada: Peer) -> None:
    """B-01, B-03."""
    one, two = await ada.cluster(50, "one"), await ada.cluster(50, "two")
    await ada.run(one, 50, 1)
    await ada.run(two, 50, 5)
    assert (await ada.run(two, 50, 3))["status"] == "Pending"
    assert await ada.statuses(["p1", "p5"]) == {"p1": "Running", "p5": "Running"}
    assert (await ada.free(one), await ada.free(two)) == (0, 0)
    assert (await ada.run(two, 50, 9))["status"] == "Running"
    assert await ada.statuses(["p1", "p5"]) == {"p1": "Running", "p5": "Pending"}


async def test_s8_a_completion_serves_its_own_cluster_only(ada: Peer) -> None:
    """B-02."""
    one, two = await ada.cluster(50, "one"), await ada.cluster(50, "two")
    await ada.run(one, 50, 10)
    await ada.run(two, 50, 9)
    await ada.run(two, 30, 8)
    await ada.complete("p10")
    assert await ada.statuses(["p9", "p8"]) == {"p9": "Running", "p8": "Pending"}
    assert (await ada.free(one), await ada.free(two)) == (50, 0)


async def test_a_newcomer_is_not_lost(ada: Peer) -> None:
    """B-04: there is nobody it may evict; it waits, and runs in its turn."""
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 100, 9)
    assert [(await ada.run(cluster_id, 60, priority))["status"] for priority in (1, 2)] == ["Pending"] * 2
    await ada.complete("p9")
    assert await ada.statuses(["p1", "p2"]) == {"p1": "Pending", "p2": "Running"}
    await ada.complete("p2")
    assert await ada.status("p1") == "Running"


async def test_who_fits_runs_though_more_urgent_ones_wait(ada: Peer) -> None:
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 60, 10)
    assert (await ada.run(cluster_id, 50, 9))["status"] == "Pending"
    assert (await ada.run(cluster_id, 40, 1))["status"] == "Running"


async def test_as_many_go_as_it_takes_and_as_often_as_it_takes(ada: Peer) -> None:
    """Nobody is spared for having been evicted before, nor because too many would have to go."""
    cluster_id = await ada.cluster(30)
    for priority in range(30):
        await ada.run(cluster_id, 1, priority)
    for round in range(6):
        priority = 1000 + round
        assert (await ada.run(cluster_id, 30, priority))["status"] == "Running"
        assert {await ada.status(f"p{below}") for below in range(30)} == {"Pending"}
        await ada.complete(f"p{priority}")
        assert {await ada.status(f"p{below}") for below in range(30)} == {"Running"}
    assert await ada.free(cluster_id) == 0


async def test_an_image_path_may_be_any_text(ada: Peer) -> None:
    """B-09: a `|` in it broke the queue, and the victim was lost."""
    cluster_id = await ada.cluster()
    paths = {1: "a|b|c", 2: "regis try/ü|:1", 3: "|"}
    for priority, path in paths.items():
        made = await ada.run(cluster_id, 60, priority, image_path=path, name=f"p|{priority}")
        assert (made["status"], made["image_path"]) == ("Running", path)
    assert await ada.statuses(["p|1", "p|2", "p|3"]) == {
        "p|1": "Pending",
        "p|2": "Pending",
        "p|3": "Running",
    }
    await ada.complete("p|3")
    assert await ada.statuses(["p|1", "p|2"]) == {"p|1": "Pending", "p|2": "Running"}


async def test_nobody_sees_or_touches_what_is_anothers(ada: Peer, bob: Peer) -> None:
    """B-12: everybody could complete everybody's; not even the operator can at this door."""
    for owner, other, name in ((ada, bob, "one"), (bob, ada, "two")):
        cluster_id = await owner.cluster(name=name)
        deployment = await owner.run(cluster_id, 10, 1, name=name)
        for asked in ({"id": cluster_id}, {"cluster_name": name}):
            await other.get("/clusters/get_cluster/", 404, params=asked)
        await other.run(cluster_id, 10, 2, 404)
        for asked in ({"id": deployment["id"]}, {"deployment_name": name}):
            await other.get("/deployments/get_deployment/", 404, params=asked)
            await other.post("/deployments/complete/", 404, params=asked)
        assert await owner.status(name) == "Running"
        assert await owner.free(cluster_id) == 90


async def test_an_organisation_shares_its_clusters_and_who_joins_keeps_his_own(ada: Peer, bob: Peer) -> None:
    before = await ada.cluster(name="before")
    await ada.run(before, 10, 1, name="old")
    made = await ada.post("/organizations/create/", json={"name": "Analytical"})
    for peer in (ada, bob):
        await peer.post("/organizations/join/", params={"invite_code": made["invite_code"]})
    shared = await ada.cluster(name="shared")
    assert (await bob.run(shared, 10, 1, name="new"))["status"] == "Running"
    assert (await ada.complete("new"))["status"] == "Completed"
    await bob.get("/clusters/get_cluster/", 404, params={"id": before})
    assert await ada.free(before) == 90
    assert (await ada.run(before, 20, 2, name="newer"))["status"] == "Running"
    assert (await ada.complete("old"))["status"] == "Completed"
    assert await ada.free(before) == 80


async def test_who_was_cancelled_at_the_other_door_has_completed_at_this_one(ada: Peer, house: House) -> None:
    cluster_id = await ada.cluster()
    made = await ada.run(cluster_id, 100, 2)
    assert (await ada.run(cluster_id, 10, 1))["status"] == "Pending"
    known = house.views.deployments.numbered(made["id"])
    assert known is not None
    answer = await ada.http.delete(
        f"/api/v1/deployments/{known.deployment_id}", headers={"Authorization": f"Bearer {ada.token}"}
    )
    assert answer.status == 200
    assert await ada.statuses(["p2", "p1"]) == {"p2": "Completed", "p1": "Running"}
    await ada.complete("p2", 409)


async def test_what_came_in_by_the_other_door_is_shown_in_this_ones_words(ada: Peer, house: House) -> None:
    cluster_id = await ada.cluster()
    cluster = next(one for one in house.views.scheduling.clusters.values() if one.ordinal == cluster_id)
    given = {
        "name": "half",
        "cluster_id": cluster.cluster_id,
        "ref": "web:1",
        "replicas": 3,
        "priority": 5,
        "share": {"cpu_milli": 40_000, "memory_mib": 40, "gpus": 1, "gpu_milli": 250},
    }
    await ada.post("/api/v1/deployments", 201, json=given)
    found = await ada.get("/deployments/get_deployment/", params={"deployment_name": "half"})
    assert (found["status"], found["cpu_required"], found["gpu_required"]) == ("Running", 40.0, 1)
    left = await ada.get("/clusters/get_cluster/", params={"id": cluster_id})
    assert [left[f"available_{kind}"] for kind in KINDS] == [20, 20.0, 99]


async def test_a_cluster_of_machines_is_what_they_are_together(ada: Peer, house: House) -> None:
    async with asyncio.timeout(5):
        while not ((default := house.views.scheduling.cluster("default")) and default.offers):
            await house.views.change()
    asked = {"cluster_name": "default"}
    found = await ada.get("/clusters/get_cluster/", params=asked)
    assert (found["total_ram"], found["total_cpu"], found["total_gpu"]) == (4096, 4.0, 0)
    made = await ada.run(found["id"], 0, 1, ram_required=96, cpu_required=0.5)
    assert (made["status"], made["cluster_id"]) == ("Running", found["id"])
    left = await ada.get("/clusters/get_cluster/", params=asked)
    assert (left["available_ram"], left["available_cpu"]) == (4000, 3.5)


async def test_the_same_wish_twice_is_one_deployment(ada: Peer) -> None:
    cluster_id = await ada.cluster()
    headers = {"Authorization": f"Bearer {ada.token}", "Idempotency-Key": "k"}
    given = {**WEB, "cluster_id": cluster_id}
    answers = [await ada.http.post("/deployments/create/", headers=headers, json=given) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 200]
    first, second = [await answer.json() for answer in answers]
    assert first == second


class Asked(Struct, frozen=True):
    name: str
    cluster_id: int
    need: tuple[int, ...]
    priority: int

    def body(self) -> Json:
        needs = dict(zip((f"{kind}_required" for kind in KINDS), self.need, strict=True))
        about = {"name": self.name, "cluster_id": self.cluster_id, "priority": self.priority}
        return {**about, "image_path": "web:1", **needs}


class Rules:
    """One cluster by the rules of the contract, word by word, and slowly."""

    def __init__(self, totals: tuple[int, ...]) -> None:
        self.totals = totals
        self.running: list[Asked] = []
        self.pending: list[Asked] = []

    def create(self, one: Asked) -> None:
        """Rules 3, 4 and 6."""
        self.pending.append(one)
        self.start(one)
        self.walk()

    def complete(self, one: Asked) -> None:
        """Rule 5, and who is first in the queue may evict (s4)."""
        self.running.remove(one)
        self.walk()

    def walk(self) -> None:
        while any(self.start(one) for one in sorted(self.pending, key=lambda one: -one.priority)):
            pass

    def start(self, one: Asked) -> bool:
        """If need be after evicting less urgent ones, lowest first; not one, if all were not enough."""
        lower = sorted((r for r in self.running if r.priority < one.priority), key=lambda r: r.priority)
        if not self.fits(one, lower):
            return False
        gone = next(count for count in range(len(lower) + 1) if self.fits(one, lower[:count]))
        for victim in lower[:gone]:
            self.running.remove(victim)
            self.pending.append(victim)
        self.pending.remove(one)
        self.running.append(one)
        return True

    def fits(self, one: Asked, gone: list[Asked]) -> bool:
        left = self.left([r for r in self.running if r not in gone])
        return all(need <= free for need, free in zip(one.need, left, strict=True))

    def left(self, running: list[Asked]) -> tuple[int, ...]:
        held = zip(*(r.need for r in running), strict=True) if running else [(0,)] * len(self.totals)
        return tuple(total - sum(each) for total, each in zip(self.totals, held, strict=True))


async def check(peer: Peer, clusters: dict[int, Rules], ended: list[Asked]) -> None:
    """Rule 9: whatever has happened, the books are right, and each status is what the rules say."""
    for cluster_id, rules in clusters.items():
        found = await peer.get("/clusters/get_cluster/", params={"id": cluster_id})
        left = tuple(found[f"available_{kind}"] for kind in KINDS)
        assert tuple(found[f"total_{kind}"] for kind in KINDS) == rules.totals
        live = [*rules.running, *rules.pending]
        status = await peer.statuses(one.name for one in live)
        running = [one for one in live if status[one.name] == "Running"]
        assert {one.name for one in running} == {one.name for one in rules.running}
        assert {status[one.name] for one in rules.pending} <= {"Pending"}
        assert left == rules.left(running)
        assert all(0 <= free <= total for free, total in zip(left, rules.totals, strict=True))
        for one in rules.pending:  # not even in the place of all that are less urgent
            above = [other for other in running if other.priority > one.priority]
            assert any(n > free for n, free in zip(one.need, rules.left(above), strict=True))
    for one in ended[-3:]:
        assert await peer.status(one.name) == "Completed"


async def is_settled(house: House) -> None:
    """What the node runs is what has a place, and nothing that has none."""
    views = house.views
    async with asyncio.timeout(10):
        while True:
            placed = set(views.scheduling.placed_on("node-1"))
            live = {
                (c.container_id, c.run)
                for id in (d.deployment_id for d in views.deployments.state().values())
                for c in views.containers.of_image(id)
                if c.status in ("starting", "running")
            }
            if placed == live and all(
                (c := views.containers.container(id)) is not None and c.ready for id, _ in placed
            ):
                return
            await views.change()


@pytest.mark.parametrize("seed", range(3))
async def test_any_history_follows_the_rules(ada: Peer, house: House, seed: int) -> None:
    random, clusters, ended = Random(seed), dict[int, Rules](), list[Asked]()
    for name in ("one", "two"):
        totals = tuple(random.randint(20, 60) for _ in KINDS)
        about = dict(zip((f"total_{kind}" for kind in KINDS), totals, strict=True))
        made = await ada.post("/clusters/create/", json={"name": name, **about})
        clusters[made["id"]] = Rules(totals)
    for number in range(150):
        cluster_id, rules = random.choice(list(clusters.items()))
        live = [*rules.running, *rules.pending]
        if random.random() < len(live) / 25:
            one = random.choice(live)
            if one in rules.running:
                assert (await ada.complete(one.name))["status"] == "Completed"
                rules.complete(one)
                ended.append(one)
            else:
                await ada.complete(one.name, 409)
        else:
            need = tuple(random.choice((0 if kind == "gpu" else 1, random.randint(1, 30))) for kind in KINDS)
            one = Asked(f"d{number}", cluster_id, need, random.randint(-40, 40))
            taken = any(other.priority == one.priority for other in live)
            too_large = any(n > total for n, total in zip(need, rules.totals, strict=True))
            status = 409 if taken else 422 if too_large else 200
            answer = await ada.post("/deployments/create/", status, json=one.body())
            if status == 200:
                rules.create(one)
                assert answer["status"] == ("Running" if one in rules.running else "Pending")
        await check(ada, clusters, ended)
    await is_settled(house)


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_created_at_once_is_as_if_one_by_one(ada: Peer, house: House, seed: int) -> None:
    """B-07: no update is lost, and never is more given out than there is."""
    random, totals = Random(seed), (100, 100, 100)
    clusters = {await ada.cluster(100, name): Rules(totals) for name in ("one", "two")}
    asked = [
        Asked(f"d{number}", cluster_id, tuple(random.randint(1, 40) for _ in KINDS), priority)
        for cluster_id in clusters
        for number, priority in enumerate(random.sample(range(100), 20), start=cluster_id * 100)
    ]
    random.shuffle(asked)
    await asyncio.gather(*(ada.post("/deployments/create/", json=one.body()) for one in asked))
    for one in asked:  # in which order makes no difference to who runs in the end
        clusters[one.cluster_id].create(one)
    await check(ada, clusters, [])
    answers = await asyncio.gather(*(ada.completes(one.name) for one in asked[:20]))
    assert set(answers) <= {200, 409}  # who has had to make room meanwhile can not be complete
    left = {cluster_id: Rules(totals) for cluster_id in clusters}
    done = [one for one, status in zip(asked, answers, strict=False) if status == 200]
    for one in asked:
        if one not in done:
            left[one.cluster_id].create(one)
    await check(ada, left, done)
    await is_settled(house)


async def test_one_of_many_gets_the_priority_and_one_the_name(ada: Peer) -> None:
    cluster_id = await ada.cluster()

    async def tried(**given: Any) -> int:
        body = {**WEB, "cluster_id": cluster_id, **given}
        headers = {"Authorization": f"Bearer {ada.token}"}
        return (await ada.http.post("/deployments/create/", headers=headers, json=body)).status

    same_priority = await asyncio.gather(*(tried(name=f"n{i}") for i in range(10)))
    same_name = await asyncio.gather(*(tried(priority=100 + i) for i in range(10)))
    assert sorted(same_priority) == sorted(same_name) == [200, *[409] * 9]
    cluster = await ada.get("/clusters/get_cluster/", params={"id": cluster_id})
    assert cluster["available_ram"] == 80


async def test_one_of_many_completes_it(ada: Peer) -> None:
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 60, 2)
    await ada.run(cluster_id, 60, 1)
    answers = await asyncio.gather(*(ada.completes("p2") for _ in range(10)))
    assert sorted(answers) == [200, *[409] * 9]
    assert await ada.status("p1") == "Running"
    assert await ada.free(cluster_id) == 40


async def test_who_was_evicted_runs_again_once_there_is_room(ada: Peer, house: House) -> None:
    """A status is not all: its container has stopped meanwhile, and is there again."""
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 60, 1)
    await is_settled(house)
    await ada.run(cluster_id, 80, 10)
    await is_settled(house)
    await ada.complete("p10")
    assert await ada.status("p1") == "Running"
    await is_settled(house)


async def test_who_was_evicted_before_any_node_carried_the_cluster_runs_in_the_end(
    ada: Peer, house: House
) -> None:
    headers = {"Authorization": f"Bearer {ada.token}"}  # of the first user, who is the operator
    assert (await ada.http.post("/api/v1/nodes/node-1/cordon", headers=headers)).status == 200
    cluster_id = await ada.cluster()
    await ada.run(cluster_id, 60, 1)
    await ada.run(cluster_id, 80, 10)
    assert (await ada.http.post("/api/v1/nodes/node-1/uncordon", headers=headers)).status == 200
    await ada.complete("p10")
    assert await ada.status("p1") == "Running"
    await is_settled(house)
