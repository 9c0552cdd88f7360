"""The cloud dialect: the former clients' paths and shapes, on the platform's own verbs."""

import asyncio
from typing import Any

import pytest

from tests.gateway.conftest import signed_in
from tests.gateway.house import Client, House, strict
from tests.gateway.test_catalog import tar, upload

Headers = dict[str, str]
IMAGE = {"name": "web", "tag": "1", "website_url": "https://Web.example/", "user_id": 99}


async def image(http: Client, headers: Headers, **changes: Any) -> int:
    answer = await http.post("/api/images/", json={**IMAGE, **changes}, headers=headers)
    assert answer.status == 200, await answer.text()
    found: int = (await answer.json())["id"]
    return found


async def create(http: Client, headers: Headers, image_id: int, count: int = 1) -> list[dict[str, Any]]:
    given = {"name": "web", "image_id": 0, "count": count}
    answer = await http.post(f"/api/containers/{image_id}/create", json=given, headers=headers)
    assert answer.status == 200, await answer.text()
    found: list[dict[str, Any]] = await answer.json()
    return found


@pytest.mark.parametrize("root", ["/auth", "/api/auth"])
async def test_signing_up_in_and_out(http: Client, root: str) -> None:
    """B-28e: what succeeded says so, and a bearer signs out and is known."""
    person = {"username": "anna", "email": "anna@example.com", "password": "x"}
    made = await http.post(f"{root}/signup", json=person)
    assert made.status == 200
    user = await made.json()
    assert set(user) == {"id", "username", "email", "created_at"}
    assert (await http.post(f"{root}/signup", json=person)).status == 409
    pair = {"email": "anna@example.com", "password": "x"}
    answer = await (await http.post(f"{root}/login", json=pair)).json()
    assert answer["user"] == user
    assert (answer["token_type"], answer["token"]) == ("bearer", answer["access_token"])
    http.session.cookie_jar.clear()
    about = {"Authorization": f"Bearer {answer['access_token']}"}
    assert await (await http.get(f"{root}/me", headers=about)).json() == user
    assert (await http.post(f"{root}/logout")).status == 401
    out = await http.post(f"{root}/logout", headers=about)
    assert await out.json() == {"message": "Successfully logged out"}
    assert (await http.get(f"{root}/me", headers=about)).status == 401


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/auth/login", {"email": "nobody", "password": "x"}, 401),
        ("/auth/login", {"email": "nobody"}, 422),
        ("/auth/login", {"password": "x"}, 422),
        ("/auth/login", {"email": 5, "password": "x"}, 422),
        ("/auth/signup", {"username": "a", "email": "nonsense", "password": "x"}, 422),
        ("/auth/signup", {"username": "a", "password": "x"}, 422),
        ("/auth/signup", {"username": "a", "email": "a@example.com", "password": ""}, 422),
        ("/auth/signup", {"username": "a", "email": "a@example.com", "password": "x" * 129}, 422),
        ("/api/auth/register", {"username": "a", "password": "x"}, 200),
    ],
)
async def test_bad_pairs_and_fields_get_the_answers_of_old(
    http: Client, path: str, body: dict[str, Any], status: int
) -> None:
    assert (await http.post(path, json=body)).status == status


async def test_users_are_not_listed_and_not_made_by_the_old_back_door(http: Client, anna: Headers) -> None:
    """B-28f."""
    for path in ("/api/users/users", "/api/users/users/"):
        assert (await http.get(path, headers=anna)).status == 404
        assert (await http.post(path, json={}, headers=anna)).status == 404


