"""Any event is found by what it was about and by who caused it; of other tenants nobody learns."""

from __future__ import annotations

from core.log import Commit, Decision
from core.messages.containers import StartContainer
from projections.audit import Audit, Entry, search
from projections.database import Database
from projections.runtime import Projector
from tests.projections.history import ADA, BOB, History, container, image
from tests.projections.test_billing import log_of


async def projected(pool: Database, history: History) -> None:
    await Projector(pool, log_of(history.recorded), [Audit()]).catch_up(len(history.recorded))


async def test_events_are_found_newest_first_and_page_by_page(pool: Database) -> None:
    history = History()
    history.now_ms = 7
    history.do(image("a"), ADA)
    history.do(container("a"), ADA)
    await projected(pool, history)
    found = await search(pool, [ADA])
    assert [(e.position, e.number, e.event) for e in found] == [
        (2, 1, "RunRequested"),
        (2, 0, "ContainerCreated"),
        (1, 0, "ImageRegistered"),
    ]
    assert found[2] == Entry(1, 0, 7, ADA, "catalog", "img_a", "ImageRegistered", "tester", "req-1", "cmd-1")
    assert [e.position for e in await search(pool, [ADA], before=2)] == [1]
    assert len(await search(pool, [ADA], limit=2)) == 2


async def test_events_are_found_by_any_of_their_marks(pool: Database) -> None:
    history = History()
    for name, tenant in (("a", ADA), ("b", BOB)):
        history.do(container(name, tenant=tenant), tenant)
        history.do(StartContainer(f"ctr_{name}", 1), tenant)
    await projected(pool, history)
    both = [ADA, BOB]
    assert [e.key for e in await search(pool, both, event="RunRequested")] == ["ctr_b", "ctr_a"]
    assert {e.tenant for e in await search(pool, both, key="ctr_b", context="containers")} == {BOB}
    assert len(await search(pool, both, correlation="req-1", actor="tester")) == 2
    assert await search(pool, [ADA], key="ctr_b") == []
    assert await search(pool, both, actor="nobody") == []


async def test_no_character_in_a_request_id_stops_the_index(pool: Database) -> None:
    history = History()
    (recorded,) = history.do(image("a"), ADA)
    odd = Decision("c\0", 1, "usr\0", "req\0-é", recorded.commit.decisions[0].events)
    history.recorded = [recorded._replace(commit=Commit(1, 1, [odd]))]
    await projected(pool, history)
    assert [e.correlation for e in await search(pool, [ADA])] == ["req-é"]
