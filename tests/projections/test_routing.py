"""Who answers for a hostname: only what is ready, never what shall stop, always at its newest address."""

from __future__ import annotations

import pytest

from core.messages.catalog import ImageDeleted, ImageId, ImageRegistered, Reference
from core.messages.containers import (
    ContainerCreated,
    ContainerDeleted,
    ContainerId,
    ContainerReady,
    ContainerStarted,
    ContainerStopped,
    DeletionRequested,
    RunRequested,
    StopRequested,
)
from projections.routing import RoutingTable
from tests.projections.history import ADA, BOB, SMALL

WEB, BLOG = ImageId("img_web"), ImageId("img_blog")
A, B = ContainerId("ctr_a"), ContainerId("ctr_b")


def registered(image_id: ImageId = WEB, hostname: str = "web.example") -> ImageRegistered:
    return ImageRegistered(image_id, "web", "1", Reference("web:1"), ADA, 0, hostname, SMALL, 1, 3, 8080)


def created(container_id: ContainerId = A, image_id: ImageId = WEB) -> ContainerCreated:
    return ContainerCreated(container_id, image_id, "a", "web:1", "web.example", SMALL, 8080, ADA, 0)


def started(container_id: ContainerId = A, run: int = 1, port: int = 32001) -> ContainerStarted:
    return ContainerStarted(container_id, run, "node-1", f"docker-{container_id}", "10.0.0.1", port, 0)


def ready(container_id: ContainerId = A, run: int = 1) -> ContainerReady:
    return ContainerReady(container_id, run, 0)


def ended(container_id: ContainerId = A, run: int = 1) -> ContainerStopped:
    return ContainerStopped(container_id, run, "exited", 1, "", 0)


serving = (registered(), created(), RunRequested(A, 1, 0), started(), ready())


def table_of(*events: object) -> RoutingTable:
    table = RoutingTable()
    for position, event in enumerate(events, start=1):
        table.apply(ADA, position, event)  # type: ignore[arg-type]
    return table


def ports(table: RoutingTable, host: str = "web.example") -> list[int]:
    return [backend.port for backend in table.backends(host)]


def test_a_container_is_routable_once_it_has_answered_and_not_before() -> None:
    assert ports(table_of(*serving[:-1])) == []
    assert ports(table_of(*serving)) == [32001]


def test_requests_take_turns_between_those_that_are_ready() -> None:
    table = table_of(*serving, created(B), RunRequested(B, 1, 0), started(B, port=32002), ready(B))
    chosen = [backend.port for _ in range(3) if (backend := table.choose("web.example"))]
    assert chosen == [32001, 32002, 32001]


@pytest.mark.parametrize("end", [StopRequested(A, 1, 0), DeletionRequested(A, 0), ended()])
def test_traffic_stops_with_the_wish_to_stop_and_never_goes_to_the_dead(end: object) -> None:
    """B-21, B-24."""
    table = table_of(*serving, end)
    assert table.choose("web.example") is None
    assert table.route("web.example") is not None


def test_a_report_that_comes_after_the_wish_to_stop_brings_no_traffic_back() -> None:
    assert ports(table_of(*serving[:-1], StopRequested(A, 1, 0), ready())) == []


def test_an_event_that_is_replayed_adds_no_second_entry() -> None:
    """B-21."""
    assert ports(table_of(*serving, *serving)) == [32001]


def test_a_container_that_starts_again_is_routed_to_its_new_address() -> None:
    """B-23."""
    again = (ended(), RunRequested(A, 2, 0), started(run=2, port=32999), ready(run=2))
    assert ports(table_of(*serving, *again)) == [32999]


def test_readiness_of_an_earlier_run_says_nothing_about_this_one() -> None:
    table = table_of(*serving, ended(), RunRequested(A, 2, 0), started(run=2), ready(run=1))
    assert ports(table) == []


def test_www_is_the_site_itself_unless_it_is_registered() -> None:
    table = table_of(*serving)
    assert ports(table, "www.web.example") == [32001]
    table.apply(BOB, 9, registered(BLOG, "www.web.example"))
    assert ports(table, "www.web.example") == []
    assert ports(table, "web.example") == [32001]


def test_nobody_takes_over_a_hostname_that_is_held() -> None:
    """B-22; names are reserved before, so this can not be in a log of ours."""
    table = table_of(*serving)
    table.apply(BOB, 9, registered(BLOG))
    table.apply(BOB, 10, ImageDeleted(BLOG, "web.example", 0))
    assert ports(table) == [32001]


def test_a_hostname_goes_with_its_image_and_may_come_back_with_another() -> None:
    table = table_of(*serving, ImageDeleted(WEB, "web.example", 0))
    assert table.route("web.example") is None
    table.apply(ADA, 9, registered(BLOG))
    assert ports(table) == []


def test_events_about_what_was_never_heard_of_are_passed_over() -> None:
    table = table_of(ready(), ended(), StopRequested(A, 1, 0), ContainerDeleted(A, WEB, 0), started(B))
    assert table.backends("web.example") == ()
    assert table.choose("nobody.example") is None