async def test_an_image_in_the_old_shape(http: Client, anna: Headers, house: House) -> None:
    image_id = await image(http, anna, cpu_limit="0.25", memory_limit="1g")
    got = await (await http.get(f"/api/images/{image_id}", headers=anna)).json()
    created_at = got.pop("created_at")
    assert got == {
        "id": 1,
        "name": "web",
        "tag": "1",
        "website_url": "web.example",
        "app_hostname": "web.example",
        "min_instances": 1,
        "max_instances": 3,
        "cpu_limit": "0.25",
        "memory_limit": "1024m",
        "container_port": 8080,
        "status": "registered",
        "user_id": 1,
    }
    assert created_at.endswith("+00:00")
    (known,) = house.views.catalog.all()
    assert known.ref == "web:1"


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"website_url": None}, 422, "website_url"),
        ({"website_url": ""}, 422, "website_url"),
        ({"website_url": "a b"}, 422, "website_url"),
        ({"website_url": None, "app_hostname": "//"}, 422, "app_hostname"),
        ({"name": ""}, 422, "name"),
        ({"min_instances": 5}, 422, "min_instances"),
        ({"max_instances": "3"}, 422, "max_instances"),
        ({"cpu_limit": "much"}, 422, "cpu_limit"),
        ({"memory_limit": "64 parsecs"}, 422, "memory_limit"),
        ({"memory_limit": 512}, 422, "memory_limit"),
    ],
)
async def test_bad_images_are_refused_by_field(
    http: Client, anna: Headers, house: House, change: dict[str, Any], status: int, field: str
) -> None:
    answer = await http.post("/api/images", json={**IMAGE, **change}, headers=anna)
    assert answer.status == status, await answer.text()
    assert field in (await answer.json())["detail"][0]["loc"]
    assert not house.views.catalog.all()


async def test_a_website_is_one_persons_only(http: Client, anna: Headers, bert: Headers) -> None:
    await image(http, anna)
    for spelling in ("web.example", "HTTP://WEB.EXAMPLE:80/", "web.example///"):
        answer = await http.post("/api/images", json={**IMAGE, "website_url": spelling}, headers=bert)
        assert answer.status == 400
        assert "taken" in (await answer.json())["detail"]


async def test_an_uploaded_image_answers_201(http: Client, anna: Headers, house: House) -> None:
    form = upload(tar(Dockerfile=b"FROM scratch"), app_hostname="up.example", container_port="81", tag="2")
    answer = await http.post("/api/images", data=form, headers=anna)
    assert answer.status == 201, await answer.text()
    assert (await answer.json())["container_port"] == 81
    bad = await http.post("/api/images", data=upload(b"nonsense", app_hostname="x.example"), headers=anna)
    assert bad.status == 400
    assert len(house.objects.kept) == 1


async def test_created_containers_run_when_the_answer_comes(
    http: Client, anna: Headers, house: House
) -> None:
    """B-30: several of one image, each with a name of its own."""
    image_id = await image(http, anna)
    one, two = await create(http, anna, image_id, count=2)
    assert {one["status"], two["status"]} == {"running"}
    assert one["name"] != two["name"]
    assert len(one["container_id"]) == 64
    assert set(one) == {
        "id",
        "container_id",
        "name",
        "internal_port",
        "external_port",
        "status",
        "cpu_usage",
        "memory_usage",
        "created_at",
        "image_id",
        "user_id",
    }
    assert (one["image_id"], one["user_id"], one["internal_port"]) == (image_id, 1, 8080)
    listed = await (await http.get("/api/containers/", headers=anna)).json()
    assert listed == [one, two]
    for path in (f"/api/containers/images/{image_id}/containers", f"/api/images/{image_id}/containers"):
        assert await (await http.get(path, headers=anna)).json() == [one, two]
    (whole,) = await (await http.get("/api/images/with-containers", headers=anna)).json()
    assert whole["containers"] == [one, two]


@pytest.mark.parametrize("count", [0, -1, 11])
async def test_a_count_out_of_bounds_is_refused(http: Client, anna: Headers, count: int) -> None:
    image_id = await image(http, anna)
    answer = await http.post(f"/api/containers/{image_id}/create", json={"count": count}, headers=anna)
    assert answer.status == 400
    assert "count" in (await answer.json())["detail"]


async def test_counts_are_kept_between_min_and_max(http: Client, anna: Headers) -> None:
    """B-29: min and max are applied."""
    image_id = await image(http, anna, min_instances=2, max_instances=3)
    assert len(await create(http, anna, image_id, count=1)) == 2
    assert len(await create(http, anna, image_id, count=10)) == 1
    answer = await http.post(f"/api/containers/{image_id}/create", json={}, headers=anna)
    assert answer.status == 400


