"""The loop's own promises, with a decider made for breaking."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from core.commands import Declined
from core.contexts import Stream
from core.decider import Decider
from core.log import Append, Unavailable, events_of
from core.memory import MemoryLog
from core.message import Command
from core.messages.fleet import (
    CordonNode,
    FleetCommand,
    FleetEvent,
    NodeCordoned,
    NodeUncordoned,
    UncordonNode,
)
from core.messages.identity import RegisterUser
from core.messages.names import ReserveName, name_id
from handlers.deciders import DECIDERS, STATES
from handlers.local import LocalCommands

NODE = Stream("_", "fleet", "node-a")
cordon, uncordon = CordonNode("node-a", 1), UncordonNode("node-a", 1)


def toggling(breaks: int = 0, size: int = 0) -> Decider[FleetCommand, dict[str, Any], FleetEvent]:
    """Counts its events; fails on `CordonNode` so many times; has a state of so many bytes."""
    left = [breaks]

    def decide(command: FleetCommand, state: dict[str, Any]) -> list[FleetEvent]:
        if isinstance(command, CordonNode):
            if left[0]:
                left[0] -= 1
                raise ZeroDivisionError("a bug")
            return [NodeCordoned("node-a", command.at_ms)]  # type: ignore[arg-type]
        return [NodeUncordoned("node-a", 1)]  # type: ignore[arg-type]

    def evolve(state: dict[str, Any], event: FleetEvent) -> dict[str, Any]:
        return {"count": state["count"] + 1, "ballast": "x" * size}

    return Decider({"count": 0, "ballast": ""}, decide, evolve)


def over(
    log: MemoryLog, decider: Decider[Any, Any, Any], queue: itertools.count[int] | None = None
) -> LocalCommands:
    return LocalCommands(log, {"fleet": decider}, {"fleet": dict[str, Any]}, sequences=queue)


async def test_what_arrives_while_an_append_is_under_way_becomes_one_commit() -> None:
    log = MemoryLog()
    commands = over(log, toggling())
    await asyncio.gather(*(commands.send(cordon, "_") for _ in range(100)))
    assert sum(len(events_of(recorded)) for recorded in log.recorded) == 100
    assert len(log.recorded) <= 3


async def test_a_commit_does_not_outgrow_the_brokers_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.aggregate.TURN_BYTES_MAX", 200)
    log = MemoryLog()
    commands = over(log, toggling())
    await asyncio.gather(*(commands.send(cordon, "_") for _ in range(100)))
    sizes = [len(recorded.commit.decisions) for recorded in log.recorded]
    assert sum(sizes) == 100
    assert max(sizes) <= 4


async def test_what_is_too_large_together_is_written_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.memory.COMMIT_BYTES_MAX", 1000)
    log = MemoryLog()
    commands = over(log, toggling())
    await asyncio.gather(*(commands.send(cordon, "_") for _ in range(20)))
    assert sum(len(recorded.commit.decisions) for recorded in log.recorded) == 20
    assert commands.parked == []


async def test_what_is_too_large_by_itself_is_put_aside_and_those_behind_it_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker would cut the connection at each attempt, for ever."""
    monkeypatch.setattr("core.memory.COMMIT_BYTES_MAX", 2000)
    log = MemoryLog()

    def decide(command: FleetCommand, state: dict[str, Any]) -> list[FleetEvent]:
        times = 100 if isinstance(command, CordonNode) else 1
        return [NodeCordoned("node-a", 1)] * times  # type: ignore[arg-type]

    commands = over(log, Decider({"count": 0}, decide, lambda state, event: {"count": state["count"] + 1}))
    whale = asyncio.ensure_future(commands.send(cordon, "_"))
    await asyncio.sleep(0)
    behind = asyncio.ensure_future(commands.send(uncordon, "_"))
    with pytest.raises(Declined) as no:
        await whale
    assert no.value.rejection == "Parked"
    await behind
    assert [len(events_of(recorded)) for recorded in log.recorded] == [1]


async def test_a_very_large_state_is_packed_and_one_larger_still_is_not_carried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("handlers.aggregate.PACKED_FROM_BYTES", 5_000)
    log, queue = MemoryLog(), itertools.count(1)
    commands = over(log, toggling(size=10_000), queue)
    for _ in range(63):
        await commands.send(cordon, "_")
    assert bytes(log.recorded[0].commit.state).startswith(b'"')
    monkeypatch.setattr("handlers.aggregate.CARRIED_BYTES_MAX", 10)
    for _ in range(10):
        await commands.send(cordon, "_")
    assert {r.commit.state_position for r in log.recorded[1:]} == {1}
    afresh = over(log, toggling(size=10_000), queue)
    for _ in range(5):
        await afresh.send(cordon, "_")
    assert afresh.runtime._aggregates[NODE].state["count"] == 78


