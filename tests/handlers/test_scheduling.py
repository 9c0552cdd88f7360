"""The rules of a cluster as sentences: what is asked of its stream, and what that leads to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from msgspec.structs import replace

from core.contexts import EVENT
from core.message import Rejection
from core.messages.deployments import (
    DeploymentEnded,
    DeploymentExists,
    DeploymentIsPending,
    DeploymentIsUnknown,
    DeploymentScaled,
    DeploymentSubmitted,
    EndDeployment,
    GangIsWhole,
    Outcome,
    PlaceIsDeployments,
    PriorityIsTaken,
    ScaleDeployment,
    Share,
    SubmitDeployment,
    Unsatisfiable,
)
from core.messages.explanations import WhyThere
from core.messages.names import ReleaseName, ReserveName, name_id
from core.messages.scheduling import (
    VIRTUAL,
    CarryNode,
    Cause,
    ClearNode,
    ClusterCreated,
    ClusterExists,
    ClusterId,
    ClusterIsUnknown,
    ClusterRepacked,
    CreateCluster,
    LiftQuota,
    NodeCarried,
    NodeIsNoMachine,
    NodeOffered,
    NodeWithdrawn,
    OfferNode,
    PassPlacement,
    PlacementPassed,
    PlacementQueued,
    PlacementReleased,
    QuotaIsUnbounded,
    QuotaLifted,
    QuotaSet,
    ReleasePlacement,
    RepackCluster,
    RequestPlacement,
    RunEvicted,
    RunPlaced,
    SchedulingCommand,
    SchedulingEvent,
    SetQuota,
    Totals,
    WithdrawNode,
)
from handlers import scheduling
from handlers.cluster import Cluster
from handlers.mix import POLICY
from handlers.scheduling import _unique_name
from tests.given import Scenario
from tests.handlers.cluster import broken_rules

given = Scenario(scheduling.decider)

HOME, ADA, BOB = ClusterId("default"), "org_ada", "org_bob"
create = CreateCluster(cluster_id=HOME, name="default", at_ms=1)
created = ClusterCreated(cluster_id=HOME, name="default", at_ms=1)
private = replace(created, owner=ADA, totals=Totals(10_000, 10_000, 4))
strict = replace(private, strict=True)


def offer(node_id: str, memory_mib: int, cpu_milli: int = 2000, gpus: int = 0, model: str = "") -> OfferNode:
    return OfferNode(HOME, node_id, cpu_milli, memory_mib, gpus, model, at_ms=1)


def offered(
    node_id: str, memory_mib: int, cpu_milli: int = 2000, gpus: int = 0, model: str = ""
) -> NodeOffered:
    return NodeOffered(HOME, node_id, cpu_milli, memory_mib, gpus, model, at_ms=1)


def withdraw(node_id: str) -> WithdrawNode:
    return WithdrawNode(HOME, node_id, at_ms=1)


def withdrawn(node_id: str, at_ms: int = 1) -> NodeWithdrawn:
    return NodeWithdrawn(HOME, node_id, at_ms=at_ms)


def request(container_id: str, memory_mib: int, cpu_milli: int = 500, run: int = 1) -> RequestPlacement:
    return RequestPlacement(HOME, ADA, container_id, run, cpu_milli, memory_mib, at_ms=1)


def queued(
    container_id: str, memory_mib: int, cpu_milli: int = 500, run: int = 1, reason: str = ""
) -> PlacementQueued:
    return PlacementQueued(HOME, ADA, container_id, run, cpu_milli, memory_mib, reason, at_ms=1)


def placed(
    container_id: str, node_id: str, run: int = 1, devices: tuple[int, ...] = (), tenant: str = ADA
) -> RunPlaced:
    return RunPlaced(HOME, tenant, container_id, run, node_id, devices, POLICY, at_ms=1)


def release(container_id: str, run: int = 1) -> ReleasePlacement:
    return ReleasePlacement(HOME, container_id, run, at_ms=1)


def released(container_id: str, run: int = 1) -> PlacementReleased:
    return PlacementReleased(HOME, container_id, run, at_ms=1)


def submit(id: str, size: int, priority: int = 500, replicas: int = 1, **more: Any) -> SubmitDeployment:
    share = more.pop("share", Share(cpu_milli=size, memory_mib=size))
    tenant = more.pop("tenant", ADA)
    return SubmitDeployment(
        HOME, id, tenant, id, "web:1", "usr_1", 1, share, replicas, priority=priority, **more
    )


def submitted(id: str, size: int, priority: int = 500, replicas: int = 1, **more: Any) -> DeploymentSubmitted:
    return DeploymentSubmitted(**msgspec.structs.asdict(submit(id, size, priority, replicas, **more)))


def evicted(container_id: str, node_id: str, cause: Cause = "drained", at_ms: int = 1) -> RunEvicted:
    return RunEvicted(HOME, ADA, container_id, 1, node_id, cause, at_ms)


def end(id: str, outcome: Outcome = "completed") -> EndDeployment:
    return EndDeployment(HOME, id, outcome, at_ms=1)


def ended(id: str, outcome: Outcome = "completed") -> DeploymentEnded:
    return DeploymentEnded(HOME, id, outcome, at_ms=1)  # type: ignore[arg-type]


def names(*events: SchedulingEvent) -> list[str]:
    """What happened to whom, in words."""
    found = []
    for event in events:
        match event:
            case RunPlaced():
                found.append(f"{event.container_id}/{event.run} on {event.node_id}")
            case RunEvicted():
                found.append(f"{event.container_id}/{event.run} {event.cause}")
            case _:
                found.append(type(event).__name__)
    return found


def leads_to(past: tuple[SchedulingEvent, ...], *commands: SchedulingCommand) -> list[str]:
    """What the last of these commands leads to, after the others."""
    cluster = scheduling.decider.fold(past)
    events: list[SchedulingEvent] = []
    for command in commands:
        events = scheduling.decider.decide(command, cluster)
        for event in events:
            cluster = scheduling.decider.evolve(cluster, event)
        assert broken_rules(cluster) == []
    return names(*events)


NODE_A = offered("node-a", 1024)
WEB_ON_A = (queued("web", 768), placed("web", "node-a"))


def test_a_cluster_is_created_once() -> None:
    given().when(create).then(created)
    given(created).when(replace(create, at_ms=9)).then_nothing()
    given(created).when(replace(create, name="other")).then_rejected(ClusterExists)
    given(created).when(replace(create, owner=ADA)).then_rejected(ClusterExists)


def test_a_cluster_reserves_its_name_alongside() -> None:
    given().when(create).then_alongside(ReserveName(name_id=name_id("cluster", "default"), holder=HOME))
    given(created).when(create).then_alongside()
    given(created).when(offer("node-a", 1024)).then_alongside()


@pytest.mark.parametrize(
    "command",
    [offer("n", 64), withdraw("n"), request("web", 64), release("web"), submit("d", 1), end("d")],
)
def test_an_unknown_cluster_takes_no_orders(command: SchedulingCommand) -> None:
    given().when(command).then_rejected(ClusterIsUnknown)


def test_a_cluster_that_belongs_to_somebody_is_unknown_to_others() -> None:
    given(private).when(submit("d", 1, tenant=BOB)).then_rejected(ClusterIsUnknown)
    given(private).when(replace(request("web", 64), tenant=BOB)).then_rejected(ClusterIsUnknown)
    given(private).when(submit("d", 1)).then(submitted("d", 1), placed("d-1", VIRTUAL))


def test_a_node_is_offered_and_withdrawn_once() -> None:
    given(created).when(offer("node-a", 1024)).then(NODE_A)
    given(created, NODE_A).when(offer("node-a", 1024)).then_nothing()
    given(created, NODE_A).when(withdraw("node-a")).then(withdrawn("node-a"))
    given(created, NODE_A, withdrawn("node-a")).when(withdraw("node-a")).then_nothing()
    given(created).when(withdraw("node-a")).then_nothing()
    given(created, NODE_A, withdrawn("node-a")).when(offer("node-a", 1024)).then(NODE_A)
    given(created, NODE_A).when(offer("node-a", 2048)).then(offered("node-a", 2048))


@pytest.mark.parametrize(
    "command",
    [offer(VIRTUAL, 64), withdraw(VIRTUAL), ClearNode(HOME, VIRTUAL, "lost", 1)],
)
def test_the_node_that_stands_for_totals_is_no_machine(command: SchedulingCommand) -> None:
    given(private).when(command).then_rejected(NodeIsNoMachine)


def test_what_fits_is_placed_at_once() -> None:
    given(created, NODE_A).when(request("web", 768)).then(*WEB_ON_A)


def test_asking_twice_for_a_place_changes_nothing() -> None:
    given(created, NODE_A, *WEB_ON_A).when(request("web", 768)).then_nothing()
    given(created, queued("web", 768)).when(request("web", 768)).then_nothing()


def test_the_next_run_of_a_container_has_a_place_of_its_own() -> None:
    given(created, offered("node-a", 2048), *WEB_ON_A).when(request("web", 768, run=2)).then(
        queued("web", 768, run=2), placed("web", "node-a", run=2)
    )


def test_a_node_is_filled_before_the_next_is_begun() -> None:
    nodes = (offered("node-a", 4096), offered("node-b", 1024), offered("node-c", 2048))
    given(created, *nodes).when(request("web", 512)).then(queued("web", 512), placed("web", "node-b"))
    given(created, *nodes).when(request("web", 1500)).then(queued("web", 1500), placed("web", "node-c"))


def test_between_equals_the_first_by_name_is_chosen() -> None:
    equals = (offered("node-b", 1024), offered("node-a", 1024))
    given(created, *equals).when(request("web", 512)).then(queued("web", 512), placed("web", "node-a"))


@pytest.mark.parametrize(
    ("past", "asked", "reason"),
    [
        ((), request("job", 512), "no node takes work"),
        ((NODE_A, withdrawn("node-a")), request("job", 512), "no node takes work"),
        ((NODE_A, *WEB_ON_A), request("job", 512), "no node fits, for want of: 1 memory"),
        ((NODE_A, *WEB_ON_A), request("job", 128, 1800), "no node fits, for want of: 1 CPU"),
        ((NODE_A,), request("whale", 90_000), "no node fits, for want of: 1 memory"),
    ],
)
def test_what_fits_nowhere_waits_and_says_what_is_short(
    past: tuple[SchedulingEvent, ...], asked: RequestPlacement, reason: str
) -> None:
    expected = PlacementQueued(**msgspec.structs.asdict(asked), reason=reason)
    given(created, *past).when(asked).then(expected)


def test_what_fits_beside_a_waiting_one_runs_meanwhile() -> None:
    past = (created, NODE_A, *WEB_ON_A, queued("job", 512))
    given(*past).when(request("tiny", 6)).then(queued("tiny", 6), placed("tiny", "node-a"))


def test_a_released_place_goes_to_those_who_waited_longest() -> None:
    waiting = (queued("job", 512), queued("tiny", 256), queued("late", 512))
    given(created, NODE_A, *WEB_ON_A, *waiting).when(release("web")).then(
        released("web"), placed("job", "node-a"), placed("tiny", "node-a")
    )


def test_a_place_is_released_once() -> None:
    given(created, NODE_A, *WEB_ON_A, released("web")).when(release("web")).then_nothing()
    given(created).when(release("web")).then_nothing()


def test_a_place_is_handed_on_to_the_next_run() -> None:
    """Who crashes does not lose its place to somebody else."""
    past = (created, NODE_A, *WEB_ON_A, queued("job", 512))
    handed = PlacementPassed(HOME, "web", 1, at_ms=1)
    given(*past).when(PassPlacement(HOME, "web", 1, 1)).then(handed)
    given(*past, handed).when(PassPlacement(HOME, "web", 1, 1)).then_nothing()
    given(*past, handed).when(request("web", 768, run=2)).then_nothing()
    given(*past, handed).when(release("web", run=2)).then(released("web", 2), placed("job", "node-a"))


def test_what_is_handed_on_to_a_run_that_has_asked_for_itself_is_released() -> None:
    past = (created, NODE_A, *WEB_ON_A, queued("web", 768, run=2))
    given(*past).when(PassPlacement(HOME, "web", 1, 1)).then(released("web"), placed("web", "node-a", 2))


def test_a_new_node_takes_those_who_wait() -> None:
    given(created, queued("web", 768), queued("job", 128)).when(offer("node-a", 1024)).then(
        NODE_A, placed("web", "node-a"), placed("job", "node-a")
    )


def test_a_withdrawn_node_gets_nothing_new_and_keeps_what_it_holds() -> None:
    past = (created, NODE_A, *WEB_ON_A, withdrawn("node-a"), offered("node-b", 600))
    given(*past).when(request("job", 128)).then(queued("job", 128), placed("job", "node-b"))
    given(*past).when(release("web")).then(released("web"))
    given(*past).when(offer("node-a", 1024)).then(NODE_A)


def test_a_shrunken_node_gets_nothing_until_it_fits_again() -> None:
    shrunken = (created, NODE_A, *WEB_ON_A, offered("node-a", 512), queued("job", 64))
    given(*shrunken).when(release("web")).then(released("web"), placed("job", "node-a"))
    short = "no node fits, for want of: 1 memory"
    given(*shrunken[:-1]).when(request("job", 64)).then(queued("job", 64, reason=short))


@pytest.mark.parametrize("cause", ["drained", "lost"])
def test_what_a_cleared_node_holds_goes_elsewhere_at_once(cause: Any) -> None:
    past = (created, NODE_A, *WEB_ON_A, offered("node-b", 800))
    given(*past).when(ClearNode(HOME, "node-a", cause, 1)).then(
        withdrawn("node-a"), evicted("web", "node-a", cause), placed("web", "node-b", 2)
    )


def test_what_finds_no_other_place_waits_until_the_node_returns() -> None:
    past = (created, NODE_A, *WEB_ON_A, withdrawn("node-a"), evicted("web", "node-a", "lost"))
    given(*past).when(offer("node-a", 1024)).then(NODE_A, placed("web", "node-a", 2))
    given(*past).when(ClearNode(HOME, "node-a", "lost", 1)).then_nothing()


def test_a_drain_is_no_preemption_and_wears_nobody_out() -> None:
    """Three preemptions make immune; any number of drains does not."""
    past: list[SchedulingEvent] = [created, NODE_A, submitted("d", 800, 1), placed("d-1", "node-a")]
    for run in range(1, 5):
        past += [
            withdrawn("node-a"),
            replace(evicted("d-1", "node-a"), run=run),
            NODE_A,
            placed("d-1", "node-a", run + 1),
        ]
    assert leads_to(tuple(past), submit("urgent", 800, 2)) == [
        "DeploymentSubmitted", "d-1/5 preempted", "urgent-1/1 on node-a"
    ]  # fmt: skip


def test_totals_are_a_node_that_somebody_carries() -> None:
    past = (private, submitted("d", 100), placed("d-1", VIRTUAL))
    carry = CarryNode(HOME, VIRTUAL, "node-1", 1)
    carried = NodeCarried(HOME, VIRTUAL, "node-1", 1)
    given(*past).when(carry).then(carried)
    given(*past, carried).when(carry).then_nothing()
    given(*past, carried).when(replace(carry, carrier="node-2")).then(
        evicted("d-1", VIRTUAL, "lost"), replace(carried, carrier="node-2"), placed("d-1", VIRTUAL, 2)
    )
    given(created, NODE_A).when(CarryNode(HOME, "node-a", "node-1", 1)).then_rejected(NodeIsNoMachine)


def test_the_replicas_of_a_deployment_are_placed_together_with_it() -> None:
    given(private).when(submit("d", 4000, replicas=3)).then(
        submitted("d", 4000, replicas=3), placed("d-1", VIRTUAL), placed("d-2", VIRTUAL)
    )


def test_a_deployment_is_submitted_once() -> None:
    past = (private, submitted("d", 100), placed("d-1", VIRTUAL))
    given(*past).when(replace(submit("d", 100), at_ms=9)).then_nothing()
    given(*past).when(submit("d", 200)).then_rejected(DeploymentExists)


def test_a_deployments_places_are_its_own_whatever_others_call_their_containers() -> None:
    past = (private, submitted("d", 100), placed("d-1", VIRTUAL))
    given(*past).when(request("d-1", 64, run=2)).then_rejected(PlaceIsDeployments)
    given(*past).when(request("d-7", 64)).then_rejected(PlaceIsDeployments)
    given(*past).when(release("d-1")).then_rejected(PlaceIsDeployments)
    stranger = (private, queued("d-2", 64), placed("d-2", VIRTUAL))
    given(*stranger).when(submit("d", 100, replicas=2)).then_rejected(DeploymentExists)
    one = (*stranger, submitted("d", 100), placed("d-1", VIRTUAL))
    given(*one).when(ScaleDeployment(HOME, "d", 2, 1)).then_rejected(DeploymentExists)


def test_yesterdays_events_are_read_today() -> None:
    """As they were written when places were given first come, first served, and had no priorities."""
    written = b"""[
        {"type": "ClusterCreated", "cluster_id": "default", "name": "default", "at_ms": 1},
        {"type": "NodeOffered", "cluster_id": "default", "node_id": "n", "cpu_milli": 2000,
         "memory_mib": 900},
        {"type": "PlacementQueued", "cluster_id": "default", "tenant": "org_ada", "container_id": "web",
         "run": 1, "cpu_milli": 500, "memory_mib": 600, "reason": "", "at_ms": 2},
        {"type": "RunPlaced", "cluster_id": "default", "tenant": "org_ada", "container_id": "web", "run": 1,
         "node_id": "n"},
        {"type": "PlacementQueued", "cluster_id": "default", "tenant": "org_ada", "container_id": "job",
         "run": 1, "cpu_milli": 500, "memory_mib": 600, "reason": "waits", "at_ms": 3},
        {"type": "PlacementReleased", "cluster_id": "default", "container_id": "web", "run": 1},
        {"type": "NodeWithdrawn", "cluster_id": "default", "node_id": "n"}
    ]"""
    past = msgspec.json.decode(written, type=list[EVENT])
    assert leads_to(tuple(past), OfferNode(HOME, "n", 2000, 900)) == ["NodeOffered", "job/1 on n"]


def test_gpus_are_given_by_their_numbers() -> None:
    share = Share(100, 100, gpus=2)
    given(private).when(submit("d", 1, share=share)).then(
        submitted("d", 1, share=share), placed("d-1", VIRTUAL, devices=(0, 1))
    )
    half = Share(100, 100, gpus=1, gpu_milli=500)
    given(private, submitted("d", 1, share=half), placed("d-1", VIRTUAL, devices=(0,))).when(
        submit("e", 1, share=half)
    ).then(submitted("e", 1, share=half), placed("e-1", VIRTUAL, devices=(0,)))


TWO_MODELS = (created, offered("a", 4096, gpus=2, model="T4"), offered("b", 4096, gpus=8, model="H100"))


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (Share(2001, 1), "share: larger than any node: needs 2001 mCPU"),
        (Share(1, 4097), "4096 MiB and 8 GPUs"),
        (Share(1, 1, gpus=9), "and 9 GPUs at once"),
        (Share(1, 1, gpus=4, gpu_models=("T4",)), "share: larger than any node"),
        (Share(1, 1, gpus=1, gpu_models=("K80",)), "share.gpu_models: no node has K80; there are H100, T4"),
        (Share(1, 1, gpus=2, gpu_milli=500), "share.gpu_milli: only one GPU can be shared"),
    ],
)
def test_what_could_never_run_is_refused_with_what_is_too_much(share: Share, words: str) -> None:
    given(*TWO_MODELS).when(submit("d", 1, share=share)).then_rejected(Unsatisfiable, words)


def test_a_gang_larger_than_the_whole_cluster_is_refused() -> None:
    given(private).when(submit("d", 4000, replicas=3, gang=True)).then_rejected(Unsatisfiable, "replicas: 3")


def test_a_cluster_without_nodes_may_get_any() -> None:
    given(created).when(submit("d", 10**9)).then(submitted("d", 10**9))


def test_a_gang_runs_as_a_whole_or_waits_as_a_whole() -> None:
    past = (private, submitted("d", 3000), placed("d-1", VIRTUAL))
    given(*past).when(submit("g", 4000, replicas=2, gang=True)).then(
        submitted("g", 4000, replicas=2, gang=True)
    )
    given(*past, submitted("g", 4000, replicas=2, gang=True)).when(end("d")).then(
        ended("d"), placed("g-1", VIRTUAL), placed("g-2", VIRTUAL)
    )


def test_a_gang_is_lost_as_a_whole_when_one_of_its_nodes_is() -> None:
    past = (
        *(created, offered("node-a", 1024), offered("node-b", 1024)),
        *(submitted("g", 900, replicas=2, gang=True), placed("g-1", "node-a"), placed("g-2", "node-b")),
    )
    assert leads_to(past, ClearNode(HOME, "node-a", "lost", 1)) == [
        "NodeWithdrawn", "g-1/1 lost", "g-2/1 lost"
    ]  # fmt: skip
    assert leads_to(past, ClearNode(HOME, "node-a", "lost", 1), offer("node-c", 1024)) == [
        "NodeOffered", "g-1/2 on node-b", "g-2/2 on node-c"
    ]  # fmt: skip


def test_more_urgent_work_takes_the_place_and_says_at_whose_cost() -> None:
    nodes = (created, offered("node-a", 1000), offered("node-b", 1000))
    low = (submitted("low", 900, 1), placed("low-1", "node-a"))
    past = (*nodes, *low, submitted("mid", 900, 5), placed("mid-1", "node-b"))
    cluster = scheduling.decider.fold(past)
    facts = scheduling.decider.decide(submit("high", 900, 9), cluster)
    _, out, _ = facts
    assert isinstance(out, RunEvicted)
    assert (out.container_id, out.by, out.victims) == ("low-1", "high-1/1", ("low-1/1",))
    assert out.cost[:2] == (0, 1)
    (there,) = scheduling.decider.explain(WhyThere(HOME, ("high-1/1",)), cluster, facts)
    assert (there.node_id, there.cost, there.evicted) == ("node-a", out.cost, ("low-1/1",))
    assert (there.runner_up, there.runner_up_cost[:2]) == ("node-b", (0, 5))


def test_a_deployment_is_scaled_up_at_the_end_of_the_queue_and_down_from_it() -> None:
    past = (private, submitted("d", 4000, replicas=2), placed("d-1", VIRTUAL), placed("d-2", VIRTUAL))
    scale = ScaleDeployment(HOME, "d", 3, 1)
    scaled = DeploymentScaled(HOME, "d", 3, ("d-3",), (), 1)  # type: ignore[arg-type]
    given(*past).when(scale).then(scaled)
    given(*past, scaled).when(scale).then_nothing()
    waiting_goes_first = replace(scaled, replicas=2, added=(), removed=("d-3",))
    given(*past, scaled).when(replace(scale, replicas=2)).then(waiting_goes_first)
    newest_goes_next = replace(scaled, replicas=1, added=(), removed=("d-2", "d-3"))
    given(*past, scaled).when(replace(scale, replicas=1)).then(newest_goes_next)
    again = replace(scaled, replicas=2, added=("d-4",), removed=())
    given(*past, scaled, newest_goes_next).when(replace(scale, replicas=2)).then(
        again, placed("d-4", VIRTUAL)
    )


def test_a_gang_can_not_be_scaled() -> None:
    past = (
        private,
        submitted("g", 100, replicas=2, gang=True),
        placed("g-1", VIRTUAL),
        placed("g-2", VIRTUAL),
    )
    given(*past).when(ScaleDeployment(HOME, "g", 3, 1)).then_rejected(GangIsWhole)
    given(private).when(ScaleDeployment(HOME, "g", 3, 1)).then_rejected(DeploymentIsUnknown)


def test_only_what_runs_can_be_complete_and_anything_can_be_cancelled() -> None:
    """B-05: what was never held is never given back."""
    past = (private, submitted("a", 9000), placed("a-1", VIRTUAL), submitted("b", 9000))
    given(*past).when(end("b")).then_rejected(DeploymentIsPending)
    given(*past).when(replace(end("b"), done=True)).then(ended("b"))
    given(*past).when(end("b", "cancelled")).then(ended("b", "cancelled"))
    given(*past).when(end("a")).then(ended("a"), placed("b-1", VIRTUAL))
    given(*past, ended("a"), placed("b-1", VIRTUAL)).when(end("a")).then_rejected(DeploymentIsUnknown)


def test_a_unique_deployment_has_its_name_and_its_priority_for_itself() -> None:
    name = _unique_name(ADA, "d")
    past = (strict, submitted("d", 100, 7, unique=True), placed("d-1", VIRTUAL))
    given(strict).when(submit("d", 100, 7, unique=True)).then_alongside(ReserveName(name, "d"))
    given(*past).when(submit("e", 100, 7, unique=True)).then_rejected(PriorityIsTaken)
    given(*past).when(end("d")).then_alongside(ReleaseName(name, "d"))
    given(*past, ended("d")).when(submit("e", 100, 7, unique=True)).then(
        submitted("e", 100, 7, unique=True), placed("e-1", VIRTUAL)
    )


def test_in_a_strict_cluster_any_number_goes_any_number_of_times() -> None:
    """Rule 9 of the hypervisor's contract; elsewhere sixteen victims and three evictions are enough."""
    small = [submit(f"s{number}", 500, number) for number in range(20)]
    past = (strict,)
    assert len(leads_to(past, *small, submit("whale", 10_000, 100))) == 22
    rounds: list[SchedulingCommand] = [submit("low", 10_000, 1)]
    for number in range(2, 8):
        rounds += [submit(f"u{number}", 10_000, number), end(f"u{number}")]
    assert leads_to(past, *rounds) == ["DeploymentEnded", "low-1/7 on totals"]