async def test_the_newer_create_answers_201(http: Client, anna: Headers) -> None:
    image_id = await image(http, anna)
    assert (await http.post(f"/api/containers/{image_id}", json={"count": 1}, headers=anna)).status == 201


async def test_what_can_not_run_is_said_and_is_no_fault_of_ours(
    http: Client, anna: Headers, house: House
) -> None:
    image_id = await image(http, anna)
    house.fails = "unstartable"
    answer = await http.post(f"/api/containers/{image_id}/create", json={}, headers=anna)
    assert answer.status == 409
    assert "no such image" in (await answer.json())["detail"]


async def test_what_waits_for_a_place_is_answered_as_it_is() -> None:
    async with House(strict(outcome_s=0.2)).open() as http:
        anna = await signed_in(http, "anna")
        (one,) = await create(http, anna, await image(http, anna, cpu_limit="64"))
        assert (one["status"], one["external_port"]) == ("pending", None)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_stop_and_start_answer_when_done(http: Client, anna: Headers, method: str) -> None:
    (one,) = await create(http, anna, await image(http, anna))
    path = f"/api/containers/{one['id']}"
    assert (await http.request(method, f"{path}/start", headers=anna)).status == 400
    stopped = await (await http.request(method, f"{path}/stop", headers=anna)).json()
    assert (stopped["id"], stopped["status"]) == (one["id"], "stopped")
    assert (await http.request(method, f"{path}/stop", headers=anna)).status == 400
    started = await (await http.request(method, f"{path}/start", headers=anna)).json()
    assert (started["id"], started["status"]) == (one["id"], "running")
    assert started["container_id"] != one["container_id"]
    by_engine_id = await http.get(f"/api/containers/{started['container_id']}", headers=anna)
    assert (await by_engine_id.json())["id"] == one["id"]


async def test_a_deleted_container_is_gone_when_the_answer_comes(http: Client, anna: Headers) -> None:
    (one,) = await create(http, anna, await image(http, anna))
    gone = await http.delete(f"/api/containers/{one['id']}", headers=anna)
    assert await gone.json() == {"message": f"Container {one['id']} deleted successfully"}
    assert (await http.get(f"/api/containers/{one['id']}", headers=anna)).status == 404
    assert await (await http.get("/api/containers", headers=anna)).json() == []


async def test_an_image_in_use_stays_and_an_unused_one_leaves_nothing(
    http: Client, anna: Headers, house: House
) -> None:
    image_id = await image(http, anna)
    (one,) = await create(http, anna, image_id)
    assert (await http.delete(f"/api/images/{image_id}", headers=anna)).status == 400
    assert (await http.get(f"/api/images/{image_id}", headers=anna)).status == 200
    await http.post(f"/api/containers/{one['id']}/stop", headers=anna)
    gone = await http.delete(f"/api/images/{image_id}", headers=anna)
    assert await gone.json() == {"message": f"Image {image_id} deleted successfully"}
    assert await (await http.get("/api/containers", headers=anna)).json() == []
    assert not house.views.catalog.all()


async def test_anothers_things_are_not_found(http: Client, anna: Headers, bert: Headers) -> None:
    image_id = await image(http, anna)
    (one,) = await create(http, anna, image_id)
    for method, path in (
        ("GET", f"/api/images/{image_id}"),
        ("DELETE", f"/api/images/{image_id}"),
        ("GET", f"/api/images/{image_id}/containers"),
        ("GET", f"/api/images/{image_id}/build-logs"),
        ("POST", f"/api/containers/{image_id}/create"),
        ("POST", f"/api/containers/{one['id']}/start"),
        ("PUT", f"/api/containers/{one['id']}/stop"),
        ("DELETE", f"/api/containers/{one['id']}"),
        ("GET", f"/api/containers/{one['container_id']}"),
        ("GET", f"/route/{image_id}"),
    ):
        answer = await http.request(method, path, json={}, headers=bert)
        assert answer.status == 404, (method, path)
        assert (await http.request(method, path, json={}, headers={"X-User-Id": "1"})).status == 401
    assert await (await http.get("/api/images", headers=bert)).json() == []


