"""What is owed, over HTTP, from a real database; and what is said while there is none."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.database import Ledger
from projections.database import Database
from projections.rebuild import projections
from projections.runtime import Projector
from tests.gateway.conftest import signed_in
from tests.gateway.house import Client, House
from tests.gateway.test_cloud import create, image

Headers = dict[str, str]


@pytest.fixture
async def house(empty_database: str, pool: Database) -> AsyncIterator[House]:
    ledger = Ledger(empty_database)
    house = House(ledger=ledger)
    await ledger.run()
    projecting = asyncio.create_task(Projector(pool, house.log, projections()).run())
    yield house
    projecting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await projecting
    await ledger.close()


@pytest.fixture
async def ran(http: Client, anna: Headers) -> int:
    """An image of anna's: one container ran for a minute and stopped, one runs since 1970."""
    image_id = await image(http, anna)
    one, _ = await create(http, anna, image_id, count=2)
    await http.post(f"/api/containers/{one['id']}/stop", headers=anna)
    return image_id


async def test_a_bill_is_the_sum_of_what_it_shows(
    http: Client, anna: Headers, ran: int, house: House
) -> None:
    summary = await (await http.get("/api/v1/billing/summary", headers=anna)).json()
    (bill,) = summary["images"]
    assert (bill["containers"], bill["active_containers"], bill["ordinal"]) == (2, 1, ran)
    image_id = bill["image_id"]
    detail = await (await http.get(f"/api/v1/billing/images/{image_id}", headers=anna)).json()
    ended = next(one for one in detail["intervals"] if one["end_ms"] is not None)
    assert (ended["minutes"], ended["cents"], ended["end_ms"] - ended["start_ms"]) == (1, 1, 60_000)
    assert detail["bill"]["cents"] == sum(one["cents"] for one in detail["intervals"])
    assert detail["bill"]["total"] == f"{detail['bill']['cents'] / 100:.2f}"
    pages, after = [], 0
    while after is not None:
        got = await (await http.get(f"/api/v1/billing/intervals?limit=1&after={after}", headers=anna)).json()
        pages.append([one["run"] for one in got["items"]])
        after = got["next"]
    assert pages == [[1], [1]]


async def test_a_restarted_container_is_billed_for_both_its_runs(
    http: Client, anna: Headers, ran: int
) -> None:
    listed = await (await http.get("/api/containers", headers=anna)).json()
    stopped = next(one for one in listed if one["status"] == "stopped")
    await http.post(f"/api/containers/{stopped['id']}/start", headers=anna)
    await http.post(f"/api/containers/{stopped['id']}/stop", headers=anna)
    detail = await (await http.get(f"/api/billing/images/{ran}", headers=anna)).json()
    ended = [one for one in detail["containers"] if one["status"] == "Completed"]
    assert [one["duration_minutes"] for one in ended] == [1, 1]


async def test_the_old_shapes_of_a_bill(http: Client, anna: Headers, ran: int) -> None:
    (summary,) = await (await http.get("/api/billing/images", headers=anna)).json()
    assert set(summary) == {
        "image_id",
        "total_containers",
        "total_minutes",
        "total_cost",
        "active_containers",
        "last_activity",
    }
    assert (summary["image_id"], summary["total_containers"], summary["active_containers"]) == (ran, 2, 1)
    detail = await (await http.get(f"/api/billing/images/{ran}", headers=anna)).json()
    assert detail["image_id"] == ran
    ended = next(one for one in detail["containers"] if one["status"] == "Completed")
    assert (ended["duration_minutes"], ended["cost"]) == (1, 0.01)
    assert ended["start_time"] == "1970-01-01T00:00:01+00:00"
    active = next(one for one in detail["containers"] if one["status"] == "Active")
    assert active["end_time"] is None


async def test_nobody_sees_anothers_bill(http: Client, anna: Headers, bert: Headers, ran: int) -> None:
    assert await (await http.get("/api/billing/images", headers=bert)).json() == []
    assert (await http.get(f"/api/billing/images/{ran}", headers=bert)).status == 404
    summary = await (await http.get("/api/v1/billing/summary", headers=bert)).json()
    assert (summary["images"], summary["total"]) == ([], "0.00")
    mine = await (await http.get("/api/v1/billing/summary", headers=anna)).json()
    image_id = mine["images"][0]["image_id"]
    assert (await http.get(f"/api/v1/billing/images/{image_id}", headers=bert)).status == 404
    of_image = await http.get(f"/api/v1/billing/intervals?image_id={image_id}", headers=bert)
    assert (await of_image.json())["items"] == []


