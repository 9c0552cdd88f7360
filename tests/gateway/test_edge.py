"""What holds at every door: how it refuses, correlation, positions, headers, other origins, repetition."""

import asyncio
import re
from collections.abc import AsyncIterator
from io import BytesIO

import pytest

from core.log import Unavailable
from tests.gateway.house import POLICY, Client, House, strict

Headers = dict[str, str]
IMAGE = {
    "name": "web",
    "tag": "1",
    "source": {"type": "Reference", "ref": "web:1"},
    "hostname": "web.example",
}


@pytest.mark.parametrize(
    ("body", "kind", "status", "field"),
    [
        (b"", "application/json", 422, []),
        (b"{", "application/json", 422, []),
        (b"[]", "application/json", 422, []),
        (b'"x"', "application/json", 422, []),
        (b"\xff\xfe", "application/json", 422, []),
        (b'{"name": "\\ud800"}', "application/json", 422, None),
        (b"[" * 100_000, "application/json", 422, []),
        (b'{"a":' * 50_000, "application/json", 422, []),
        (b'{"name": 7}', "application/json", 422, ["name"]),
        (b'{"name": "x", "colour": "red"}', "application/json", 422, ["colour"]),
        (b'{"name": null}', "application/json", 422, ["name"]),
        (b"name=web", "application/x-www-form-urlencoded", 415, None),
    ],
)
async def test_a_bad_body_is_a_clear_no_and_changes_nothing(
    http: Client, anna: Headers, house: House, body: bytes, kind: str, status: int, field: list[str] | None
) -> None:
    before = len(house.log.recorded)
    answer = await http.post("/api/v1/keys", data=body, headers={**anna, "Content-Type": kind})
    assert answer.status == status, await answer.text()
    detail = (await answer.json())["detail"]
    if field is not None:
        assert detail[0]["loc"] == ["body", *field]
        assert set(detail[0]) == {"loc", "msg", "type"}
    assert len(house.log.recorded) == before


async def test_a_huge_body_is_refused_before_it_is_read(http: Client, anna: Headers) -> None:
    for body in (BytesIO(bytes(2 << 20)), pieces(b"x" * (2 << 20))):
        about = {**anna, "Content-Type": "application/json"}
        answer = await http.post("/api/v1/keys", data=body, headers=about)
        assert (answer.status, await answer.json()) == (413, {"detail": "The body is larger than it may be."})


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"port": 0}, ["body", "port"]),
        ({"port": "8080"}, ["body", "port"]),
        ({"port": 8080.5}, ["body", "port"]),
        ({"port": True}, ["body", "port"]),
        ({"port": 10**30}, ["body", "port"]),
        ({"name": "../etc"}, ["body", "name"]),
        ({"tag": "a b"}, ["body", "tag"]),
        ({"hostname": "http://https://x.com"}, ["body", "hostname"]),
        ({"hostname": ""}, ["body", "hostname"]),
        ({"hostname": "*.example"}, ["body", "hostname"]),
        ({"hostname": 5}, ["body", "hostname"]),
        ({"hostname": "127.0.0.1"}, ["body", "hostname"]),
        ({"hostname": "[::1]"}, ["body", "hostname"]),
        ({"hostname": "LOCALHOST:8080"}, ["body", "hostname"]),
        ({"hostname": "www.platform.example"}, ["body", "hostname"]),
        ({"resources": {"cpu_milli": 0}}, ["body", "resources", "cpu_milli"]),
        ({"resources": {"memory_mib": -1}}, ["body", "resources", "memory_mib"]),
        ({"resources": {"gpu": 1}}, ["body", "resources", "gpu"]),
        ({"min_instances": 3, "max_instances": 2}, ["body", "min_instances"]),
        ({"max_instances": 1001}, ["body", "max_instances"]),
        ({"source": {"type": "Magic"}}, ["body", "source", "type"]),
        ({"source": {"type": "Reference"}}, ["body", "source", "ref"]),
        ({"source": {"type": "Archive", "object": "x", "sha256": "0" * 64, "bytes": 1}}, ["body", "source"]),
        ({"image_id": "img_mine"}, ["body", "image_id"]),
        ({"owner": "usr_other"}, ["body", "owner"]),
        ({"at_ms": 1}, ["body", "at_ms"]),
        ({"type": "DeleteImage"}, ["body", "type"]),
    ],
)
async def test_a_bad_field_is_named(
    http: Client, anna: Headers, house: House, change: dict[str, object], loc: list[str]
) -> None:
    answer = await http.post("/api/v1/images", json={**IMAGE, **change}, headers=anna)
    assert answer.status == 422, await answer.text()
    assert (await answer.json())["detail"][0]["loc"] == loc
    assert not house.views.catalog.all()


