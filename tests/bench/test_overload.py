"""Overload can be simulated without openb, ends the same each time, and an inversion would be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.overload import BARRED, INVERTED, SPENT, Plan, Watch, backfill, kubernetes, market, plan, run
from handlers.cluster import Cluster, Node
from handlers.request import EVICTIONS_MAX, Request
from handlers.walk import walk


@pytest.fixture
def crowd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Of made requests, since the folder is empty."""
    monkeypatch.setenv("STRATUS_OPENB", str(tmp_path))
    goods = market()
    assert "SYNTHETIC" in goods.source
    return plan(goods, seed=1, nodes=4, jobs=300)


def test_the_engine_leaves_no_inversion_and_decides_the_same_again(crowd: Plan) -> None:
    first, again = (run(crowd, walk, Request.yields_to) for _ in range(2))
    assert first._replace(ms_per_cycle=0) == again._replace(ms_per_cycle=0)
    assert (first.inverted, first.inverted_cycles) == (0, 0)
    assert first.evictions > 0
    assert 0 < first.lost_percent < 100


def test_who_may_not_evict_leaves_inversions_and_who_counts_no_evictions_repeats_them(crowd: Plan) -> None:
    def by_priority(one: Request, priority: int) -> bool:
        return one.priority < priority

    patient, restless = (run(crowd, policy, by_priority) for policy in (backfill, kubernetes))
    assert (patient.evictions, patient.lost_percent) == (0, 0)
    assert patient.inverted > 0
    assert restless.inverted_cycles == 0
    assert restless.evictions_max > 0


def asks(home: Cluster, name: str, size: int, priority: int, evictions: int = 0) -> None:
    sequence, size = len(home.requests), size * 100
    request = Request("usr_ada", name, 1, size, size, priority=priority, sequence=sequence)
    request.evictions = evictions
    home.books.ask(request)


def test_a_watch_sees_who_waits_for_what_is_free_or_less_urgent_work_holds() -> None:
    home = Cluster()
    home.books.offer("node-0", Node(1000, 1000))
    watch = Watch(home, Request.yields_to)
    asks(home, "lax", 10, 1)
    assert watch.look(set()) == {INVERTED: 1}
    walk(home)
    assert watch.look({"node-0"}) == {}
    asks(home, "urgent", 10, 2)
    assert watch.look(set()) == {INVERTED: 1}
    walk(home)
    assert watch.look({"node-0"}) == {}


def test_a_watch_counts_apart_who_waits_for_a_reason() -> None:
    home = Cluster()
    home.books.offer("node-0", Node(1000, 1000))
    watch = Watch(home, Request.yields_to)
    asks(home, "spared", 10, 1, evictions=EVICTIONS_MAX)
    walk(home)
    asks(home, "urgent", 10, 2)
    assert watch.look({"node-0"}) == {SPENT: 1}
    home.books.release("spared/1")
    asks(home, "small", 5, 2)
    home.books.reserve("node-0", "urgent/1")
    assert watch.look({"node-0"}) == {INVERTED: 1, BARRED: 1}
