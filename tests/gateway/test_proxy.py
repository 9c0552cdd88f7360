"""The data plane, by behaviour: what reaches a tenant, what reaches a visitor, and what reaches nobody."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator

import aiohttp
import jwt
import pytest

from tests.broker import free_port
from tests.gateway.conftest import signed_in
from tests.gateway.house import Client, House, strict
from tests.gateway.test_catalog import register
from tests.gateway.test_containers import until_ready
from tests.gateway.upstream import Upstream

Headers = dict[str, str]
SITE = {"Host": "web.example"}


@pytest.fixture
async def upstreams(house: House) -> AsyncIterator[list[Upstream]]:
    made = [Upstream("one"), Upstream("two")]
    for upstream in made:
        await upstream.server.start_server()
    house.backends = [upstream.address for upstream in made]
    yield made
    for upstream in made:
        await upstream.server.close()


@pytest.fixture
async def site(upstreams: list[Upstream], http: Client, anna: Headers, house: House) -> Client:
    """A platform where web.example has two instances."""
    await serve(http, anna, house)
    return http


async def serve(http: Client, headers: Headers, house: House, count: int = 2) -> None:
    image_id = await register(http, headers)
    answer = await http.post(f"/api/v1/images/{image_id}/containers", json={"count": count}, headers=headers)
    await until_ready(house, await answer.json())


async def names(site: Client, count: int, **headers: str) -> list[str]:
    return [(await (await site.get("/", headers={**SITE, **headers})).json())["name"] for _ in range(count)]


async def test_the_instances_take_turns(site: Client) -> None:
    assert await names(site, 4) in (["one", "two"] * 2, ["two", "one"] * 2)


async def test_method_path_query_and_body_arrive_as_they_were_sent(site: Client) -> None:
    """B-28d."""
    path = "/a%20b/c%2Fd;x=1/%F0%9F%8C%8D?q=1&q=2&empty=&plus=a+b%2B"
    answer = await site.session.request(
        "PATCH", f"{site.make_url('')}".rstrip("/") + path, data=b"hello", headers=SITE
    )
    got = await answer.json()
    assert (got["method"], got["body"]) == ("PATCH", "hello")
    raw = await raw_get(site, path)
    assert f'"path": "{path}"' in raw


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_path_of_a_site_is_the_sites(site: Client, method: str) -> None:
    for path in ("/api/v1/images", "/health", "/docs", "/auth/login", "/apps/x", "/openapi.json"):
        answer = await site.request(method, path, headers=SITE)
        assert (await answer.json())["path"] == path


async def test_the_former_entrance_leads_to_the_front_page(site: Client) -> None:
    assert (await (await site.get("/route?x=1", headers=SITE)).json())["path"] == "/?x=1"
    unknown = await site.get("/route", headers={"Host": "nobody.example"})
    assert unknown.status == 404
    assert (await site.get("/route", headers={"Host": "a b"})).status == 400


async def test_by_path_every_client_finds_a_site(site: Client) -> None:
    for path, arrives in (
        ("/apps/web.example", "/"),
        ("/apps/web.example/", "/"),
        ("/apps/WEB.example/a/b%20c?d=1", "/a/b%20c?d=1"),
        ("/apps/web.example?d=1", "/?d=1"),
    ):
        answer = await (await site.get(path, allow_redirects=False)).text()
        assert f'"path": "{arrives}"' in answer
    assert (await site.get("/apps/nobody.example/")).status == 404


async def test_www_and_ports_and_case_are_the_same_site(site: Client) -> None:
    for host in ("WEB.example", "web.example:8080", "www.web.example", "web.example."):
        assert (await site.get("/x", headers={"Host": host})).status == 200


async def test_the_platforms_credentials_never_reach_a_tenant(site: Client, anna: Headers) -> None:
    """B-28a."""
    key = (await (await site.post("/api/v1/keys", json={"name": "k"}, headers=anna)).json())["key"]
    token = anna["Authorization"].removeprefix("Bearer ")
    for credential in (anna["Authorization"], f"Bearer {key}", f"bearer  {token}"):
        cookie = f"theme=dark; access_token={token}; auth-token={token}; lang=en"
        about = {**SITE, "Authorization": credential, "Cookie": cookie}
        text = await (await site.get("/", headers=about)).text()
        assert token not in text
        assert key not in text
        assert ["Cookie", "theme=dark; lang=en"] in (await seen(site, about))
    only_ours = await seen(site, {**SITE, "Cookie": f"access_token={token}"})
    assert "Cookie" not in dict(only_ours)


async def test_a_tenants_own_credentials_reach_the_tenant(site: Client) -> None:
    token = jwt.encode({"sub": "7", "jti": "9"}, "a secret of the tenant, long enough", "HS256")
    for credential in ("Basic dXNlcjpwYXNz", "Bearer of-their-own", f"Bearer {token}", "Digest x"):
        headers = dict(await seen(site, {**SITE, "Authorization": credential, "Cookie": "session=1"}))
        assert (headers["Authorization"], headers["Cookie"]) == (credential, "session=1")


async def test_where_a_request_comes_from_is_our_word_not_the_visitors(site: Client) -> None:
    lies = {
        "X-Forwarded-For": "1.2.3.4",
        "X_Forwarded_For": "1.2.3.4",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "gopher",
        "X-Forwarded-Port": "1",
        "Forwarded": "for=1.2.3.4",
        "X-Real-IP": "1.2.3.4",
        "X-User-Id": "1",
        "X_User_Id": "1",
        "Stratus-Position": "nonsense",
        "Connection": "X-Secret, close",
        "X-Secret": "1",
        "Proxy-Authorization": "Basic x",
        "TE": "trailers",
        "X-Correlation-ID": "mine",
    }
    found = await seen(site, {**SITE, **lies})
    headers = dict(found)
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Host"] == headers["Host"] == "web.example"
    assert headers["X-Forwarded-Proto"] == "http"
    assert headers["X-Correlation-ID"] == "mine"
    kept = {name.lower() for name in headers}
    assert not kept & {
        "forwarded",
        "x-real-ip",
        "x-user-id",
        "x_user_id",
        "x_forwarded_for",
        "x-secret",
        "te",
    }
    assert not kept & {"proxy-authorization", "stratus-position", "x-forwarded-port"}


async def test_nothing_is_added_that_a_visitor_did_not_send(site: Client) -> None:
    raw = await raw_get(site, "/")
    asked = {name.lower() for name in re.findall(r'\["([A-Za-z-]+)", ', raw)}
    assert asked == {"host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-correlation-id"}


async def test_an_answer_comes_back_as_the_tenant_gave_it(site: Client) -> None:
    answer = await site.get("/", headers=SITE)
    assert answer.headers["Server"] == "tenant/1"
    assert answer.headers["X-Kept"] == "1"
    assert "X-Hop" not in answer.headers
    assert "X-Frame-Options" not in answer.headers
    assert len(answer.headers["X-Correlation-ID"]) == 32


async def test_what_is_packed_stays_packed(site: Client) -> None:
    """B-28d."""
    raw = await raw_get(site, "/gzip", decode=False)
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-encoding: gzip" in head.lower()
    assert gzip.decompress(body) == b"packed"


async def test_repeated_headers_stay_repeated_but_sign_nobody_in(site: Client) -> None:
    """B-28d."""
    answer = await site.get("/cookies", headers=SITE)
    assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2; Path=/"]


async def test_redirects_are_the_visitors_to_follow(site: Client) -> None:
    """B-28b: nothing of ours follows a tenant's redirect."""
    answer = await site.get("/redirect", headers=SITE, allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "http://169.254.169.254/latest/meta-data")


