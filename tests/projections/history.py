"""Histories to project: single commits by hand, or whole ones as the real deciders would write them."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import Struct

from core.contexts import Stream, stream_of
from core.log import Commit, Decision, Recorded, decode, encode
from core.message import Command, Event, Rejection
from core.messages.billing import PublishPrices
from core.messages.catalog import (
    DeleteImage,
    Instance,
    LaunchInstances,
    Reference,
    RegisterImage,
    Resources,
    RetireInstance,
)
from core.messages.containers import (
    CreateContainer,
    DeleteContainer,
    ReportReady,
    ReportStarted,
    ReportStopped,
    RestartContainer,
    StartContainer,
    StopContainer,
)
from core.messages.deployments import EndDeployment, ScaleDeployment, Share, SubmitDeployment
from core.messages.fleet import CordonNode, RegisterNode, UncordonNode
from core.messages.scheduling import (
    ClearNode,
    CreateCluster,
    OfferNode,
    PassPlacement,
    ReleasePlacement,
    RequestPlacement,
    WithdrawNode,
)
from handlers.deciders import DECIDERS

ADA, BOB = "usr_ada", "usr_bob"
SMALL = Resources(cpu_milli=100, memory_mib=64)


class History:
    """A log in the making. What is recorded has been written and read, as everything in a log has."""

    def __init__(self) -> None:
        self.recorded: list[Recorded] = []
        self.now_ms = 0
        self._states: dict[Stream, Any] = {}

    def record(self, tenant: str, *events: Event) -> Recorded:
        position = len(self.recorded) + 1
        decision = Decision(f"cmd-{position}", position, "tester", f"req-{position}", list(events))
        commit = decode(encode(Commit(1, position, [decision])))
        recorded = Recorded(stream_of(events[0], tenant), position, self.now_ms, commit)
        self.recorded.append(recorded)
        return recorded

    def do(self, command: Command, tenant: str) -> list[Recorded]:
        """What the deciders make of a command; nothing, if they decline."""
        stream = stream_of(command, tenant)
        decider = DECIDERS[stream.context]
        state = self._states.get(stream, decider.initial)
        try:
            wishes = (command, *decider.alongside(command, state))
            decided = [(wish, self._decide(wish, tenant)) for wish in wishes]
        except Rejection:
            return []
        commits = []
        for wish, events in decided:
            if events:
                self._evolve(stream_of(wish, tenant), events)
                commits.append(self.record(tenant, *events))
        return commits

    def _decide(self, command: Command, tenant: str) -> list[Event]:
        stream = stream_of(command, tenant)
        decider = DECIDERS[stream.context]
        decided: list[Event] = decider.decide(command, self._states.get(stream, decider.initial))
        return decided

    def _evolve(self, stream: Stream, events: list[Event]) -> None:
        decider = DECIDERS[stream.context]
        state = self._states.get(stream, decider.initial)
        for event in events:
            state = decider.evolve(state, event)
        self._states[stream] = state


class Step(Struct, frozen=True):
    """A wish, and how much later than the one before it is made."""

    tenant: str
    command: Any
    after_ms: int


def play(history: History, steps: list[Step]) -> None:
    for step in steps:
        history.now_ms += step.after_ms
        command = step.command
        if "at_ms" in command.__struct_fields__:
            command = msgspec.structs.replace(command, at_ms=history.now_ms)
        if isinstance(command, PublishPrices):
            command = msgspec.structs.replace(command, from_ms=history.now_ms)
        history.do(command, step.tenant)


def image(name: str, tenant: str = ADA, hostname: str | None = None, most: int = 3) -> RegisterImage:
    return RegisterImage(
        f"img_{name}", name, "1", Reference("web:1"), tenant, 0, hostname, SMALL, max_instances=most
    )


def container(name: str, image_id: str = "img_a", tenant: str = ADA) -> CreateContainer:
    return CreateContainer(f"ctr_{name}", image_id, name, "web:1", None, SMALL, 8080, tenant, 0)


def replica(container_id: str) -> CreateContainer:
    deployment_id = container_id.rpartition("-")[0]
    size = Resources(cpu_milli=100 if deployment_id == "dep_a" else 200, memory_mib=64)
    return CreateContainer(
        container_id, deployment_id, container_id, "web:1", None, size, 8080, ADA, 0, deployment_id
    )


_container = st.sampled_from([*(f"ctr_{name}" for name in "abcd"), "dep_a-1", "dep_b-1", "dep_d-1"])
_run = st.integers(1, 3)
_node = st.sampled_from(["node-1", "node-2"])
_image = st.sampled_from(["img_a", "img_b"])
_endings = st.sampled_from(["stopped", "exited", "oom", "lost", "unstartable", "evicted"])
_zero = st.just(0)
_commands = st.one_of(
    st.sampled_from([image("a", hostname="a.example"), image("b", hostname="b.example", most=2)]),
    st.builds(
        LaunchInstances,
        _image,
        st.lists(
            _container.map(lambda id: Instance(id, id.removeprefix("ctr_"))), min_size=1, max_size=3
        ).map(tuple),
        st.just(ADA),
        _zero,
    ),
    st.builds(RetireInstance, _image, _container),
    st.builds(DeleteImage, _image, _zero),
    st.builds(container, st.sampled_from("abcd"), _image),
    st.builds(StartContainer, _container, _zero),
    st.builds(StopContainer, _container, _zero),
    st.builds(DeleteContainer, _container, _zero),
    st.builds(RestartContainer, _container, _run, _zero),
    st.builds(
        ReportStarted, _container, _run, _node, _container, st.just("127.0.0.1"), st.integers(1, 9), _zero
    ),
    st.builds(ReportReady, _container, _run, _zero),
    st.builds(ReportStopped, _container, _run, _endings, st.integers(-1, 3), st.just(""), _zero),
    st.just(CreateCluster("default", "default", 0)),
    st.builds(RegisterNode, _node, st.just("default"), st.just("x"), st.just("e"), _run, st.just(128), _zero),
    st.builds(CordonNode, _node, _zero),
    st.builds(UncordonNode, _node, _zero),
    st.builds(OfferNode, st.just("default"), _node, st.just(200), st.just(128)),
    st.builds(WithdrawNode, st.just("default"), _node),
    st.builds(
        RequestPlacement,
        st.just("default"),
        st.just(ADA),
        _container,
        _run,
        st.just(100),
        st.just(64),
        _zero,
    ),
    st.builds(ReleasePlacement, st.just("default"), _container, _run),
    st.builds(PassPlacement, st.just("default"), _container, _run, _zero),
    st.builds(ClearNode, st.just("default"), _node, st.sampled_from(["drained", "lost"]), _zero),
    st.sampled_from(
        [
            SubmitDeployment("default", "dep_a", ADA, "a", "web:1", ADA, 0, Share(100, 64), replicas=2),
            SubmitDeployment(
                *("default", "dep_d", ADA, "d", "web:1", ADA, 0, Share(9, 9)), restart="on_failure"
            ),
            SubmitDeployment("default", "dep_b", ADA, "b", "web:1", ADA, 0, Share(200, 64), priority=900),
            SubmitDeployment("default", "dep_c", ADA, "c", "web:1", ADA, 0, Share(9, 9), image_id="img_a"),
        ]
    ),
    st.builds(replica, st.sampled_from(["dep_a-1", "dep_a-2", "dep_b-1", "dep_d-1"])),
    st.builds(ScaleDeployment, st.just("default"), st.just("dep_a"), _run, _zero),
    st.builds(
        EndDeployment,
        st.just("default"),
        st.sampled_from(["dep_a", "dep_b"]),
        st.sampled_from(["completed", "cancelled"]),
        _zero,
    ),
    st.builds(PublishPrices, st.just("standard"), st.integers(0, 10**9), _zero, _zero),
)
_steps = st.builds(Step, st.just(ADA), _commands, st.integers(0, 200_000))
_beginning = [
    Step(ADA, image("a", hostname="a.example"), 0),
    Step(ADA, CreateCluster("default", "default", 0), 0),
    Step(ADA, OfferNode("default", "node-1", 200, 128), 0),
    Step(ADA, container("a"), 0),
    Step(ADA, container("b", "img_b"), 0),
]


def _played(steps: list[Step]) -> History:
    history = History()
    play(history, [*_beginning, *steps])
    return history


histories = st.lists(_steps, max_size=60).map(_played)
"""Whatever may happen to two images, four containers and two nodes, in an order that makes sense or not."""