async def test_a_state_of_another_shape_is_folded_anew_from_the_events() -> None:
    log, queue = MemoryLog(), itertools.count(1)
    for _ in range(5):
        await over(log, toggling(), queue).send(cordon, "_")
    last = log.recorded[-1]
    log.recorded[-1] = last._replace(commit=replace(last.commit, state=msgspec.Raw(b'["yesterday"]')))
    afresh = over(log, toggling(), queue)
    await afresh.send(cordon, "_")
    assert afresh.runtime._aggregates[NODE].state["count"] == 6


async def test_a_large_state_rides_along_only_now_and_then_and_is_loaded_all_the_same() -> None:
    log = MemoryLog()
    queue = itertools.count(1)
    commands = over(log, toggling(size=10_000), queue)
    for _ in range(70):
        await commands.send(cordon, "_")
    carrying = [r.commit.version for r in log.recorded if bytes(r.commit.state) != b"null"]
    assert carrying == [1, 64]
    assert log.recorded[-1].commit.state_position == 64
    afresh = over(log, toggling(size=10_000), queue)
    for _ in range(58):
        await afresh.send(cordon, "_")
    assert log.recorded[-1].commit.version == 128
    assert b'"count":128' in bytes(log.recorded[-1].commit.state)


async def test_a_command_that_fails_five_times_is_put_aside_and_those_behind_it_go_on() -> None:
    log = MemoryLog()
    commands = over(log, toggling(breaks=99))
    poison = asyncio.ensure_future(commands.send(cordon, "_"))
    await asyncio.sleep(0)
    behind = asyncio.ensure_future(commands.send(uncordon, "_"))
    with pytest.raises(Declined) as no:
        await poison
    assert no.value.rejection == "Parked"
    assert await behind == 1
    assert [reason for _, reason in commands.parked] == ["ZeroDivisionError: a bug"]


async def test_a_failure_that_passes_is_only_a_delay() -> None:
    log = MemoryLog()
    commands = over(log, toggling(breaks=4))
    assert await commands.send(cordon, "_") == 1
    assert commands.parked == []


async def test_an_append_with_an_unknown_outcome_takes_effect_once() -> None:
    log = MemoryLog()
    fates = iter([None, Unavailable("after the fact")])

    async def pause() -> None:
        fate = next(fates, None)
        if fate is not None:
            raise fate

    log.last = _without_pause(log)  # type: ignore[method-assign]  # only the append's own pauses may fail here
    log._pause = pause
    assert await over(log, toggling()).send(cordon, "_") == 1
    assert len(log.recorded) == 1


def _without_pause(log: MemoryLog) -> Any:
    async def last(stream: Stream) -> Any:
        return log._last(stream)

    return last


async def test_a_writer_who_was_overtaken_decides_again() -> None:
    log = MemoryLog()
    queue = itertools.count(1)
    first, second = over(log, toggling(), queue), over(log, toggling(), queue)
    await first.send(cordon, "_")
    await second.send(uncordon, "_")
    await first.send(cordon, "_")
    assert [r.commit.version for r in log.recorded] == [1, 2, 3]
    assert b'"count":3' in bytes(log.recorded[-1].commit.state)


def user(number: int, username: str) -> Command:
    return RegisterUser(f"usr_{number}", "sealed", name_id("username", username), None, 1)


async def test_a_user_and_the_name_come_true_together_or_not_at_all() -> None:
    log = MemoryLog()
    commands = LocalCommands(log, DECIDERS, STATES)
    await commands.send(user(1, "ada"), "_")
    assert [r.stream.context for r in log.recorded] == ["names", "identity"]
    with pytest.raises(Declined) as no:
        await commands.send(user(2, "ada"), "_")
    assert no.value.rejection == "NameIsTaken"
    assert len(log.recorded) == 2


async def test_of_many_who_want_the_same_name_one_gets_it() -> None:
    log = MemoryLog()
    outcomes = await asyncio.gather(
        *(LocalCommands(log, DECIDERS, STATES).send(user(n, "ada"), "_") for n in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, int) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, Declined) for outcome in outcomes) == 9


async def test_companions_leave_the_other_streams_own_answers_alone() -> None:
    """A name's stream may still have older commands of its own waiting elsewhere."""
    log = MemoryLog()
    commands = LocalCommands(log, DECIDERS, STATES)
    name = name_id("username", "ada")
    await commands.send(user(1, "ada"), "_")
    reserved = await log.last(Stream("_", "names", name))
    assert reserved is not None
    assert reserved.commit.answers == 0
    await commands.send(ReserveName(name, "usr_1"), "_")


async def test_closing_decides_nothing_more() -> None:
    log = MemoryLog()
    commands = over(log, toggling())
    await commands.send(cordon, "_")
    await commands.runtime.close()
    with pytest.raises(Unavailable):
        await commands.send(cordon, "_", timeout=0.05)
    assert await log.append(Append(NODE, 1, log.recorded[0].commit)) == 2