async def test_an_answer_without_a_body_stays_without(site: Client) -> None:
    answer = await site.get("/empty", headers=SITE)
    assert (answer.status, answer.headers["ETag"], await answer.read()) == (304, '"1"', b"")
    assert "Content-Type" not in answer.headers
    head = await site.head("/", headers=SITE)
    assert int(head.headers["Content-Length"]) > 0


async def test_under_our_own_origin_a_tenants_page_is_boxed_in(site: Client, anna: Headers) -> None:
    answer = await site.get("/apps/web.example/cookies")
    assert answer.headers["Content-Security-Policy"].startswith("sandbox ")
    assert "allow-same-origin" not in answer.headers["Content-Security-Policy"]
    assert "Clear-Site-Data" not in answer.headers
    assert "Content-Security-Policy" not in (await site.get("/cookies", headers=SITE)).headers
    assert ["X-Forwarded-Prefix", "/apps/web.example"] in await seen(site, {}, "/apps/web.example/")


async def test_events_pass_at_once_and_the_tenant_sees_the_visitor_leave(
    site: Client, upstreams: list[Upstream]
) -> None:
    answer = await site.get("/stream", headers=SITE)
    assert await answer.content.readuntil(b"\n\n") == b"data: one\n\n"
    answer.close()
    async with asyncio.timeout(5):
        await asyncio.wait(
            [asyncio.create_task(one.left.wait()) for one in upstreams],
            return_when=asyncio.FIRST_COMPLETED,
        )


