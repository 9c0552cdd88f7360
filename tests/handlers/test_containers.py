"""When a container runs and when it ends, as a list of examples."""

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.message import Rejection
from core.messages.catalog import Resources
from core.messages.containers import (
    ContainerCreated,
    ContainerDeleted,
    ContainerExists,
    ContainerId,
    ContainerIsRunning,
    ContainerIsStopped,
    ContainerIsUnknown,
    ContainerReady,
    ContainersCommand,
    ContainersEvent,
    ContainerStarted,
    ContainerStopped,
    CreateContainer,
    DeleteContainer,
    DeletionRequested,
    ReportReady,
    ReportStarted,
    ReportStopped,
    RestartContainer,
    RunRequested,
    StartContainer,
    StopContainer,
    StopRequested,
)
from handlers import containers
from tests.given import Scenario

given = Scenario(containers.decider)

WEB = ContainerId("ctr_web")

create = CreateContainer(
    container_id=WEB,
    image_id="img_1",
    name="web-1",
    ref="web:1",
    hostname="web.example",
    resources=Resources(),
    port=8080,
    owner="usr_ada",
    at_ms=1,
)
created = ContainerCreated(
    container_id=WEB,
    image_id="img_1",
    name="web-1",
    ref="web:1",
    hostname="web.example",
    resources=Resources(),
    port=8080,
    owner="usr_ada",
    at_ms=1,
)
first_run, second_run = (RunRequested(container_id=WEB, run=run, at_ms=1) for run in (1, 2))

start = StartContainer(container_id=WEB, at_ms=1)
restart = RestartContainer(container_id=WEB, run=1, at_ms=1)
stop, stopping = StopContainer(container_id=WEB, at_ms=2), StopRequested(container_id=WEB, run=1, at_ms=2)
delete, deleting = DeleteContainer(container_id=WEB, at_ms=5), DeletionRequested(container_id=WEB, at_ms=5)
deleted = ContainerDeleted(container_id=WEB, image_id="img_1", at_ms=5)

report_started = ReportStarted(
    container_id=WEB, run=1, node_id="node-a", runtime_id="d0c", address="172.17.0.2", port=8080, at_ms=3
)
started = ContainerStarted(
    container_id=WEB, run=1, node_id="node-a", runtime_id="d0c", address="172.17.0.2", port=8080, at_ms=3
)
report_ready = ReportReady(container_id=WEB, run=1, at_ms=4)
ready = ContainerReady(container_id=WEB, run=1, at_ms=4)
report_exit = ReportStopped(container_id=WEB, run=1, ending="exited", exit_code=1, detail="", at_ms=5)
exited = ContainerStopped(container_id=WEB, run=1, ending="exited", exit_code=1, detail="", at_ms=5)
unstartable = replace(exited, ending="unstartable", exit_code=-1, detail="no such image")

requested = (created, first_run)
running = (*requested, started, ready)
crashed = (*running, exited)
stopped = (*running, stopping, replace(exited, ending="stopped", exit_code=0))
gone = (*stopped, deleted)


def test_a_container_is_created_with_its_first_run() -> None:
    given().when(create).then(created, first_run)


def test_a_container_is_created_once() -> None:
    given(*requested).when(replace(create, at_ms=9)).then_nothing()
    given(*gone).when(create).then_nothing()
    given(*requested).when(replace(create, ref="web:2")).then_rejected(ContainerExists)


@pytest.mark.parametrize("command", [start, restart, stop, delete, report_started, report_ready, report_exit])
def test_nothing_can_be_asked_of_an_unknown_container(command: ContainersCommand) -> None:
    given().when(command).then_rejected(ContainerIsUnknown)


@pytest.mark.parametrize("command", [start, restart, stop])
def test_a_deleted_container_is_unknown(command: ContainersCommand) -> None:
    given(*gone).when(command).then_rejected(ContainerIsUnknown)


@pytest.mark.parametrize("command", [delete, report_started, report_ready, report_exit])
def test_a_deleted_container_has_nothing_more_to_report(command: ContainersCommand) -> None:
    given(*gone).when(command).then_nothing()


def test_a_stopped_container_starts_as_a_new_run() -> None:
    given(*stopped).when(start).then(second_run)
    given(*requested, unstartable).when(start).then(second_run)


def test_a_wanted_container_is_not_started_twice() -> None:
    given(*requested).when(start).then_rejected(ContainerIsRunning)
    given(*running).when(start).then_rejected(ContainerIsRunning)
    given(*crashed).when(start).then_rejected(ContainerIsRunning)


def test_a_container_that_is_still_stopping_is_not_started() -> None:
    given(*running, stopping).when(start).then_rejected(ContainerIsRunning, "still stopping")


def test_a_container_that_is_being_deleted_is_not_started() -> None:
    given(*running, stopping, deleting).when(start).then_rejected(ContainerIsUnknown, "being deleted")


def test_a_run_that_ended_unasked_is_followed_by_another() -> None:
    given(*crashed).when(restart).then(second_run)
    given(*crashed, second_run).when(restart).then_nothing()


def test_a_run_that_has_not_ended_is_not_followed_yet() -> None:
    given(*running).when(restart).then_nothing()


def test_what_is_no_longer_wanted_is_not_healed() -> None:
    given(*stopped).when(restart).then_nothing()
    given(*crashed, stopping).when(restart).then_nothing()


