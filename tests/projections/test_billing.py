"""What is owed: from the starts and ends in the log, to the millisecond, each counted once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.log import Recorded, events_of
from core.memory import MemoryLog
from core.messages.billing import PriceListId, PricesPublished
from core.messages.catalog import ImageDeleted, ImageId
from core.messages.containers import (
    ContainerCreated,
    ContainerDeleted,
    ContainerId,
    ContainerStarted,
    ContainerStopped,
    RunRequested,
)
from projections.billing import (
    Interval,
    Ledger,
    amount_nanos,
    cents,
    dollars,
    intervals,
    minutes,
)
from projections.database import Database
from projections.runtime import Projector
from tests.projections.history import ADA, BOB, SMALL, History, histories, image

A = ContainerId("ctr_a")
SECOND = 1000
created = ContainerCreated(A, "img_a", "a", "web:1", None, SMALL, 8080, ADA, 0)


def started(run: int, at_ms: int) -> ContainerStarted:
    return ContainerStarted(A, run, "node-1", f"docker-{run}", "127.0.0.1", 32000, at_ms)


def stopped(run: int, at_ms: int) -> ContainerStopped:
    return ContainerStopped(A, run, "exited", 0, "", at_ms)


def log_of(recorded: Iterable[Recorded]) -> MemoryLog:
    log = MemoryLog()
    log.recorded = list(recorded)
    return log


async def billed(pool: Database, *events: Any) -> list[Interval]:
    history = History()
    history.do(image("a"), ADA)
    for event in (created, *events):
        history.record(ADA, event)
    await Projector(pool, log_of(history.recorded), [Ledger()]).catch_up(len(history.recorded))
    return await intervals(pool, [ADA])


def times(found: list[Interval]) -> list[tuple[int, int, int | None]]:
    return [(one.run, one.start_ms, one.end_ms) for one in found]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, 0), (30, 0), (31, 1), (60, 1), (89, 1), (90, 2), (150, 2), (151, 3), (210, 4)],
)
def test_minutes_are_rounded_half_to_even(seconds: int, expected: int) -> None:
    """B-20: the visible rule of the system before, from whole milliseconds."""
    assert minutes(seconds * SECOND) == expected == round(seconds / 60)


def test_the_moment_that_decides_is_exact() -> None:
    """B-20."""
    assert [minutes(ms) for ms in (30_000, 30_001, 89_999, 90_000, 150_000, 150_001)] == [0, 1, 1, 2, 2, 3]


def test_money_is_whole_numbers_all_the_way() -> None:
    """B-20."""
    assert amount_nanos(151 * SECOND, 10_000_000) == 30_000_000
    assert [cents(nanos) for nanos in (30_000_000, 5_000_000, 15_000_000, 15_000_001)] == [3, 0, 2, 2]
    assert [dollars(amount) for amount in (0, 7, 1205)] == ["0.00", "0.07", "12.05"]
    assert cents(10**30 + 5_000_000) == 10**23


async def test_what_stops_costs_nothing_more(pool: Database) -> None:
    """B-14, B-15: the stop arrives, and both times are the log's own milliseconds."""
    (interval,) = await billed(pool, RunRequested(A, 1, 0), started(1, 5_000), stopped(1, 156_000))
    assert (interval.start_ms, interval.end_ms, interval.tenant) == (5_000, 156_000, ADA)
    assert (interval.minutes(10**12), interval.amount_nanos(10**12)) == (3, 30_000_000)
    assert (interval.image_ordinal, interval.container_ordinal, interval.container_name) == (1, 1, "a")


async def test_what_still_runs_is_estimated_by_the_same_rule(pool: Database) -> None:
    (interval,) = await billed(pool, started(1, 0))
    assert [interval.minutes(now_ms) for now_ms in (30_000, 31_000, 90_000)] == [0, 1, 2]
    assert interval.duration_ms(-5) == 0


