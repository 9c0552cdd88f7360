"""The live stream of events: one's own, in order, from where one left off, and never piling up."""

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest

from core.commands import Commands
from core.contexts import PLATFORM
from core.memory import MemoryLog
from core.messages.fleet import RegisterNode
from gateway.feed import Feed, FellBehind
from gateway.routes import events
from handlers.deciders import DECIDERS, STATES
from handlers.local import LocalCommands
from tests.gateway.house import Client, House
from tests.gateway.test_catalog import register

Headers = dict[str, str]
PATH = "/api/v1/events/stream"


async def frames(answer: aiohttp.ClientResponse, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            text = (await answer.content.readuntil(b"\n\n")).decode()
            if text.startswith(":"):
                continue
            frame = dict(line.split(": ", 1) for line in text.strip().split("\n"))
            found.append({**frame, "data": msgspec.json.decode(frame["data"])})
    return found


async def opened(http: Client, headers: Headers, query: str = "") -> aiohttp.ClientResponse:
    answer = await http.get(PATH + query, headers=headers)
    assert answer.status == 200, await answer.text()
    assert answer.content_type == "text/event-stream"
    assert await answer.content.readuntil(b"\n\n") == b": stream open\n\n"
    return answer


async def test_events_arrive_as_they_happen_and_only_ones_own(
    http: Client, anna: Headers, bert: Headers
) -> None:
    mine, other = await opened(http, anna), await opened(http, bert)
    await register(http, anna, hostname="a.example")
    await register(http, bert, hostname="b.example")
    (first,) = await frames(mine, 1)
    (second,) = await frames(other, 1)
    assert first["event"] == second["event"] == "ImageRegistered"
    assert first["data"]["event"]["hostname"] == "a.example"
    assert second["data"]["event"]["hostname"] == "b.example"
    assert int(first["id"]) == first["data"]["position"]
    mine.close()
    other.close()


async def test_who_comes_back_misses_nothing_and_sees_nothing_twice(http: Client, anna: Headers) -> None:
    answer = await opened(http, anna)
    await register(http, anna, hostname="a.example")
    (first,) = await frames(answer, 1)
    answer.close()
    await register(http, anna, hostname="b.example")
    again = await opened(http, {**anna, "Last-Event-ID": first["id"]})
    await register(http, anna, hostname="c.example")
    got = await frames(again, 2)
    assert [one["data"]["event"]["hostname"] for one in got] == ["b.example", "c.example"]
    again.close()


async def test_the_whole_past_can_be_asked_for(http: Client, anna: Headers) -> None:
    image_id = await register(http, anna)
    await http.post(f"/api/v1/images/{image_id}/containers", json={}, headers=anna)
    answer = await opened(http, anna, "?after=0")
    got = await frames(answer, 8)
    names = [one["event"] for one in got]
    assert names.index("UserRegistered") < names.index("ImageRegistered") < names.index("InstancesLaunched")
    answer.close()


async def test_only_the_last_event_of_a_commit_can_be_resumed_after(http: Client, anna: Headers) -> None:
    image_id = await register(http, anna)
    answer = await opened(http, anna)
    await http.post(f"/api/v1/images/{image_id}/containers", json={}, headers=anna)
    got = await frames(answer, 3)
    created = next(n for n, one in enumerate(got) if one["event"] == "ContainerCreated")
    assert "id" not in got[created]
    assert int(got[created + 1]["id"]) == got[created + 1]["data"]["position"]
    answer.close()


@pytest.mark.parametrize(
    ("headers", "query", "place"),
    [({"Last-Event-ID": "x"}, "", "header"), ({}, "?after=-1", "query"), ({}, "?after=" + "9" * 30, "query")],
)
async def test_a_strange_position_is_named(
    http: Client, anna: Headers, headers: Headers, query: str, place: str
) -> None:
    answer = await http.get(PATH + query, headers={**anna, **headers})
    assert (answer.status, (await answer.json())["detail"][0]["loc"][0]) == (422, place)


async def test_a_stream_needs_a_token_and_ends_with_its_session(
    http: Client, anna: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await http.get(PATH)).status == 401
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    answer = await opened(http, anna)
    await http.post("/api/v1/auth/sign-out", headers=anna)
    async with asyncio.timeout(5):
        assert not [one async for one in answer.content if one.startswith(b"event: Image")]


async def test_one_user_can_not_take_all_the_streams(
    http: Client, anna: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "WATCHERS_MAX", 1)
    answer = await opened(http, anna)
    assert (await http.get(PATH, headers=anna)).status == 429
    answer.close()
    async with asyncio.timeout(5):
        while (again := await http.get(PATH, headers=anna)).status == 429:
            await asyncio.sleep(0)
    assert again.status == 200
    again.close()


async def happen(commands: Commands, first: int, last: int) -> None:
    for n in range(first, last + 1):
        node = RegisterNode(
            node_id=f"node-{n}",
            cluster_id="default",
            address="10.0.0.1",
            engine="docker",
            cpu_milli=1000,
            memory_mib=1024,
            at_ms=n,
        )
        await commands.send(node, PLATFORM)


async def test_a_reader_that_falls_behind_is_told_and_reads_on_later() -> None:
    log = MemoryLog()
    commands, feed = LocalCommands(log, DECIDERS, STATES), Feed(log, kept=3)
    await feed.start()
    following = asyncio.create_task(feed.follow())
    await happen(commands, 1, 1)
    reader = feed.read(0)
    assert [one.position for one in await anext(reader)] == [1]
    await happen(commands, 2, 9)
    async with asyncio.timeout(5):
        while feed.end < 9:
            await asyncio.sleep(0)
    with pytest.raises(FellBehind):
        await anext(reader)
    again = feed.read(1)
    assert (await anext(again))[0].position == 2
    await again.aclose()
    following.cancel()


async def test_readers_end_when_the_feed_does(house: House) -> None:
    feed = Feed(house.log)
    following = asyncio.create_task(feed.follow())
    reader = feed.read(0)
    waiting = asyncio.create_task(anext(reader, None))
    await asyncio.sleep(0)
    feed.close()
    assert await asyncio.wait_for(waiting, 5) is None
    following.cancel()
