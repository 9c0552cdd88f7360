"""Containers: started, stopped, looked at, deleted; and where they are, who waits, what they say."""

import asyncio
from typing import Any

from tests.gateway.house import Client, House
from tests.gateway.test_catalog import register

Headers = dict[str, str]


async def launched(http: Client, headers: Headers, house: House, count: int = 1) -> list[dict[str, Any]]:
    image_id = await register(http, headers)
    answer = await http.post(f"/api/v1/images/{image_id}/containers", json={"count": count}, headers=headers)
    found: list[dict[str, Any]] = await answer.json()
    await until_ready(house, found)
    return found


async def until_ready(house: House, found: list[dict[str, Any]]) -> None:
    async with asyncio.timeout(5):
        while not all((c := house.views.containers.container(f["container_id"])) and c.ready for f in found):
            await house.views.change()


async def test_a_container_stops_and_starts_and_keeps_its_id(
    http: Client, anna: Headers, house: House
) -> None:
    (one,) = await launched(http, anna, house)
    path = f"/api/v1/containers/{one['container_id']}"
    assert (await (await http.post(f"{path}/stop", headers=anna)).json())["wanted"] is False
    assert (await http.post(f"{path}/stop", headers=anna)).status == 409
    async with asyncio.timeout(5):
        while (await (await http.get(path, headers=anna)).json())["status"] != "stopped":
            await house.views.change()
    again = await (await http.post(f"{path}/start", headers=anna)).json()
    assert (again["container_id"], again["run"]) == (one["container_id"], 2)
    assert (await http.post(f"{path}/start", headers=anna)).status == 409


async def test_a_deleted_container_is_gone(http: Client, anna: Headers, house: House) -> None:
    (one,) = await launched(http, anna, house)
    path = f"/api/v1/containers/{one['container_id']}"
    assert (await http.delete(path, headers=anna)).status == 200
    async with asyncio.timeout(5):
        while (await http.get(path, headers=anna)).status != 404:
            await house.views.change()


async def test_nobody_touches_anothers_container(
    http: Client, anna: Headers, bert: Headers, house: House
) -> None:
    (one,) = await launched(http, anna, house)
    path = f"/api/v1/containers/{one['container_id']}"
    for method, what in (
        ("GET", ""),
        ("POST", "/start"),
        ("POST", "/stop"),
        ("DELETE", ""),
        ("GET", "/logs"),
    ):
        assert (await http.request(method, path + what, headers=bert)).status == 404
    assert (await (await http.get("/api/v1/containers", headers=bert)).json())["items"] == []


async def test_its_last_lines_are_asked_of_its_node(http: Client, anna: Headers, house: House) -> None:
    (one,) = await launched(http, anna, house)
    path = f"/api/v1/containers/{one['container_id']}/logs"
    assert await (await http.get(path, headers=anna)).json() == {"lines": ["hello", "world"]}
    assert await (await http.get(f"{path}?tail=1", headers=anna)).json() == {"lines": ["world"]}
    assert (await http.get(f"{path}?tail=0", headers=anna)).status == 422


async def test_containers_are_listed_by_image(http: Client, anna: Headers, house: House) -> None:
    one, two = await launched(http, anna, house, count=2)
    listed = await (await http.get(f"/api/v1/containers?image_id={one['image_id']}", headers=anna)).json()
    assert [c["ordinal"] for c in listed["items"]] == [one["ordinal"], two["ordinal"]]
    none = await (await http.get("/api/v1/containers?image_id=img_other", headers=anna)).json()
    assert none == {"items": [], "next": None}


async def test_who_waits_for_a_place_sees_why_and_nobody_elses_wait(
    http: Client, anna: Headers, bert: Headers, house: House
) -> None:
    for hostname, headers in (("a.example", anna), ("b.example", bert)):
        image_id = await register(
            http, headers, hostname=hostname, resources={"cpu_milli": 64_000, "memory_mib": 8192}
        )
        await http.post(f"/api/v1/images/{image_id}/containers", json={}, headers=headers)
    async with asyncio.timeout(5):
        while len(house.views.scheduling.waiting("default")) < 2:
            await house.views.change()
    mine = await (await http.get("/api/v1/clusters/default/queue", headers=bert)).json()
    (line,) = mine["items"]
    assert (line["position"], line["reason"]) == (2, "no node fits, for want of: 1 memory")
    assert line["reason"]
    assert len((await (await http.get("/api/v1/clusters/default/queue", headers=anna)).json())["items"]) == 2
    assert (await http.get("/api/v1/clusters/other/queue", headers=anna)).status == 404


async def test_nodes_and_clusters_are_shown(http: Client, anna: Headers) -> None:
    (node,) = (await (await http.get("/api/v1/nodes", headers=anna)).json())["items"]
    assert (node["node_id"], node["cordoned"]) == ("node-1", False)
    assert (await (await http.post("/api/v1/nodes/node-1/cordon", headers=anna)).json())["cordoned"]
    assert not (await (await http.post("/api/v1/nodes/node-1/uncordon", headers=anna)).json())["cordoned"]
    for path in ("/api/v1/nodes/node-9/cordon", "/api/v1/nodes/a.b*c/cordon"):
        assert (await http.post(path, headers=anna)).status == 404
    (cluster,) = (await (await http.get("/api/v1/clusters", headers=anna)).json())["items"]
    assert cluster["offers"]["node-1"]["cpu_milli"] == 4000


async def test_a_site_and_its_services_are_shown_to_their_owner(
    http: Client, anna: Headers, bert: Headers, house: House
) -> None:
    found = await launched(http, anna, house, count=2)
    (site,) = (await (await http.get("/api/v1/routes", headers=anna)).json())["items"]
    assert (site["hostname"], len(site["backends"])) == ("web.example", 2)
    services = (await (await http.get("/api/v1/services", headers=anna)).json())["items"]
    assert {one["container_id"] for one in services} == {one["container_id"] for one in found}
    resolve = "/api/v1/routes/resolve"
    assert (await http.get(f"{resolve}?host=HTTPS://www.Web.example/", headers=anna)).status == 200
    assert (await http.get(f"{resolve}?host=web.example", headers=bert)).status == 404
    assert (await http.get(f"{resolve}?host=http://https://x", headers=anna)).status == 400
    assert (await http.get(resolve, headers=anna)).status == 422