HALF = {"cpu_milli": 5000, "memory_mib": None, "gpu_milli": None}
LIMITED = QuotaSet(HOME, ADA, 1, 5000, None, None, borrow_percent=0, weight=100)
shared = replace(private, owner="")


def test_a_quota_is_set_and_lifted_once() -> None:
    command = SetQuota(HOME, ADA, 1, cpu_milli=5000)
    given(shared).when(command).then(LIMITED)
    given(shared, LIMITED).when(command).then_nothing()
    given(shared, LIMITED).when(LiftQuota(HOME, ADA, 1)).then(QuotaLifted(HOME, ADA, 1))
    given(shared).when(LiftQuota(HOME, ADA, 1)).then_nothing()
    given(shared).when(SetQuota(HOME, ADA, 1)).then_rejected(QuotaIsUnbounded)


def test_nobody_gets_more_than_its_quota() -> None:
    past = (shared, LIMITED, submitted("a", 4000), placed("a-1", VIRTUAL))
    given(*past).when(submit("b", 2000)).then(submitted("b", 2000))
    given(*past).when(submit("b", 6000)).then_rejected(Unsatisfiable, "more CPU than the quota allows")
    given(*past, submitted("b", 2000)).when(end("a")).then(ended("a"), placed("b-1", VIRTUAL))
    given(*past, submitted("b", 2000)).when(LiftQuota(HOME, ADA, 1)).then(
        QuotaLifted(HOME, ADA, 1), placed("b-1", VIRTUAL)
    )


