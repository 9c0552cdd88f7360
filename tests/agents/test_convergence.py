"""The next step of each run, from what the log wants and what Docker has."""

import pytest

from core.messages.catalog import Resources
from core.messages.containers import ContainerId
from handlers.agents.convergence import (
    Evict,
    Key,
    Probe,
    Remove,
    SayEnded,
    SayEvicted,
    SayGone,
    SayStarted,
    Start,
    Step,
    Stop,
    plan,
)
from handlers.agents.engine import Actual
from projections.containers import Container

KEY = Key("ctr_1", 2)


def wish(**differently: object) -> Container:
    return Container(
        **{
            "container_id": ContainerId("ctr_1"),
            "ordinal": 1,
            "tenant": "org_7",
            "image_id": "img_1",
            "name": "web",
            "ref": "web:1",
            "hostname": None,
            "resources": Resources(),
            "port": 8080,
            "owner": "usr_1",
            "at_ms": 1,
            "run": 2,
            "wanted": True,
            "status": "starting",
        }
        | differently  # type: ignore[arg-type]
    )


def found(state: str, run: int = 2) -> Actual:
    return Actual("d0cc", "ctr_1", run, "org_7", state)  # type: ignore[arg-type]


placed = wish()
started = wish(status="running")
ready = wish(status="running", ready=True)
unwanted = wish(status="running", wanted=False)
cancelled = wish(wanted=False)
ended = wish(status="stopped")
restarted = wish(run=3)
created, running, over = found("created"), found("running"), found("ended")


@pytest.mark.parametrize(
    ("log", "docker", "step"),
    [
        (placed, None, Start(placed)),
        (placed, created, Start(placed)),
        (placed, running, SayStarted(placed, running)),
        (placed, over, SayEnded(placed, over)),
        (started, running, Probe(started, running)),
        (started, over, SayEnded(started, over)),
        (started, None, SayGone(started)),
        (ready, running, None),
        (ready, over, SayEnded(ready, over)),
        (ready, None, SayGone(ready)),
        (unwanted, running, Stop(unwanted, running)),
        (unwanted, over, SayEnded(unwanted, over)),
        (unwanted, None, SayGone(unwanted)),
        (cancelled, None, SayGone(cancelled)),
        (cancelled, created, Stop(cancelled, created)),
        (cancelled, running, Stop(cancelled, running)),
        (ended, running, Remove(running)),
        (ended, over, Remove(over)),
        (ended, None, None),
        (restarted, over, Remove(over)),
        (None, running, Remove(running)),
        (None, None, None),
    ],
)
def test_the_next_step(log: Container | None, docker: Actual | None, step: Step | None) -> None:
    steps = plan({KEY}, lambda _: log, [docker] if docker else [])
    assert steps == ({KEY: step} if step else {})


@pytest.mark.parametrize(
    ("log", "docker", "step"),
    [
        (ready, running, Evict(ready, running)),
        (placed, running, Evict(placed, running)),
        (placed, created, Evict(placed, created)),
        (placed, None, SayEvicted(placed)),
        (started, None, SayGone(started)),
        (started, over, SayEnded(started, over)),
        (unwanted, running, Stop(unwanted, running)),
        (unwanted, over, SayEnded(unwanted, over)),
        (cancelled, created, Stop(cancelled, created)),
        (cancelled, None, SayGone(cancelled)),
        (ended, over, Remove(over)),
        (ended, None, None),
        (restarted, over, Remove(over)),
        (None, running, Remove(running)),
        (None, None, None),
    ],
)
def test_the_next_step_of_who_was_evicted(
    log: Container | None, docker: Actual | None, step: Step | None
) -> None:
    steps = plan(set(), lambda _: log, [docker] if docker else [], {KEY: True})
    assert steps == ({KEY: step} if step else {})


@pytest.mark.parametrize(
    ("log", "docker", "step"),
    [
        (ready, running, None),
        (placed, created, None),
        (placed, None, None),
        (started, over, SayEnded(started, over)),
        (started, None, SayGone(started)),
        (unwanted, running, Stop(unwanted, running)),
        (cancelled, created, Stop(cancelled, created)),
    ],
)
def test_what_is_about_to_be_deleted_runs_until_that_is_wished(
    log: Container | None, docker: Actual | None, step: Step | None
) -> None:
    steps = plan(set(), lambda _: log, [docker] if docker else [], {KEY: False})
    assert steps == ({KEY: step} if step else {})


def test_the_next_run_begins_when_the_one_that_was_evicted_has_ended() -> None:
    following = Key("ctr_1", 3)
    assert plan({following}, lambda _: ready, [running], {KEY: True}) == {KEY: Evict(ready, running)}
    assert plan({following}, lambda _: restarted, [over], {}) == {
        KEY: Remove(over),
        following: Start(restarted),
    }


def test_where_those_that_leave_still_live_nothing_starts_that_would_not_fit() -> None:
    other = Key("ctr_2", 1)
    containers = {"ctr_1": placed, "ctr_2": wish(container_id="ctr_2", run=1)}
    steps = plan({KEY, other}, containers.get, [], {}, lambda key: key == KEY)
    assert steps == {other: Start(containers["ctr_2"])}
    assert plan({KEY}, lambda _: ready, [running], {}, lambda key: True) == {}
    assert plan({KEY}, lambda _: started, [over], {}, lambda key: True) == {KEY: SayEnded(started, over)}


def test_what_is_placed_elsewhere_is_removed_here_and_not_started() -> None:
    assert plan(set(), lambda _: placed, []) == {}
    assert plan(set(), lambda _: placed, [running]) == {KEY: Remove(running)}


def test_each_run_has_its_own_step() -> None:
    old = found("ended", run=1)
    assert plan({KEY}, lambda _: placed, [old]) == {Key("ctr_1", 1): Remove(old), KEY: Start(placed)}