def test_what_can_not_be_started_is_given_up() -> None:
    given(*requested, unstartable).when(restart).then_nothing()
    given(*requested, unstartable).when(stop).then_rejected(ContainerIsStopped)


def test_a_container_is_stopped_once() -> None:
    given(*running).when(stop).then(stopping)
    given(*running, stopping).when(stop).then_rejected(ContainerIsStopped)
    given(*stopped).when(stop).then_rejected(ContainerIsStopped)


def test_a_run_that_never_started_can_be_stopped() -> None:
    given(*requested).when(stop).then(stopping)


def test_a_container_that_waits_to_be_healed_can_be_stopped() -> None:
    given(*crashed).when(stop).then(stopping)


def test_a_container_without_a_run_is_deleted_at_once() -> None:
    given(*stopped).when(delete).then(deleted)
    given(*crashed).when(delete).then(deleted)


def test_a_running_container_is_stopped_before_it_is_deleted() -> None:
    given(*running).when(delete).then(replace(stopping, at_ms=5), deleting)
    given(*running, stopping).when(delete).then(deleting)
    given(*running, stopping, deleting).when(delete).then_nothing()


def test_the_end_of_its_run_completes_a_deletion() -> None:
    given(*running, stopping, deleting).when(report_exit).then(exited, deleted)


def test_a_run_starts_once() -> None:
    given(*requested).when(report_started).then(started)
    given(*requested, started).when(report_started).then_nothing()
    given(*running).when(replace(report_started, address="172.17.0.9")).then_nothing()


def test_a_run_that_was_asked_to_stop_may_still_start_before_it_does() -> None:
    given(*requested, stopping).when(report_started).then(started)


def test_a_run_does_not_start_after_its_end() -> None:
    given(*requested, exited).when(report_started).then_nothing()
    given(*crashed, second_run).when(report_started).then_nothing()


def test_a_run_is_ready_once_and_only_after_it_started() -> None:
    given(*requested).when(report_ready).then_nothing()
    given(*requested, started).when(report_ready).then(ready)
    given(*running).when(report_ready).then_nothing()
    given(*crashed).when(report_ready).then_nothing()


def test_a_run_on_its_way_out_does_not_become_ready() -> None:
    given(*requested, started, stopping).when(report_ready).then_nothing()


def test_a_run_ends_once() -> None:
    given(*running).when(report_exit).then(exited)
    given(*crashed).when(replace(report_exit, ending="oom")).then_nothing()
    given(*crashed, second_run).when(report_exit).then_nothing()


def test_a_run_that_never_started_ends_too() -> None:
    given(*requested).when(report_exit).then(exited)


def test_an_asked_for_end_is_kept_as_it_was_reported() -> None:
    given(*running, stopping).when(replace(report_exit, ending="oom")).then(replace(exited, ending="oom"))


def test_nothing_is_reported_of_a_run_nobody_asked_for() -> None:
    given(*running).when(replace(report_started, run=2)).then_nothing()
    given(*running).when(replace(report_ready, run=2)).then_nothing()
    given(*running).when(replace(report_exit, run=2)).then_nothing()
    given(*crashed).when(replace(restart, run=2)).then_nothing()


runs = st.integers(1, 3)
wishes = st.one_of(
    st.sampled_from([create, start, stop, start, stop, delete]),
    st.builds(lambda run: replace(restart, run=run), runs),
    st.builds(lambda run: replace(report_started, run=run), runs),
    st.builds(lambda run: replace(report_ready, run=run), runs),
    st.builds(
        lambda run, ending: replace(report_exit, run=run, ending=ending),
        runs,
        st.sampled_from(["stopped", "exited", "oom", "lost", "unstartable"]),
    ),
)


def story(commands: list[ContainersCommand]) -> list[ContainersEvent]:
    state, events = containers.decider.fold([created, first_run]), list[ContainersEvent]()
    for command in commands:
        try:
            decided = containers.decider.decide(command, state)
        except Rejection:
            continue
        for event in decided:
            state = containers.decider.evolve(state, event)
        events += decided
    return [created, first_run, *events]


@settings(deadline=None)
@given_any(st.lists(wishes, max_size=40))
def test_whatever_happens_a_run_is_a_beginning_and_at_most_one_end(commands: list[ContainersCommand]) -> None:
    steps: dict[int, list[str]] = {}
    for event in story(commands):
        match event:
            case RunRequested(run=run) | ContainerStarted(run=run) | ContainerReady(run=run):
                steps.setdefault(run, []).append(type(event).__name__)
            case ContainerStopped(run=run):
                steps.setdefault(run, []).append(type(event).__name__)
            case _:
                pass
    whole = ["RunRequested", "ContainerStarted", "ContainerReady"]
    for run, seen in steps.items():
        ended = seen[-1] == "ContainerStopped"
        assert seen[: len(seen) - ended] == whole[: len(seen) - ended]
        assert ended or run == max(steps)


@settings(deadline=None)
@given_any(st.lists(wishes, max_size=40))
def test_whatever_happens_nothing_follows_a_deletion(commands: list[ContainersCommand]) -> None:
    events = story(commands)
    assert ContainerDeleted not in [type(event) for event in events[:-1]]
    if isinstance(events[-1], ContainerDeleted):
        asked = [event for event in events if isinstance(event, RunRequested)]
        ended = [event for event in events if isinstance(event, ContainerStopped)]
        assert len(asked) == len(ended)