@pytest.mark.parametrize("asked", ["x", "1.5", "-1", "9" * 30, "img_1", "%00"])
async def test_an_id_that_is_no_number_is_named(http: Client, anna: Headers, asked: str) -> None:
    answer = await http.get(f"/api/images/{asked}", headers=anna)
    assert answer.status in (400, 422)


async def test_lookups_take_turns_and_say_why_not(http: Client, anna: Headers, bert: Headers) -> None:
    image_id = await image(http, anna)
    assert (await lookup(http, anna, "web.example"))[0] == 503
    running = await create(http, anna, image_id, count=2)
    found = [await lookup(http, anna, "HTTPS://web.example/") for _ in range(4)]
    assert [status for status, _ in found] == [200] * 4
    ids = [body["container_id"] for _, body in found]
    assert ids[:2] == ids[2:]
    assert set(ids) == {one["container_id"] for one in running}
    assert found[0][1] | {"container_id": ""} == {
        "target_host": "127.0.0.1",
        "target_port": 9,
        "container_id": "",
        "image_id": image_id,
        "ttl": 10,
    }
    assert (await lookup(http, anna, "nobody.example"))[0] == 404
    assert (await lookup(http, bert, "web.example"))[0] == 404
    assert (await lookup(http, {}, "web.example"))[0] == 401
    one = await (await http.get(f"/route/{image_id}", headers=anna)).json()
    assert set(one) == {"image_id", "container_id", "target_host", "target_port"}
    pool = await (await http.get("/pool", headers=anna)).json()
    assert (pool[str(image_id)]["count"], pool[str(image_id)]["round_robin_index"]) == (2, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"website_url": 5}',
        b'{"website_url": "  "}',
        b'{"website_url": "//"}',
    ],
)
async def test_a_bad_lookup_is_a_400(http: Client, anna: Headers, body: bytes) -> None:
    for path in ("/route", "/lb/route"):
        answer = await http.post(path, data=body, headers=anna)
        assert answer.status == 400, await answer.text()


async def test_neighbours_need_no_token_in_development_only(anna: Headers) -> None:
    house = House(strict(open_on_loopback=True))
    async with house.open() as http:
        zoe = await signed_in(http, "zoe")
        await create(http, zoe, await image(http, zoe))
        assert (await lookup(http, {}, "web.example"))[0] == 200


async def lookup(http: Client, headers: Headers, website: str) -> tuple[int, dict[str, Any]]:
    answer = await http.post("/lb/route", json={"website_url": website}, headers=headers)
    return answer.status, await answer.json()


async def test_services_are_those_that_are_ready(http: Client, anna: Headers, bert: Headers) -> None:
    image_id = await image(http, anna)
    one, _ = await create(http, anna, image_id, count=2)
    got = await (await http.get("/services/healthy?website_url=WEB.example", headers=anna)).json()
    assert (got["count"], got["filters"]) == (2, {"website_url": "WEB.example"})
    (service, _) = got["services"]
    assert service["status"] == "passing"
    assert service["container_id"] == one["container_id"]
    assert f"image-{image_id}" in service["tags"]
    unknown = await (await http.get("/services/healthy?website_url=x.example", headers=anna)).json()
    assert (unknown["services"], unknown["count"]) == ([], 0)
    assert (await (await http.get("/services/healthy", headers=bert)).json())["count"] == 0
    status = await (await http.get("/services/cache/status", headers=anna)).json()
    assert (status["image_ids"], status["total_services"]) == ([image_id], 2)
    assert status["url_mappings"] == {"web.example": image_id}


async def test_the_dashboard_counts(http: Client, anna: Headers) -> None:
    await create(http, anna, await image(http, anna))
    got = await (await http.get("/api/dashboard", headers=anna)).json()
    assert (got["totalImages"], got["totalContainers"], got["runningContainers"]) == (1, 1, 1)
    assert {one["type"] for one in got["recentActivity"]} == {"image_registered", "container_started"}


async def test_many_small_wishes_at_once_keep_their_numbers_apart(http: Client, anna: Headers) -> None:
    ids = await asyncio.gather(*(image(http, anna, website_url=f"w{n}.example") for n in range(10)))
    assert sorted(ids) == list(range(1, 11))