@pytest.mark.parametrize(
    ("query", "field"),
    [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"), ("limit=-1", "limit"),
     ("after=x", "after"), ("after=-1", "after"), ("limit=²", "limit"), ("limit=", "limit")],
)  # fmt: skip
async def test_bad_paging_is_named(http: Client, anna: Headers, query: str, field: str) -> None:
    answer = await http.get(f"/api/v1/images?{query}", headers=anna)
    assert (answer.status, (await answer.json())["detail"][0]["loc"]) == (422, ["query", field])


STRANGE = (
    "Idempotency-Key: \xff",
    "Idempotency-Key: ",
    "Authorization: Bearer \xff.\xff.\xff",
    "Cookie: access_token=\xff",
    "Stratus-Position: \xb2",
    "X-Correlation-ID: \xff",
    "Last-Event-ID: \xff",
    "Origin: \xff",
    "Sec-Fetch-Site: \xff",
    "Content-Type: \xff",
    "Content-Type: application/json; charset=\xff",
    "Content-Length: 9999999999999999999999",
)


@pytest.mark.parametrize("header", STRANGE)
@pytest.mark.parametrize(
    "path", ["/api/v1/keys", "/api/v1/keys/%ff", "/api/images/%ff%fe", "/auth/login", "/route"]
)
async def test_strange_headers_and_paths_are_no_fault_of_ours(
    http: Client, anna: Headers, header: str, path: str
) -> None:
    name = header.partition(":")[0]
    lines = [f"{k}: {v}" for k, v in anna.items() if k != name]
    for method in ("GET", "POST"):
        head = "\r\n".join(
            [f"{method} {path} HTTP/1.1", "Host: localhost", *lines, header, "Connection: close"]
        )
        length = "" if "Content-Length" in header or method == "GET" else "\r\nContent-Length: 0"
        reader, writer = await asyncio.open_connection("127.0.0.1", http.port)
        writer.write(f"{head}{length}\r\n\r\n".encode("latin-1"))
        async with asyncio.timeout(5):
            text = await reader.read()
        writer.close()
        assert re.match(rb"HTTP/1\.[01] (20\d|4\d\d) ", text), text[:300]


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 1 << 16):
        yield body[at : at + (1 << 16)]


async def test_lists_come_in_pages(http: Client, anna: Headers) -> None:
    for n in range(5):
        assert (await http.post("/api/v1/keys", json={"name": f"k{n}"}, headers=anna)).status == 201
    seen, after = [], 0
    while after is not None:
        page = await (await http.get(f"/api/v1/keys?limit=2&after={after}", headers=anna)).json()
        seen.append([one["name"] for one in page["items"]])
        after = page["next"]
    assert seen == [["k0", "k1"], ["k2", "k3"], ["k4"]]


async def test_what_is_not_there_and_what_is_not_allowed_say_so_in_json(http: Client, anna: Headers) -> None:
    missing = await http.get("/api/v2/nothing")
    assert (missing.status, await missing.json()) == (404, {"detail": "There is nothing here."})
    wrong = await http.patch("/api/v1/images", headers=anna)
    assert (wrong.status, await wrong.json()) == (405, {"detail": "This method is not allowed here."})
    assert "GET" in wrong.headers["Allow"]


async def test_foreign_things_are_as_unknown_as_none(http: Client, anna: Headers, bert: Headers) -> None:
    """B-28c: who asks is what the credential says."""
    image = await (await http.post("/api/v1/images", json=IMAGE, headers=anna)).json()
    there, nowhere = f"/api/v1/images/{image['image_id']}", "/api/v1/images/img_0000000000000000"
    for method in ("GET", "DELETE"):
        foreign = await http.request(method, there, headers=bert)
        unknown = await http.request(method, nowhere, headers=bert)
        assert (foreign.status, await foreign.read()) == (404, await unknown.read())
    assert (await http.get(there, headers=anna)).status == 200


@pytest.mark.parametrize("given", ["abc-123", "x" * 128, "~!@"])
async def test_a_correlation_id_comes_back_and_goes_into_the_log(
    http: Client, anna: Headers, house: House, given: str
) -> None:
    about = {**anna, "X-Correlation-ID": given}
    answer = await http.post("/api/v1/keys", json={"name": "k"}, headers=about)
    assert answer.headers["X-Correlation-ID"] == given
    assert house.log.recorded[-1].commit.decisions[0].correlation == given


@pytest.mark.parametrize("given", [None, "x" * 129, "a b", "ü"])
async def test_no_or_a_strange_correlation_id_is_replaced(http: Client, given: str | None) -> None:
    answer = await http.get("/health", headers={"X-Correlation-ID": given} if given else {})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Correlation-ID"])