BORROWING = (
    shared,
    replace(LIMITED, borrow_percent=100),
    replace(LIMITED, tenant=BOB, borrow_percent=100),
)


def test_what_nobody_needs_can_be_borrowed_and_is_taken_back_by_whose_it_is() -> None:
    lent = (submit("a", 4500), submit("b", 4500))
    assert leads_to(BORROWING, *lent) == ["DeploymentSubmitted", "b-1/1 on totals"]
    assert leads_to(BORROWING, *lent, submit("own", 4500, tenant=BOB)) == [
        "DeploymentSubmitted", "b-1/1 preempted", "own-1/1 on totals"
    ]  # fmt: skip
    more = (submit("own", 4500, tenant=BOB), submit("again", 500))
    assert leads_to(BORROWING, *lent, *more, submit("back", 4500)) == ["DeploymentSubmitted"]


def test_what_is_borrowed_by_more_urgent_work_is_not_taken_back() -> None:
    lent = (submit("a", 4500, 600), submit("b", 4500, 600))
    assert leads_to(BORROWING, *lent, submit("own", 4500, tenant=BOB)) == ["DeploymentSubmitted"]


def test_between_tenants_of_one_priority_who_has_least_for_its_weight_is_next() -> None:
    past = (shared, replace(LIMITED, cpu_milli=10_000), replace(LIMITED, cpu_milli=10_000, tenant=BOB))
    asks = (
        *(submit("a1", 3000), submit("a2", 3000), submit("b1", 3000, tenant=BOB)),
        *(submit("a3", 3000), submit("b2", 3000, tenant=BOB)),
    )
    assert leads_to(past, *asks, end("b1")) == ["DeploymentEnded", "b2-1/1 on totals"]
    assert leads_to(past, *asks, end("a1")) == ["DeploymentEnded", "a3-1/1 on totals"]
    weighed = (past[0], past[1], replace(LIMITED, cpu_milli=10_000, tenant=BOB, weight=1000))
    assert leads_to(weighed, *asks, end("a1")) == ["DeploymentEnded", "b2-1/1 on totals"]


