"""The next step of each run, from what the log wants and what Docker has."""

import pytest

from core.messages.catalog import Resources
from core.messages.containers import ContainerId
from handlers.agents.convergence import (
    Key,
    Probe,
    Remove,
    SayEnded,
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


def test_what_is_placed_elsewhere_is_removed_here_and_not_started() -> None:
    assert plan(set(), lambda _: placed, []) == {}
    assert plan(set(), lambda _: placed, [running]) == {KEY: Remove(running)}


def test_each_run_has_its_own_step() -> None:
    old = found("ended", run=1)
    assert plan({KEY}, lambda _: placed, [old]) == {Key("ctr_1", 1): Remove(old), KEY: Start(placed)}
