"""What the platform does of its own accord, as plans over projections."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from core.contexts import PLATFORM
from core.message import Command
from core.messages.catalog import DeleteImage, Instance, LaunchInstances, Resources, RetireInstance
from core.messages.containers import (
    CreateContainer,
    DeleteContainer,
    ReportStarted,
    ReportStopped,
    RestartContainer,
    StartContainer,
    StopContainer,
)
from core.messages.deployments import EndDeployment, ScaleDeployment, Share, SubmitDeployment
from core.messages.fleet import CordonNode, DrainNode, LoseNode, RegisterNode, UncordonNode
from core.messages.scheduling import (
    VIRTUAL,
    CarryNode,
    ClearNode,
    CreateCluster,
    OfferNode,
    PassPlacement,
    ReleasePlacement,
    RequestPlacement,
    Totals,
    WithdrawNode,
)
from handlers.reactors import capacity, cleanup, healing, launching, loss, placement, stopping
from handlers.reactors.runtime import PLANS
from handlers.reactors.wish import Plan, Wish
from projections.containers import Container
from projections.pending import Outlook
from tests.projections.history import ADA, SMALL, History, container, histories, image

HOUR_MS = 3_600_000
create_cluster = CreateCluster("default", "default", 0)
register_node = RegisterNode("node-1", "default", "10.0.0.1", "docker", 1000, 1024, 0)
offer = OfferNode("default", "node-1", 1000, 1024)
request = RequestPlacement("default", ADA, "ctr_a", 1, 100, 64, 0)
launch = LaunchInstances("img_a", (Instance("ctr_a", "a"), Instance("ctr_b", "b")), ADA, 0)


class Platform:
    """Deciders and projections without anything between them."""

    def __init__(self, *commands: Command) -> None:
        self.history, self.views = History(), Outlook()
        self.do(*commands)

    def do(self, *commands: Command, tenant: str = ADA) -> int:
        """How many commits it led to."""
        commits = [recorded for command in commands for recorded in self.history.do(command, tenant)]
        for recorded in commits:
            self.views.apply(recorded)
        return len(commits)

    def wished(self, plan: Plan, now_ms: int = 0) -> list[Command]:
        return [wish.command for wish in plan(self.views, now_ms)]


def run_of(container_id: str, run: int, started_ms: int, ended_ms: int) -> tuple[Command, ...]:
    return (
        ReportStarted(container_id, run, "node-1", f"docker-{run}", "127.0.0.1", 32000, started_ms),
        ReportStopped(container_id, run, "exited", 1, "", ended_ms),
    )


def test_every_launched_instance_becomes_a_container_once() -> None:
    platform = Platform(image("a"), launch)
    wished = platform.wished(launching.plan, 7)
    assert wished == [
        CreateContainer(f"ctr_{name}", "img_a", name, "web:1", None, SMALL, 8080, ADA, 7) for name in "ab"
    ]
    platform.do(*wished)
    assert platform.wished(launching.plan) == []


def test_nothing_is_launched_of_an_image_that_was_deleted_meanwhile() -> None:
    assert Platform(image("a"), launch, DeleteImage("img_a", 0)).wished(launching.plan) == []


def test_every_run_asks_for_a_place_once_there_is_a_cluster() -> None:
    platform = Platform(container("a"))
    assert platform.wished(placement.plan) == []
    assert platform.wished(capacity.plan) == [create_cluster]
    platform.do(create_cluster)
    assert platform.wished(placement.plan) == [request]
    platform.do(request)
    assert platform.wished(placement.plan) == []


def test_the_place_of_a_run_that_ended_is_given_back() -> None:
    stop = StopContainer("ctr_a", 8)
    platform = Platform(create_cluster, container("a"), request, stop, *run_of("ctr_a", 1, 0, 9))
    release = ReleasePlacement("default", "ctr_a", 1)
    assert platform.wished(placement.plan) == [release]
    platform.do(release)
    assert platform.wished(placement.plan) == []


def test_the_place_of_a_run_after_which_there_will_be_another_is_handed_on() -> None:
    platform = Platform(create_cluster, container("a"), request, *run_of("ctr_a", 1, 0, 9))
    handed = PassPlacement("default", "ctr_a", 1, 0)
    assert platform.wished(placement.plan) == [handed]
    platform.do(handed, RestartContainer("ctr_a", 1, 9))
    assert platform.wished(placement.plan) == []
    assert platform.wished(healing.plan, HOUR_MS) == []


def test_a_place_that_was_handed_on_is_given_back_when_nobody_wants_it_any_more() -> None:
    platform = Platform(create_cluster, container("a"), request, *run_of("ctr_a", 1, 0, 9))
    platform.do(PassPlacement("default", "ctr_a", 1, 0), StopContainer("ctr_a", 10))
    assert platform.wished(placement.plan) == [ReleasePlacement("default", "ctr_a", 2)]


deployment = SubmitDeployment("default", "dep_a", ADA, "a", "web:1", ADA, 0, Share(500, 512), replicas=2)
urgent = SubmitDeployment("default", "dep_b", ADA, "b", "web:1", ADA, 0, Share(1000, 512), priority=900)
replica = CreateContainer(
    *("dep_a-1", "dep_a", "dep_a-1", "web:1", None, Resources(500, 512), 8080, ADA, 0), deployment_id="dep_a"
)
other_replica = replace(replica, container_id="dep_a-2", name="dep_a-2")


def test_every_replica_of_a_deployment_becomes_a_container_that_asks_for_no_place() -> None:
    platform = Platform(create_cluster, offer, deployment)
    assert platform.wished(launching.plan) == [replica, other_replica]
    platform.do(replica, other_replica)
    assert platform.wished(launching.plan) == platform.wished(placement.plan) == []
    assert platform.views.containers.container("dep_a-1").status == "starting"  # type: ignore[union-attr]


def test_who_was_evicted_runs_again_without_a_pause_and_its_failures_do_not_count() -> None:
    platform = Platform(create_cluster, offer, deployment, replica, other_replica, urgent)
    started, _ = run_of("dep_a-1", 1, 0, 0)
    platform.do(started, ReportStopped("dep_a-1", 1, "evicted", 143, "", 5))
    assert platform.wished(healing.plan, 5) == [RestartContainer("dep_a-1", 1, 5)]
    platform.do(RestartContainer("dep_a-1", 1, 5))
    assert platform.views.containers.container("dep_a-1").status == "pending"  # type: ignore[union-attr]
    assert platform.wished(placement.plan) == []


def test_the_place_of_a_replica_is_never_given_back_by_itself() -> None:
    """Only its deployment does; a replica that crashes, or can not start, keeps it."""
    platform = Platform(create_cluster, offer, deployment, replica, other_replica)
    platform.do(ReportStopped("dep_a-1", 1, "unstartable", -1, "no such image", 5))
    platform.do(*run_of("dep_a-2", 1, 0, 5))
    assert platform.wished(placement.plan) == [PassPlacement("default", "dep_a-2", 1, 0)]
    platform.do(StopContainer("dep_a-2", 6))
    assert platform.wished(placement.plan) == []


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (EndDeployment("default", "dep_a", "completed", 9), ["dep_a-1", "dep_a-2"]),
        (ScaleDeployment("default", "dep_a", 1, 9), ["dep_a-2"]),
    ],
)
def test_replicas_that_are_not_wanted_any_more_are_deleted(change: Command, gone: list[str]) -> None:
    platform = Platform(create_cluster, offer, deployment, replica, other_replica)
    platform.do(change)
    assert platform.wished(cleanup.plan) == [DeleteContainer(id, 0) for id in gone]
    late = Platform(create_cluster, offer, deployment, change, replica, other_replica)
    assert late.wished(cleanup.plan) == [DeleteContainer(id, 0) for id in gone]
    assert [wish for wish in late.wished(launching.plan)] == []


def test_a_drained_node_is_cleared_and_offered_again_after_the_drain() -> None:
    platform = Platform(create_cluster, register_node, offer, container("a"), request, DrainNode("node-1", 1))
    clear = ClearNode("default", "node-1", "drained", 0)
    assert platform.wished(capacity.plan) == [clear]
    platform.do(clear)
    assert platform.wished(capacity.plan) == []
    platform.do(UncordonNode("node-1", 2))
    assert platform.wished(capacity.plan) == [offer]


def test_a_node_that_is_silent_for_long_is_lost_and_its_runs_end() -> None:
    platform = Platform(create_cluster, register_node, offer, container("a"), request)
    hearts = platform.views.hearts
    assert platform.wished(loss.plan, HOUR_MS) == []
    hearts.listen(0)
    hearts.heard("node-1", 1000)
    assert platform.wished(loss.plan, 1000 + loss.LOST_AFTER_MS) == []
    lose = LoseNode("node-1", 1001 + loss.LOST_AFTER_MS)
    assert platform.wished(loss.plan, 1001 + loss.LOST_AFTER_MS) == [lose]
    platform.do(lose)
    clear = ClearNode("default", "node-1", "lost", 0)
    assert platform.wished(capacity.plan) == [clear]
    platform.do(clear)
    (wish,) = platform.wished(stopping.plan, 5)
    assert isinstance(wish, ReportStopped)
    assert (wish.container_id, wish.run, wish.ending) == ("ctr_a", 1, "lost")
    platform.do(wish)
    assert platform.wished(stopping.plan) == []
    platform.do(register_node)
    assert platform.wished(capacity.plan) == [offer]


def test_a_clock_that_is_ahead_keeps_no_silent_node_alive() -> None:
    platform = Platform(create_cluster)
    platform.views.hearts.listen(0)
    platform.do(replace(register_node, at_ms=HOUR_MS))
    assert platform.wished(loss.plan, loss.LOST_AFTER_MS) == []
    assert platform.wished(loss.plan, loss.LOST_AFTER_MS + 1) != []


def test_nobody_is_blamed_for_the_time_we_did_not_look() -> None:
    platform = Platform(create_cluster, register_node)
    hearts = platform.views.hearts
    hearts.listen(0)
    hearts.look(1000)
    hearts.look(HOUR_MS)
    assert platform.wished(loss.plan, HOUR_MS + loss.LOST_AFTER_MS) == []
    assert platform.wished(loss.plan, HOUR_MS + loss.LOST_AFTER_MS + 1) != []


def test_a_cluster_of_totals_is_carried_by_a_machine_until_that_is_gone() -> None:
    totals = CreateCluster("theirs", "theirs", 0, totals=Totals(1000, 1000))
    platform = Platform(create_cluster, totals)
    assert platform.wished(capacity.plan) == []
    platform.do(register_node, offer)
    carry = CarryNode("theirs", VIRTUAL, "node-1", 0)
    assert platform.wished(capacity.plan) == [carry]
    platform.do(carry)
    assert platform.wished(capacity.plan) == []
    second = replace(register_node, node_id="node-2")
    platform.do(
        second, replace(offer, node_id="node-2"), CordonNode("node-1", 1), WithdrawNode("default", "node-1")
    )
    assert platform.wished(capacity.plan) == []
    platform.do(DrainNode("node-1", 2))
    assert platform.wished(capacity.plan) == [replace(carry, carrier="node-2", cause="drained")]


def test_a_place_asked_for_too_late_is_given_back() -> None:
    """The run ended, or the container went, while the request for its place was on its way."""
    gone = (container("a"), *run_of("ctr_a", 1, 0, 9), DeleteContainer("ctr_a", 10))
    assert ReleasePlacement("default", "ctr_a", 1) in Platform(create_cluster, *gone, request).wished(
        placement.plan
    )


def test_a_run_that_waits_for_a_place_can_be_stopped() -> None:
    platform = Platform(create_cluster, container("a"), request, StopContainer("ctr_a", 1))
    (wish,) = platform.wished(stopping.plan, 5)
    assert isinstance(wish, ReportStopped)
    assert (wish.ending, wish.exit_code, wish.at_ms) == ("stopped", -1, 5)
    platform.do(wish)
    assert platform.wished(stopping.plan) == []
    assert platform.wished(placement.plan) == [ReleasePlacement("default", "ctr_a", 1)]


def test_a_run_that_never_asked_for_a_place_can_be_deleted() -> None:
    platform = Platform(container("a"), DeleteContainer("ctr_a", 1))
    assert platform.wished(placement.plan) == []
    platform.do(*platform.wished(stopping.plan))
    assert platform.views.containers.container("ctr_a") is None


def test_a_run_that_has_a_place_is_left_to_its_node() -> None:
    platform = Platform(create_cluster, offer, container("a"), request, StopContainer("ctr_a", 1))
    assert platform.wished(stopping.plan) == []


def test_what_ended_unasked_runs_again_after_a_while() -> None:
    platform = Platform(container("a"), *run_of("ctr_a", 1, 0, 1000))
    assert platform.wished(healing.plan, 1999) == []
    assert platform.wished(healing.plan, 2000) == [RestartContainer("ctr_a", 1, 2000)]
    platform.do(RestartContainer("ctr_a", 1, 2000))
    assert platform.wished(healing.plan, HOUR_MS) == []


def test_each_failure_in_a_row_doubles_the_wait_up_to_five_minutes() -> None:
    platform, now_ms, waits = Platform(container("a")), 0, []
    for run in range(1, 13):
        platform.do(*run_of("ctr_a", run, now_ms, now_ms))
        wait = next(ms for ms in (500 << n for n in range(20)) if platform.wished(healing.plan, now_ms + ms))
        waits.append(min(wait, 300_000))
        now_ms += wait
        platform.do(RestartContainer("ctr_a", run, now_ms))
    assert waits == [1000 << n for n in range(9)] + [300_000] * 3


@pytest.mark.parametrize(("lived_ms", "wait_ms"), [(60_000, 4000), (60_001, 1000)])
def test_a_run_that_lived_longer_than_a_minute_was_no_failed_start(lived_ms: int, wait_ms: int) -> None:
    platform = Platform(container("a"))
    for run in (1, 2):
        platform.do(*run_of("ctr_a", run, 0, 0), RestartContainer("ctr_a", run, 0))
    platform.do(*run_of("ctr_a", 3, 0, lived_ms))
    assert platform.wished(healing.plan, lived_ms + wait_ms - 1) == []
    assert platform.wished(healing.plan, lived_ms + wait_ms) != []


@pytest.mark.parametrize(
    "end",
    [
        (StopContainer("ctr_a", 1), ReportStopped("ctr_a", 1, "exited", 0, "", 2)),
        (ReportStopped("ctr_a", 1, "exited", 0, "", 2), StopContainer("ctr_a", 3)),
        (ReportStopped("ctr_a", 1, "unstartable", -1, "", 2),),
        (DeleteContainer("ctr_a", 1), ReportStopped("ctr_a", 1, "exited", 0, "", 2)),
    ],
)
def test_what_is_not_wanted_stays_ended(end: tuple[Command, ...]) -> None:
    assert Platform(container("a"), *end).wished(healing.plan, HOUR_MS) == []


def test_who_starts_a_container_anew_starts_the_count_anew() -> None:
    platform = Platform(container("a"))
    for run in (1, 2, 3):
        platform.do(*run_of("ctr_a", run, 0, 0), RestartContainer("ctr_a", run, 0))
    platform.do(StopContainer("ctr_a", 0), *run_of("ctr_a", 4, 0, 0))
    platform.do(StartContainer("ctr_a", 0), *run_of("ctr_a", 5, 0, 0))
    assert platform.wished(healing.plan, 1000) != []


def test_a_node_is_offered_as_it_describes_itself() -> None:
    platform = Platform(register_node)
    assert platform.wished(capacity.plan) == [create_cluster]
    platform.do(create_cluster)
    assert platform.wished(capacity.plan) == [offer]
    platform.do(offer)
    assert platform.wished(capacity.plan) == []
    platform.do(RegisterNode("node-1", "default", "10.0.0.1", "docker", 2000, 1024, 1))
    assert platform.wished(capacity.plan) == [OfferNode("default", "node-1", 2000, 1024)]


def test_a_cordoned_node_is_withdrawn_until_it_is_uncordoned() -> None:
    platform = Platform(create_cluster, register_node, offer, CordonNode("node-1", 1))
    assert platform.wished(capacity.plan) == [WithdrawNode("default", "node-1")]
    platform.do(WithdrawNode("default", "node-1"))
    assert platform.wished(capacity.plan) == []
    platform.do(UncordonNode("node-1", 2))
    assert platform.wished(capacity.plan) == [offer]


def test_offering_again_after_a_withdrawal_is_another_wish() -> None:
    """The broker takes equal ids within two minutes for one command."""
    platform = Platform(create_cluster, register_node)
    first = capacity.plan(platform.views, 0)
    platform.do(offer, CordonNode("node-1", 1), WithdrawNode("default", "node-1"), UncordonNode("node-1", 2))
    again = capacity.plan(platform.views, 0)
    assert [wish.command for wish in first] == [wish.command for wish in again]
    assert first[0].command_id != again[0].command_id


def test_a_node_that_moves_leaves_its_old_cluster() -> None:
    platform = Platform(create_cluster, register_node, offer, CreateCluster("other", "other", 0))
    platform.do(RegisterNode("node-1", "other", "10.0.0.1", "docker", 1000, 1024, 1))
    assert platform.wished(capacity.plan) == [
        OfferNode("other", "node-1", 1000, 1024),
        WithdrawNode("default", "node-1"),
    ]


def test_containers_go_after_their_image() -> None:
    """B-32."""
    platform = Platform(image("a"), container("a"), container("b"), *run_of("ctr_b", 1, 0, 1))
    assert platform.wished(cleanup.plan) == []
    platform.do(DeleteImage("img_a", 2))
    assert platform.wished(cleanup.plan, 3) == [DeleteContainer("ctr_a", 3), DeleteContainer("ctr_b", 3)]
    platform.do(*platform.wished(cleanup.plan, 3))
    assert platform.wished(cleanup.plan) == []


def test_a_job_is_complete_when_all_its_replicas_have_done_their_work() -> None:
    job = replace(deployment, restart="on_failure")
    platform = Platform(create_cluster, offer, job, replica, other_replica)
    failed = (*run_of("dep_a-1", 1, 0, 9)[:1], ReportStopped("dep_a-1", 1, "exited", 1, "", 9))
    platform.do(*failed)
    assert platform.wished(healing.plan, HOUR_MS) == [RestartContainer("dep_a-1", 1, HOUR_MS)]
    platform.do(RestartContainer("dep_a-1", 1, 10), PassPlacement("default", "dep_a-1", 1, 10))
    for name, run in (("dep_a-1", 2), ("dep_a-2", 1)):
        assert platform.wished(cleanup.plan) == []
        platform.do(*run_of(name, run, 10, 19)[:1], ReportStopped(name, run, "exited", 0, "", 19))
    assert platform.wished(healing.plan, HOUR_MS) == platform.wished(placement.plan) == []
    complete = EndDeployment("default", "dep_a", "completed", 20, done=True)
    assert platform.wished(cleanup.plan, 20) == [complete]
    platform.do(complete)
    assert platform.wished(cleanup.plan, 20) == [DeleteContainer(f"dep_a-{n}", 20) for n in (1, 2)]
    assert platform.views.deployments.deployment("dep_a").outcome == "completed"  # type: ignore[union-attr]


def test_a_deployment_ends_after_its_image() -> None:
    of_image = replace(deployment, image_id="img_a")
    cancel = EndDeployment("default", "dep_a", "cancelled", 3)
    platform = Platform(create_cluster, offer, image("a"), of_image, DeleteImage("img_a", 2))
    assert platform.wished(cleanup.plan, 3) == [cancel]
    platform.do(cancel)
    assert platform.wished(cleanup.plan, 3) == []
    late = Platform(create_cluster, offer, image("a"), DeleteImage("img_a", 2), of_image)
    assert late.wished(cleanup.plan, 3) == [cancel]


def test_a_container_created_when_its_image_is_gone_already_goes_too() -> None:
    platform = Platform(image("a"), launch, DeleteImage("img_a", 0), container("a"))
    assert platform.wished(cleanup.plan) == [DeleteContainer("ctr_a", 0)]


def test_an_image_stops_counting_a_container_that_is_gone() -> None:
    platform = Platform(image("a"), launch, container("a"), *run_of("ctr_a", 1, 0, 1))
    platform.do(DeleteContainer("ctr_a", 2))
    retire = RetireInstance("img_a", "ctr_a")
    assert platform.wished(cleanup.plan) == [retire]
    platform.do(retire)
    assert platform.wished(cleanup.plan) == []


def test_an_instance_that_is_launched_again_when_it_is_gone_is_counted_out() -> None:
    platform = Platform(image("a"), launch, container("a"), *run_of("ctr_a", 1, 0, 1))
    platform.do(DeleteContainer("ctr_a", 2), RetireInstance("img_a", "ctr_a"))
    platform.do(LaunchInstances("img_a", (Instance("ctr_a", "a"),), ADA, 3))
    assert RetireInstance("img_a", "ctr_a") in platform.wished(cleanup.plan)
    assert "ctr_a" not in platform.views.pending.launches


@given(histories)
@settings(deadline=None)
def test_a_plan_that_is_carried_out_is_not_wished_again(history: History) -> None:
    """Whatever happened before; and doing twice what it says is doing it once."""
    platform = Platform()
    platform.history = history
    for recorded in history.recorded:
        platform.views.apply(recorded)
    for _ in range(8):
        wishes = [wish for plan in PLANS.values() for wish in plan(platform.views, history.now_ms + HOUR_MS)]
        if not wishes:
            return
        for wish in wishes:
            ours = wish.command.__module__ in ("core.messages.scheduling", "core.messages.deployments")
            assert (wish.tenant == PLATFORM) == ours
            platform.do(wish.command, tenant=wish.tenant)
            assert platform.do(wish.command, tenant=wish.tenant) == 0
        assert not _ids(wishes) & _ids(
            [wish for plan in PLANS.values() for wish in plan(platform.views, history.now_ms + HOUR_MS)]
        )
    raise AssertionError("the plans never come to an end")


def _ids(wishes: list[Wish]) -> set[str]:
    return {wish.command_id for wish in wishes}


def _is_superfluous(views: Outlook, c: Container) -> bool:
    deployment = views.deployments.of_container(c.container_id)
    if c.deployment_id is None:
        return False
    return deployment is None or deployment.outcome is not None or c.container_id not in deployment.containers


@given(histories)
@settings(deadline=None)
def test_what_is_pending_follows_from_what_is(history: History) -> None:
    """The lists that are kept event by event are those one would find by looking at everything."""
    views = Outlook()
    for recorded in history.recorded:
        views.apply(recorded)
    containers, places = views.containers.of([ADA]), views.scheduling
    alive = [c for c in containers if c.status != "stopped" and not places.is_leaving(c.container_id, c.run)]
    unplaced = [c for c in alive if c.status != "running" and not places.placement(c.container_id, c.run)]
    assert set(views.pending.placements) == {
        c.container_id
        for c in alive
        if c.wanted and places.place(c.container_id, c.run) is None and c.deployment_id is None
    }
    assert set(views.pending.unplaced_stops) == {c.container_id for c in unplaced if not c.wanted}
    assert set(views.pending.restarts) == {
        c.container_id
        for c in containers
        if c.status == "stopped" and c.wanted and not _is_superfluous(views, c)
    }
    assert {
        place.container_id
        for place in views.pending.releases.values()
        if places.place(place.container_id, place.run) is None
    } == set()