async def test_every_answer_is_protected_and_says_little(http: Client) -> None:
    for path in ("/", "/docs", "/api/v1/images", "/nothing", "/openapi.json"):
        answer = await http.get(path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in answer.headers
    assert "default-src 'self'" in (await http.get("/docs")).headers["Content-Security-Policy"]


async def test_listed_origins_may_call_others_may_not(http: Client) -> None:
    """B-28g."""
    good, evil = POLICY.origins[0], "http://evil.example"
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = await http.options("/api/v1/images", headers={"Origin": good, **ask})
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == good
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization"
    assert (await http.get("/health", headers={"Origin": good})).headers[
        "Access-Control-Allow-Origin"
    ] == good
    for refused in (
        await http.options("/api/v1/images", headers={"Origin": evil, **ask}),
        await http.get("/health", headers={"Origin": evil}),
    ):
        assert "Access-Control-Allow-Origin" not in refused.headers


async def test_a_write_can_be_read_at_its_position(http: Client, anna: Headers, house: House) -> None:
    made = await http.post("/api/v1/keys", json={"name": "k"}, headers=anna)
    position = made.headers["Stratus-Position"]
    assert int(position) == house.views.position
    read = await http.get("/api/v1/keys", headers={**anna, "Stratus-Position": position})
    assert len((await read.json())["items"]) == 1


async def test_a_position_that_is_not_reached_is_no_answer(anna: Headers) -> None:
    async with House(strict(settle_s=0.05)).open() as http:
        beyond = await http.get("/health", headers={"Stratus-Position": "999999"})
        assert (beyond.status, beyond.headers["Retry-After"]) == (503, "1")
        bad = await http.get("/health", headers={"Stratus-Position": "soon"})
        assert (await bad.json())["detail"][0]["loc"] == ["header", "Stratus-Position"]


async def test_a_request_sent_again_with_its_key_has_one_effect(
    http: Client, anna: Headers, bert: Headers, house: House
) -> None:
    again = {**anna, "Idempotency-Key": "one"}
    first = await (await http.post("/api/v1/images", json=IMAGE, headers=again)).json()
    second = await http.post("/api/v1/images", json=IMAGE, headers=again)
    assert (second.status, await second.json()) == (201, first)
    assert len(house.views.catalog.all()) == 1
    keys = [
        (await (await http.post("/api/v1/keys", json={"name": "k"}, headers=again)).json())["key"]
        for _ in range(2)
    ]
    assert keys[0] == keys[1]
    assert (await http.get("/api/v1/images", headers={"Authorization": f"Bearer {keys[0]}"})).status == 200
    other = {**bert, "Idempotency-Key": "one"}
    assert (await (await http.post("/api/v1/keys", json={"name": "k"}, headers=other)).json())["key"] != keys[
        0
    ]


async def test_another_request_under_the_same_key_is_a_conflict(http: Client, anna: Headers) -> None:
    again = {**anna, "Idempotency-Key": "one"}
    assert (await http.post("/api/v1/images", json=IMAGE, headers=again)).status == 201
    assert (await http.post("/api/v1/images", json={**IMAGE, "port": 81}, headers=again)).status == 409


async def test_a_queue_that_is_away_is_said_to_be_away(http: Client, anna: Headers, house: House) -> None:
    async def away(*_: object, **__: object) -> int:
        raise Unavailable("the queue did not acknowledge the command")

    house.commands.send = away  # type: ignore[method-assign]
    answer = await http.post("/api/v1/keys", json={"name": "k"}, headers=anna)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_what_nobody_foresaw_says_nothing_but_where_to_look(
    http: Client, anna: Headers, house: House
) -> None:
    async def broken(*_: object, **__: object) -> int:
        raise RuntimeError("secret detail")

    house.commands.send = broken  # type: ignore[method-assign]
    answer = await http.post("/api/v1/keys", json={"name": "k"}, headers=anna)
    assert answer.status == 500
    assert "secret detail" not in await answer.text()
    assert answer.headers["X-Correlation-ID"]


async def test_health_tells_the_truth(http: Client, house: House) -> None:
    answer = await http.get("/health")
    health = await answer.json()
    assert (answer.status, health["status"]) == (200, "degraded")  # there is no database in these tests
    assert {name: one["status"] for name, one in health["components"].items()} == {
        "log": "connected",
        "database": "disconnected",
        "containers": "connected",
    }

    async def away() -> int:
        raise Unavailable("not connected to NATS")

    house.log.end = away  # type: ignore[method-assign]
    answer = await http.get("/health")
    assert (answer.status, (await answer.json())["status"]) == (503, "unhealthy")


async def test_a_slash_at_the_end_changes_nothing(http: Client, anna: Headers) -> None:
    for path in ("/api/v1/images", "/api/images", "/health", "/auth/me"):
        assert (await http.get(path, headers=anna)).status == 200
        assert (await http.get(path + "/", headers=anna)).status == 200