async def test_a_large_body_streams_through(site: Client) -> None:
    """B-28d."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * (1 << 16)

    got = await (await site.post("/", data=body(), headers=SITE)).json()
    assert len(got["body"]) == 40 << 16


async def test_a_websocket_talks_both_ways(site: Client, anna: Headers) -> None:
    """B-28d."""
    for path, prefix in (("/talk?a=1", SITE), ("/apps/web.example/talk?a=1", {})):
        async with site.ws_connect(path, protocols=("chat",), headers={**prefix, **anna}) as socket:
            assert socket.protocol == "chat"
            assert await socket.receive_str() == "/talk?a=1 nobody"
            await socket.send_str("hello")
            assert await socket.receive_str() == "HELLO"
            await socket.send_bytes(b"\x00\xff" * 50_000)
            assert await socket.receive_bytes() == b"\xff\x00" * 50_000
            await socket.send_str("bye")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 4001


async def test_a_tenant_sees_a_websocket_close(site: Client, upstreams: list[Upstream]) -> None:
    async with site.ws_connect("/talk", headers=SITE) as socket:
        await socket.receive_str()
    async with asyncio.timeout(5):
        await asyncio.wait(
            [asyncio.create_task(one.left.wait()) for one in upstreams],
            return_when=asyncio.FIRST_COMPLETED,
        )


async def test_where_there_is_no_websocket_the_visitor_is_told(site: Client) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as no:
        await site.ws_connect("/nothing", headers=SITE)
    assert no.value.status == 502


async def test_a_dead_instance_is_passed_over(site: Client, upstreams: list[Upstream]) -> None:
    await upstreams[0].server.close()
    assert await names(site, 4) == ["two"] * 4
    sent = await site.post("/", data=b"once", headers=SITE)
    assert (sent.status, (await sent.json())["body"]) == (200, "once")
    async with site.ws_connect("/talk", headers=SITE) as socket:
        assert await socket.receive_str()


async def test_when_all_are_dead_it_is_said_so(site: Client, upstreams: list[Upstream]) -> None:
    for upstream in upstreams:
        await upstream.server.close()
    answer = await site.get("/", headers=SITE)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_half_an_answer_never_looks_whole(site: Client) -> None:
    answer = await site.get("/cut", headers=SITE)
    with pytest.raises(aiohttp.ClientPayloadError):
        await answer.read()


async def test_who_is_silent_for_too_long_is_given_up(upstreams: list[Upstream]) -> None:
    house = House(strict(upstream_head_s=0.1))
    house.backends = [upstreams[0].address]
    async with house.open() as http:
        await serve(http, await signed_in(http, "zoe"), house)
        assert (await http.get("/silent", headers=SITE)).status == 504


async def test_a_site_without_ready_instances_asks_for_patience(
    http: Client, anna: Headers, house: House
) -> None:
    await register(http, anna)
    answer = await http.get("/", headers=SITE)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await http.get("/apps/nobody.example/")).status == 404


async def test_an_unknown_host_gets_the_api_and_no_site(site: Client) -> None:
    answer = await site.get("/nothing", headers={"Host": "nobody.example"})
    assert (answer.status, await answer.json()) == (404, {"detail": "There is nothing here."})


async def test_a_stopped_instance_gets_nothing_any_more(site: Client, anna: Headers, house: House) -> None:
    listed = (await (await site.get("/api/v1/containers", headers=anna)).json())["items"]
    await site.post(f"/api/v1/containers/{listed[0]['container_id']}/stop", headers=anna)
    assert len(set(await names(site, 4))) == 1


@pytest.mark.parametrize(
    ("request_line", "headers"),
    [
        ("GET http://web.example/ HTTP/1.1", "Host: web.example"),
        ("GET http://127.0.0.1:1/ HTTP/1.1", "Host: web.example"),
        ("GET http://127.0.0.1:1/ HTTP/1.1", "Host: localhost"),
        ("GET /../x HTTP/1.1", "Host: web.example"),
        ("GET /a/../../x HTTP/1.1", "Host: web.example"),
        ("GET /%2e%2e/x HTTP/1.1", "Host: web.example"),
        ("GET /.%2E/x HTTP/1.1", "Host: web.example"),
        ("GET /..%2fx HTTP/1.1", "Host: web.example"),
        ("GET /..%5cx HTTP/1.1", "Host: web.example"),
        ("GET /a%00b HTTP/1.1", "Host: web.example"),
        ("GET /apps/web.example/../../health HTTP/1.1", "Host: localhost"),
        ("GET / HTTP/1.1", "Host: web.example\r\nHost: other.example"),
        ("GET / HTTP/1.1", "Host: web.example\r\nX-A : 1"),
        ("GET / HTTP/1.1", "Host: web.example\r\nBad\x00: 1"),
        ("POST / HTTP/1.1", "Host: web.example\r\nContent-Length: 3\r\nTransfer-Encoding: chunked"),
        ("POST / HTTP/1.1", "Host: web.example\r\nContent-Length: 3\r\nContent-Length: 4"),
        ("POST / HTTP/1.1", "Host: web.example\r\nContent-Length: +3"),
        ("POST / HTTP/1.1", "Host: web.example\r\nTransfer-Encoding: gzip, chunked, identity"),
        ("GET / HTTP/1.1", "Host: web.example\r\n folded: 1"),
    ],
)
async def test_crooked_requests_reach_nobody(
    site: Client, upstreams: list[Upstream], request_line: str, headers: str
) -> None:
    body = "abc" if request_line.startswith("POST") else ""
    text = await raw(site, f"{request_line}\r\n{headers}\r\nConnection: close\r\n\r\n{body}".encode())
    assert re.match(rb"HTTP/1\.[01] (400|501) ", text), text[:200]
    assert b"erver: Python" not in text
    assert sum(upstream.asked for upstream in upstreams) == 0


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"GET / HTTP/1.1", b"X-A: \xff\xfe"),
        (b"GET / HTTP/1.1", b"X-A: \xc3\xbc"),
        (b"GET / HTTP/1.1", b"Cookie: a=\xff"),
        (b"GET / HTTP/1.1", b"Authorization: Bearer \xff"),
        (b"GET / HTTP/1.1", b"Authorization: Bearer a.b.c\xff"),
        (b"GET /\xff\xfe HTTP/1.1", b"X-A: 1"),
        (b"GET /?a=\xff HTTP/1.1", b"X-A: 1"),
        (b"GET /%ff%fe?%ff HTTP/1.1", b"X-A: 1"),
        (b"FOO / HTTP/1.1", b"X-A: 1"),
    ],
)
async def test_strange_bytes_pass_or_are_refused_but_break_nothing(
    site: Client, line: bytes, header: bytes
) -> None:
    for host in (b"web.example", b"localhost"):
        text = await raw(
            site, line + b"\r\nHost: " + host + b"\r\n" + header + b"\r\nConnection: close\r\n\r\n"
        )
        assert re.match(rb"HTTP/1\.[01] (200|4\d\d) ", text), text[:200]


async def test_two_requests_on_one_connection_go_each_to_its_own(site: Client) -> None:
    one = b"GET /one HTTP/1.1\r\nHost: web.example\r\n\r\n"
    two = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    text = (await raw(site, one + two)).decode()
    assert text.index('"path": "/one"') < text.index('"service":"stratus"')


async def test_no_upstream_is_ever_taken_from_the_request(site: Client) -> None:
    """B-28b, B-28c: upstreams come from the routing table alone."""
    port = free_port()
    called = asyncio.Event()
    server = await asyncio.start_server(lambda *_: called.set(), "127.0.0.1", port)
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        await site.get("/", headers={"Host": host})
        await site.get(f"/apps/{host}/")
    server.close()
    assert not called.is_set()


async def seen(site: Client, headers: Headers, path: str = "/") -> list[list[str]]:
    found: list[list[str]] = (await (await site.get(path, headers=headers)).json())["headers"]
    return found


async def raw(site: Client, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    writer.write(data)
    async with asyncio.timeout(5):
        text = await reader.read()
    writer.close()
    return text


async def raw_get(site: Client, path: str, *, decode: bool = True):  # type: ignore[no-untyped-def]
    about = f"GET {path} HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n"
    text = await raw(site, about.encode())
    return text.decode() if decode else text
