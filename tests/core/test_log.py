"""What any log promises, kept by the one in memory and the one in JetStream alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count
from typing import Any

import msgspec
import pytest

from core.bus import Bus
from core.contexts import Stream
from core.jetstream import JetStreamLog, create_streams
from core.log import Append, Commit, Conflict, Decision, Log, Recorded, encode, events_of
from core.memory import MemoryLog
from core.messages.fleet import NodeCordoned, NodeId, NodeUncordoned
from core.messages.names import NameId, NameReserved
from tests.broker import Broker

ONE, TWO = Stream("_", "fleet", "one"), Stream("_", "fleet", "two")
NAME = Stream("_", "names", "hostname:web")

_numbers = count(1)


@pytest.fixture(params=["memory", "jetstream"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield MemoryLog()
        return
    broker: Broker = request.getfixturevalue("broker")
    bus = await Bus.connect(broker.url, "test")
    await create_streams(bus)
    yield JetStreamLog(bus)
    await bus.close()


def commit(*events: Any, version: int = 1, state: bytes = b"null") -> Commit:
    number = next(_numbers)
    decision = Decision(f"c{number}", number, "tester", f"r{number}", list(events))
    return Commit(version, number, [decision], msgspec.Raw(state))


def cordoned(node: str) -> NodeCordoned:
    return NodeCordoned(NodeId(node), 1)


def uncordoned(node: str) -> NodeUncordoned:
    return NodeUncordoned(NodeId(node), 2)


def told(batch: list[Recorded]) -> list[Any]:
    return [event for recorded in batch for event in events_of(recorded)]


async def test_an_unwritten_stream_is_empty(log: Log) -> None:
    assert await log.last(ONE) is None
    assert await log.read(ONE) == []
    assert await log.end() == 0


async def test_a_stream_reads_back_what_was_appended(log: Log) -> None:
    assert await log.append(Append(ONE, 0, commit(cordoned("one")))) == 1
    assert await log.append(Append(TWO, 0, commit(cordoned("two")))) == 2
    assert await log.append(Append(ONE, 1, commit(uncordoned("one"), version=2))) == 3
    assert told(await log.read(ONE)) == [cordoned("one"), uncordoned("one")]
    assert told(await log.read(ONE, after=1)) == [uncordoned("one")]
    assert await log.end() == 3


async def test_the_last_commit_carries_its_state_and_its_place(log: Log) -> None:
    first, second = commit(cordoned("one")), commit(uncordoned("one"), version=2, state=b'{"a":1}')
    await log.append(Append(ONE, 0, first))
    await log.append(Append(ONE, 1, second))
    last = await log.last(ONE)
    assert last is not None
    assert (last.position, last.stream, last.commit.version, last.commit.answers) == (
        2,
        ONE,
        2,
        second.answers,
    )
    assert bytes(last.commit.state) == b'{"a":1}'
    assert last.at_ms > 0


async def test_who_has_not_read_the_latest_commit_may_not_write(log: Log) -> None:
    await log.append(Append(ONE, 0, commit(cordoned("one"))))
    with pytest.raises(Conflict):
        await log.append(Append(ONE, 0, commit(cordoned("one"))))
    assert await log.end() == 1


async def test_an_append_over_several_streams_is_whole_or_not_at_all(log: Log) -> None:
    reserved = commit(NameReserved(NameId("hostname:web"), "one"))
    assert await log.append(Append(NAME, 0, reserved), Append(ONE, 0, commit(cordoned("one")))) == 2
    with pytest.raises(Conflict):
        await log.append(Append(NAME, 0, reserved), Append(TWO, 0, commit(cordoned("two"))))
    assert await log.last(TWO) is None
    assert await log.end() == 2


async def test_of_many_writers_with_the_same_expectation_one_wins(log: Log) -> None:
    outcomes = await asyncio.gather(
        *(log.append(Append(ONE, 0, commit(cordoned("one")))) for _ in range(20)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 19 + ["int"]


async def test_a_follower_sees_the_past_and_then_the_present(log: Log) -> None:
    await log.append(Append(ONE, 0, commit(cordoned("one"))))
    await log.append(Append(ONE, 1, commit(uncordoned("one"), version=2)))
    async with aclosing(log.follow(after=1)) as follower:
        assert told(await anext(follower)) == [uncordoned("one")]
        waiting = asyncio.ensure_future(anext(follower))
        await log.append(Append(TWO, 0, commit(cordoned("two"))))
        assert [r.position for r in await asyncio.wait_for(waiting, 5)] == [3]


async def test_a_follower_of_one_context_hears_nothing_of_the_others(log: Log) -> None:
    await log.append(Append(ONE, 0, commit(cordoned("one"))))
    await log.append(Append(NAME, 0, commit(NameReserved(NameId("hostname:web"), "one"))))
    async with aclosing(log.follow("names")) as follower:
        assert [r.stream for r in await anext(follower)] == [NAME]


async def test_a_commit_may_tell_of_thousands_of_events(log: Log) -> None:
    """As when a large node is offered to a long queue."""
    await log.append(Append(ONE, 0, commit(*[cordoned("one")] * 10_000)))
    assert len(told(await log.read(ONE))) == 10_000


async def test_equal_commits_are_equal_bytes(log: Log) -> None:
    written = commit(cordoned("one"), state=b'{"b":1}')
    await log.append(Append(ONE, 0, written))
    last = await log.last(ONE)
    assert last is not None
    assert encode(last.commit) == encode(written)
