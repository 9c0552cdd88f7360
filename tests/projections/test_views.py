"""All projections of a process at once: what they add up to, and how one waits for them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings

from core.log import Append, Commit, Decision
from core.memory import MemoryLog
from core.messages.billing import PriceListId, PricesPublished
from core.messages.catalog import ReportBuilt
from core.messages.containers import ContainerId, ContainerReady, StopRequested
from core.messages.fleet import CordonNode, RegisterNode
from core.messages.identity import (
    CreateOrganization,
    EndSession,
    IssueKey,
    JoinOrganization,
    RegisterUser,
    RevokeKey,
    RotateInvite,
)
from core.messages.scheduling import CreateCluster, PlacementReleased, RequestPlacement
from projections.views import Views, follow
from tests.projections.history import ADA, BOB, History, histories, image

OLD, NEW = "0" * 64, "1" * 64
register_ada = RegisterUser(ADA, "sealed", "username:h1", "email:h2", 1)
register_bob = RegisterUser(BOB, "sealed", "username:h3", None, 2)


def views_of(history: History) -> Views:
    views = Views()
    for recorded in history.recorded:
        views.apply(recorded)
    return views


@given(histories)
@settings(deadline=None)
def test_a_commit_delivered_twice_counts_once(history: History) -> None:
    once, twice = views_of(history), Views()
    for recorded in history.recorded:
        for _ in range(2):
            twice.apply(recorded)
    assert twice.fingerprints() == once.fingerprints()


def test_equal_logs_have_equal_fingerprints_in_every_process() -> None:
    """Python's hashes differ from one process to the next; nothing here may depend on them."""
    script = "from tests.projections import test_views as t; print(t.views_of(t.example()).fingerprints())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert outputs == {f"{views_of(example()).fingerprints()}\n".encode()}


def example() -> History:
    history = History()
    for command in (register_ada, register_bob, CreateCluster("default", "default", 1)):
        history.do(command, ADA)
    for name in "abcdefgh":
        history.do(image(name, hostname=f"{name}.example"), ADA)
        history.do(RequestPlacement("default", ADA, f"ctr_{name}", 1, 100, 64, 2), "_")
    return history


def test_people_organisations_and_keys_are_numbered_as_they_came() -> None:
    history = History()
    for command in (
        register_ada,
        register_bob,
        CreateOrganization("org_1", "Ada & Co", OLD, ADA, 3),
        JoinOrganization(BOB, "org_1", OLD, 4),
        RotateInvite("org_1", NEW, ADA, 5),
        IssueKey("key_1", BOB, BOB, "ci", "2" * 64, 6),
        RevokeKey("key_1", BOB, 7),
    ):
        history.do(command, "_")
    identity = views_of(history).identity
    assert [identity.user_numbered(n) for n in (0, 1, 3)] == [None, identity.user(ADA), None]
    assert identity.holder("username:h3") == identity.user(BOB)
    assert identity.holder("email:h2") == identity.user(ADA)
    organization = identity.organization("org_1")
    assert organization is not None
    assert organization.members == (BOB,)
    assert identity.users[BOB].organization_id == "org_1"
    assert identity.organization_invited(NEW) == organization
    assert identity.organization_invited(OLD) is None
    assert identity.keys["key_1"].revoked


def test_a_session_that_ended_stays_ended_until_it_has_expired_anyway() -> None:
    history = History()
    for command in (register_ada, EndSession(ADA, "s1", 100, 10), EndSession(ADA, "s2", 900, 50)):
        history.do(command, "_")
    identity = views_of(history).identity
    assert [identity.is_ended(one) for one in ("s1", "s2", "s3")] == [True, True, False]
    history.do(EndSession(ADA, "s3", 900, 101), "_")
    assert not views_of(history).identity.is_ended("s1")


def test_prices_hold_from_the_moment_they_name() -> None:
    history = History()
    history.record("_", PricesPublished(PriceListId("standard"), 20_000_000, 1000, 500))
    prices = views_of(history).prices
    assert [prices.minute_nanos(at_ms) for at_ms in (0, 999, 1000)] == [10_000_000, 10_000_000, 20_000_000]


def test_a_node_keeps_its_cordon_when_it_describes_itself_anew() -> None:
    history = History()
    for cpu_milli, then in ((1000, CordonNode("node-1", 2)), (2000, CordonNode("node-1", 3))):
        history.do(RegisterNode("node-1", "default", "a", "e", cpu_milli, 512, 1), "_")
        history.do(then, "_")
    node = views_of(history).fleet.node("node-1")
    assert node is not None
    assert (node.cordoned, node.cpu_milli, node.ordinal, node.since) == (True, 2000, 1, 3)


def test_the_queue_is_shown_in_the_order_in_which_it_is_served() -> None:
    queue = views_of(example()).scheduling
    waiting = queue.waiting("default")
    assert [place.container_id for place in waiting] == [f"ctr_{name}" for name in "abcdefgh"]
    assert waiting[0].reason == "no node takes work"
    assert queue.placement("ctr_a", 1) is None


def test_an_image_that_is_a_reference_can_run_at_once() -> None:
    views = views_of(example())
    shown = views.catalog.numbered(1)
    assert shown is not None
    assert (shown.status, shown.ref, shown.image_id) == ("registered", "web:1", "img_a")
    assert views.catalog.of([ADA]) == views.catalog.all()


def test_events_about_what_was_never_heard_of_are_passed_over() -> None:
    history = History()
    nowhere = ContainerId("ctr_x")
    history.record(ADA, ContainerReady(nowhere, 1, 1), StopRequested(nowhere, 1, 2))
    history.record("_", PlacementReleased("default", "ctr_x", 1))  # type: ignore[arg-type]
    history.do(ReportBuilt("img_x", "node-1", "x:1", 1, 1), ADA)
    views = views_of(history)
    assert views.position == 2
    assert views.containers.of([ADA]) == []


async def test_a_reader_waits_until_what_was_written_can_be_read() -> None:
    history, views = History(), Views()
    recorded = history.record("_", PricesPublished(PriceListId("standard"), 1, 0, 0))
    waiting = asyncio.create_task(views.wait(1, 60))
    change = asyncio.ensure_future(views.change())
    await asyncio.sleep(0)
    assert not waiting.done()
    views.apply(recorded)
    await waiting
    await change
    await views.wait(1, 0)


async def test_waiting_for_what_does_not_come_ends() -> None:
    with pytest.raises(TimeoutError):
        await Views().wait(1, 0)


async def test_views_follow_the_log() -> None:
    log, views = MemoryLog(), Views()
    async with asyncio.TaskGroup() as group:
        following = group.create_task(follow(log, views))
        for recorded in example().recorded:
            last = await log.last(recorded.stream)
            decision = Decision("c", recorded.position, "a", "r", recorded.commit.decisions[0].events)
            commit = Commit(1, recorded.position, [decision])
            await log.append(Append(recorded.stream, last.position if last else 0, commit))
        await views.wait(await log.end(), 60)
        following.cancel()
    assert views.fingerprints() == views_of(example()).fingerprints()
