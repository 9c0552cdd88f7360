"""The pool shows each container with its latest run."""

from __future__ import annotations

from core.messages.containers import (
    DeleteContainer,
    ReportReady,
    ReportStarted,
    ReportStopped,
    RestartContainer,
    StopContainer,
)
from core.messages.scheduling import CreateCluster, OfferNode, RequestPlacement
from projections.containers import Container
from projections.views import Views
from tests.projections.history import ADA, BOB, History, container

place = RequestPlacement("default", ADA, "ctr_a", 1, 100, 64, 0)
started = ReportStarted("ctr_a", 1, "node-1", "docker-1", "127.0.0.1", 32001, 1000)


class Platform:
    def __init__(self) -> None:
        self.history, self.views = History(), Views()
        self.do(CreateCluster("default", "default", 0), OfferNode("default", "node-1", 1000, 1024))

    def do(self, *commands: object, tenant: str = ADA) -> None:
        for command in commands:
            for recorded in self.history.do(command, tenant):  # type: ignore[arg-type]
                self.views.apply(recorded)

    def shown(self, container_id: str = "ctr_a") -> Container:
        container = self.views.containers.container(container_id)
        assert container is not None
        return container


def test_a_container_is_pending_then_starting_then_running_then_stopped() -> None:
    platform = Platform()
    seen = []
    for command in (container("a"), place, started, ReportStopped("ctr_a", 1, "exited", 3, "bye", 9000)):
        platform.do(command)
        seen.append(platform.shown().status)
    assert seen == ["pending", "starting", "running", "stopped"]
    shown = platform.shown()
    assert (shown.ending, shown.exit_code, shown.started_ms, shown.stopped_ms) == ("exited", 3, 1000, 9000)
    assert (shown.node_id, shown.runtime_id, shown.external_port) == ("node-1", "docker-1", 32001)
    assert shown.wanted


def test_a_container_is_ready_from_its_first_answer_until_it_shall_stop() -> None:
    platform = Platform()
    platform.do(container("a"), place, started)
    assert not platform.shown().ready
    platform.do(ReportReady("ctr_a", 1, 2000))
    assert platform.shown().ready
    platform.do(StopContainer("ctr_a", 3000))
    assert not platform.shown().ready
    assert platform.shown().status == "running"


def test_a_new_run_begins_with_nothing_of_the_last_one() -> None:
    platform = Platform()
    platform.do(container("a"), place, started, ReportStopped("ctr_a", 1, "oom", 137, "", 9000))
    platform.do(RestartContainer("ctr_a", 1, 10_000))
    shown = platform.shown()
    assert (shown.run, shown.status, shown.ready) == (2, "pending", False)
    assert (shown.node_id, shown.runtime_id, shown.ending, shown.started_ms) == (None, None, None, None)


def test_what_can_not_start_is_not_wanted_any_more() -> None:
    platform = Platform()
    platform.do(container("a"), ReportStopped("ctr_a", 1, "unstartable", -1, "no such image", 1000))
    assert not platform.shown().wanted


def test_containers_are_found_by_every_name_they_have() -> None:
    platform = Platform()
    platform.do(container("a"), place, started, container("b", image_id="img_b"))
    platform.do(container("c", tenant=BOB), tenant=BOB)
    pool = platform.views.containers
    assert [c.container_id for c in pool.of([ADA, BOB])] == ["ctr_a", "ctr_b", "ctr_c"]
    assert [c.container_id for c in pool.of([BOB, BOB])] == ["ctr_c"]
    assert [c.container_id for c in pool.of_image("img_a")] == ["ctr_a", "ctr_c"]
    assert pool.numbered(2) == pool.container("ctr_b")
    assert pool.running_as("docker-1") == pool.container("ctr_a")
    assert (pool.numbered(4), pool.running_as("docker-9"), pool.of_image("img_z")) == (None, None, [])


def test_a_deleted_container_disappears_and_its_number_is_not_given_again() -> None:
    platform = Platform()
    platform.do(container("a"), place, started)
    platform.do(DeleteContainer("ctr_a", 2000))
    assert platform.shown().deleting
    platform.do(ReportStopped("ctr_a", 1, "stopped", 0, "", 3000), container("b"))
    pool = platform.views.containers
    assert (pool.container("ctr_a"), pool.numbered(1), pool.running_as("docker-1")) == (None, None, None)
    assert [c.ordinal for c in pool.of([ADA])] == [2]
    assert platform.views.scheduling.placed_on("node-1") == [("ctr_a", 1)]