async def test_a_deleted_images_bill_stays(http: Client, anna: Headers, ran: int) -> None:
    for one in await (await http.get("/api/containers", headers=anna)).json():
        await http.delete(f"/api/containers/{one['id']}", headers=anna)
    assert (await http.delete(f"/api/images/{ran}", headers=anna)).status == 200
    detail = await (await http.get(f"/api/billing/images/{ran}", headers=anna)).json()
    assert [one["status"] for one in detail["containers"]] == ["Completed", "Completed"]


async def test_prices_are_the_operators_and_never_change_backwards(
    http: Client, anna: Headers, bert: Headers
) -> None:
    path = "/api/v1/billing/prices"
    assert (await (await http.get(path, headers=bert)).json())["minute_nanos"] == 10_000_000
    assert (await http.post(path, json={"minute_nanos": 5}, headers=bert)).status == 403
    assert (await http.post(path, json={"minute_nanos": 5, "from_ms": 1}, headers=anna)).status == 409
    for bad in ({"minute_nanos": -1}, {"minute_nanos": 0.5}, {}, {"minute_nanos": 1, "currency": "EUR"}):
        assert (await http.post(path, json=bad, headers=anna)).status == 422
    assert (await http.post(path, json={"minute_nanos": 5}, headers=anna)).status == 200
    assert (await (await http.get(path, headers=bert)).json())["minute_nanos"] == 5


async def test_the_audit_shows_what_happened_page_by_page_in_whole_commits(
    http: Client, anna: Headers, bert: Headers, ran: int
) -> None:
    everything = await (await http.get("/api/v1/events?limit=1000", headers=anna)).json()
    assert everything["next"] is None
    assert {one["tenant"] for one in everything["items"]} == {everything["items"][0]["tenant"]}
    seen, before = [], 1 << 50
    while before is not None:
        got = await (await http.get(f"/api/v1/events?limit=1&before={before}", headers=anna)).json()
        seen += got["items"]
        before = got["next"]
    assert seen == everything["items"]
    started = await (await http.get("/api/v1/events?event=ContainerStarted", headers=anna)).json()
    assert len(started["items"]) == 2
    assert (await (await http.get("/api/v1/events", headers=bert)).json())["items"] == []
    for bad in ("limit=0", "before=x", "key=%00"):
        assert (await http.get(f"/api/v1/events?{bad}", headers=anna)).status in (400, 422)


async def test_a_build_log_is_read_from_its_end(
    http: Client, anna: Headers, pool: Database, house: House
) -> None:
    image_id = await image(http, anna)
    (known,) = house.views.catalog.all()
    await pool.execute(
        "insert into build_logs values (1, 't', $1, 1, 'step one\nstep two\n')", known.image_id
    )
    whole = await (await http.get(f"/api/images/{image_id}/build-logs", headers=anna)).json()
    assert whole == {"image_id": image_id, "status": "registered", "logs": "step one\nstep two\n"}
    end = await http.get(f"/api/v1/images/{known.image_id}/build-log?tail=4", headers=anna)
    assert (await end.json())["text"] == "two\n"


async def test_health_is_whole_when_everything_is_there(http: Client) -> None:
    assert (await (await http.get("/health")).json())["status"] == "healthy"


async def test_without_a_database_bills_wait_and_the_rest_works() -> None:
    async with House().open() as http:
        anna = await signed_in(http, "anna")
        for path in (
            "/api/v1/billing/summary",
            "/api/v1/billing/intervals",
            "/api/v1/events",
            "/api/billing/images",
            "/api/billing/images/1",
        ):
            answer = await http.get(path, headers=anna)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert (await http.get("/api/v1/images", headers=anna)).status == 200


async def test_a_database_that_goes_away_meanwhile_is_said_to_be_away(
    http: Client, anna: Headers, house: House, pool: Database
) -> None:
    assert (await http.get("/api/v1/billing/summary", headers=anna)).status == 200
    end = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
    await pool.execute(end)
    found = {(await http.get("/api/v1/billing/summary", headers=anna)).status for _ in range(3)}
    assert found <= {200, 503}