async def test_each_run_of_a_container_is_counted(pool: Database) -> None:
    """B-16: stopped and started again, it costs again."""
    found = await billed(pool, started(1, 0), stopped(1, 60_000), started(2, 100_000), stopped(2, 160_000))
    assert times(found) == [(2, 100_000, 160_000), (1, 0, 60_000)]


async def test_a_start_seen_twice_is_counted_once(pool: Database) -> None:
    found = await billed(
        pool, started(1, 0), started(1, 9), started(2, 9), stopped(1, 60_000), started(1, 70_000)
    )
    assert times(found) == [(1, 0, 60_000)]


async def test_a_run_that_never_started_costs_nothing(pool: Database) -> None:
    assert await billed(pool, RunRequested(A, 1, 0), stopped(1, 60_000)) == []


async def test_deleting_ends_what_is_counted(pool: Database) -> None:
    found = await billed(pool, started(1, 0), ContainerDeleted(A, "img_a", 60_000))
    assert times(found) == [(1, 0, 60_000)]


async def test_an_end_before_the_start_costs_nothing(pool: Database) -> None:
    (interval,) = await billed(pool, started(1, 60_000), stopped(1, 10_000))
    assert (interval.end_ms, interval.amount_nanos(10**12)) == (60_000, 0)


async def test_what_is_owed_outlives_what_it_was_for(pool: Database) -> None:
    deleted = (ContainerDeleted(A, "img_a", 60_000), ImageDeleted(ImageId("img_a"), None, 60_000))
    (interval,) = await billed(pool, started(1, 0), *deleted)
    assert (interval.image_name, interval.image_ordinal) == ("a", 1)


async def test_a_run_costs_what_a_minute_cost_when_it_began(pool: Database) -> None:
    prices = PricesPublished(PriceListId("standard"), 20_000_000, 100_000, 50_000)
    found = await billed(pool, prices, started(1, 99_999), stopped(1, 200_000), started(2, 200_000))
    assert [one.minute_nanos for one in found] == [20_000_000, 10_000_000]


async def test_one_sees_what_is_ones_own(pool: Database) -> None:
    await billed(pool, started(1, 0))
    assert await intervals(pool, [BOB]) == []
    assert await intervals(pool, [ADA, BOB], "img_b") == []
    assert len(await intervals(pool, [ADA, BOB], "img_a")) == 1


@given(histories, st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_ledger_is_what_anybody_would_compute(
    pool: Database, history: History, data: st.DataObject
) -> None:
    """Whatever the history, the size of the transactions, and how often the projector starts anew."""
    await pool.execute("truncate billed_images, billed_containers, intervals, prices")
    await pool.execute("delete from checkpoints")
    log, end = log_of(history.recorded), len(history.recorded)
    stops = data.draw(st.lists(st.integers(0, end), max_size=6).map(sorted))
    for stop in [*stops, end]:
        await Projector(pool, log, [Ledger()]).catch_up(stop)
    found = {
        (one.container_id, one.run): (one.start_ms, one.end_ms, one.minute_nanos)
        for one in await intervals(pool, [ADA])
    }
    assert found == recomputed(history)


def recomputed(history: History) -> dict[tuple[str, int], tuple[int, int | None, int]]:
    """The same, by looking at all events at once, in Python only."""
    events = [event for recorded in history.recorded for event in events_of(recorded)]
    ends = {(e.container_id, e.run): e.at_ms for e in events if isinstance(e, ContainerStopped)}
    prices = [(0, 10_000_000)] + [
        (e.from_ms, e.minute_nanos) for e in events if isinstance(e, PricesPublished)
    ]
    return {
        (e.container_id, e.run): (
            e.at_ms,
            ends.get((e.container_id, e.run)),
            [nanos for from_ms, nanos in prices if from_ms <= e.at_ms][-1],
        )
        for e in events
        if isinstance(e, ContainerStarted)
    }