def test_a_repack_moves_what_wastes_a_gpu_and_records_its_plan() -> None:
    nodes = (
        *(created, offered("a", 40_000, 64_000, 2, "T4"), offered("b", 40_000, 64_000, 2, "T4")),
        *(submitted("x", 1, share=Share(4000, 4000, 1, 500)), placed("x-1", "a", devices=(0,))),
        *(submitted("y", 1, share=Share(4000, 4000, 1, 500)), placed("y-1", "b", devices=(0,))),
    )
    events = scheduling.decider.decide(RepackCluster(HOME, 10, 1), scheduling.decider.fold(nodes))
    plan, *_ = events
    assert isinstance(plan, ClusterRepacked)
    assert (len(plan.moves), plan.gain > 0, plan.policy) == (1, True, POLICY)
    assert names(*events) == ["ClusterRepacked", "x-1/1 repacked", "x-1/2 on b"]
    after = scheduling.decider.fold([*nodes, *events])
    assert scheduling.decider.decide(RepackCluster(HOME, 10, 1), after) == []


container_ids, node_ids = (
    st.sampled_from(["c0", "c1", "c2", "c3", "d1-1", "d2-2"]),
    st.sampled_from(["a", "a", "b"]),
)
tenants, sizes = st.sampled_from([ADA, BOB]), st.sampled_from([64, 128, 300, 512, 900])
runs, priorities = st.integers(1, 3), st.sampled_from([1, 1, 5, 950])
ids = st.sampled_from(["d1", "d2", "d3"])
wishes: st.SearchStrategy[SchedulingCommand] = st.one_of(
    st.sampled_from([offer("a", 1024, 2000), offer("a", 1024, 2000), offer("b", 512, 1000)]),
    st.builds(withdraw, node_ids),
    st.builds(ClearNode, st.just(HOME), node_ids, st.sampled_from(["drained", "lost"]), st.just(1)),
    st.builds(request, container_ids, sizes, sizes, runs),
    st.builds(release, container_ids, runs),
    st.builds(PassPlacement, st.just(HOME), container_ids, runs, st.just(1)),
    st.builds(submit, ids, sizes, priorities, st.integers(1, 3), tenant=tenants, gang=st.booleans()),
    st.builds(submit, ids, sizes, priorities, st.integers(1, 3), tenant=tenants),
    st.builds(ScaleDeployment, st.just(HOME), ids, st.integers(1, 4), st.just(1)),
    st.builds(end, ids, st.sampled_from(["completed", "cancelled"])),
    st.builds(SetQuota, st.just(HOME), tenants, st.just(1), st.sampled_from([600, 1200])),
    st.builds(LiftQuota, st.just(HOME), tenants, st.just(1)),
    st.builds(RepackCluster, st.just(HOME), st.just(3), st.just(1)),
)


@settings(deadline=None, max_examples=150)
@given_any(st.lists(wishes, min_size=10, max_size=40), st.booleans())
def test_whatever_is_asked_all_rules_hold_and_the_log_tells_it_all(
    commands: list[SchedulingCommand], is_strict: bool
) -> None:
    """Nothing oversubscribed, lost, inverted or torn; deciding changes nothing, and the state travels."""
    cluster = scheduling.decider.fold([replace(created, strict=is_strict)])
    log: list[SchedulingEvent] = [replace(created, strict=is_strict)]
    for command in commands:
        before = msgspec.json.encode(cluster, order="sorted")
        try:
            decided = scheduling.decider.decide(command, cluster)
        except Rejection:
            decided = []
        assert msgspec.json.encode(cluster, order="sorted") == before, "deciding left traces"
        opened_anew = msgspec.json.decode(before, type=Cluster)
        if decided:
            assert scheduling.decider.decide(command, opened_anew) == decided, "another handler differs"
        for event in decided:
            cluster = scheduling.decider.evolve(cluster, event)
            opened_anew = scheduling.decider.evolve(opened_anew, event)
        log += decided
        assert broken_rules(cluster) == []
        after = msgspec.json.encode(cluster, order="sorted")
        assert msgspec.json.encode(opened_anew, order="sorted") == after, "the state did not travel"
    replayed = scheduling.decider.fold(log)
    assert msgspec.json.encode(replayed, order="sorted") == msgspec.json.encode(cluster, order="sorted")
