"""Scheduling: a cluster's capacity, allocations and queue, in one stream.

Because one stream decides all three, capacity can not be promised twice. What is
promised is a place for one run of one container: of a deployment's replica, which
`core.messages.deployments` is about, or of an image's instance, which asks here.
"""

from __future__ import annotations

from typing import Annotated, Literal, NewType

from msgspec import Meta, Struct

from core.message import (
    AnyGpuModel,
    Command,
    Event,
    GpuModel,
    Invalid,
    MiB,
    MilliCpu,
    Millis,
    Rejection,
    Token,
    Unknown,
)
from core.messages.deployments import PRIORITY, Amount, DeploymentsCommand, DeploymentsEvent, Priority

ClusterId = NewType("ClusterId", str)
ClusterName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
Owner = Annotated[str, Meta(max_length=250, pattern=r"^[A-Za-z0-9_:%~-]*\Z")]
Run = Annotated[int, Meta(ge=1)]
Gpus = Annotated[int, Meta(ge=0, le=10_000)]
VIRTUAL = "totals"
"""The one node of a cluster that has fixed totals; no machine may be called so."""

Cause = Literal["preempted", "drained", "lost", "repacked"]


class Totals(Struct, frozen=True, forbid_unknown_fields=True):
    """What a cluster without machines of its own has in all."""

    cpu_milli: Amount
    memory_mib: Amount
    gpus: Gpus = 0


class CreateCluster(Command):
    """Reserves the name alongside. One that has `totals` has one node, as large as they are.

    `owner` is the tenant it is for, '' for everybody. In a `strict` one whoever is more
    urgent evicts as many as it takes, as often as it takes.
    """

    cluster_id: Token
    name: ClusterName
    at_ms: Millis
    owner: Owner = ""
    totals: Totals | None = None
    strict: bool = False


class OfferNode(Command):
    """The node may be given work, up to these totals; a second offer replaces the first."""

    cluster_id: Token
    node_id: Token
    cpu_milli: MilliCpu
    memory_mib: MiB
    gpus: Gpus = 0
    gpu_model: AnyGpuModel = ""
    at_ms: Millis = 0


class WithdrawNode(Command):
    """The node gets nothing new; what it holds stays until released."""

    cluster_id: Token
    node_id: Token
    at_ms: Millis = 0


class ClearNode(Command):
    """The node gets nothing new, and what it holds goes elsewhere: it is drained, or it is lost."""

    cluster_id: Token
    node_id: Token
    cause: Literal["drained", "lost"]
    at_ms: Millis


class CarryNode(Command):
    """Whose agent runs what is placed on a node that is no machine.

    What another one ran goes first, because that one was drained or lost.
    """

    cluster_id: Token
    node_id: Token
    carrier: Token
    at_ms: Millis
    cause: Literal["drained", "lost"] = "lost"


class SetQuota(Command):
    """What a tenant may always have here, and how much more while nobody else wants it.

    Amounts left out are not limited. Who wants what it is entitled to takes it back from
    those who have borrowed. Between tenants of one priority, the one that has the least
    for its `weight` is served first.
    """

    cluster_id: Token
    tenant: Token
    at_ms: Millis
    cpu_milli: Amount | None = None
    memory_mib: Amount | None = None
    gpu_milli: Annotated[int, Meta(ge=0, le=10**12)] | None = None
    borrow_percent: Annotated[int, Meta(ge=0, le=10_000)] = 0
    weight: Annotated[int, Meta(ge=1, le=1000)] = 100


class LiftQuota(Command):
    cluster_id: Token
    tenant: Token
    at_ms: Millis


class RepackCluster(Command):
    """Moves runs, one at a time, to where they waste least, as long as that gains whole GPUs or nodes."""

    cluster_id: Token
    moves_max: Annotated[int, Meta(ge=1, le=100)]
    at_ms: Millis


class RequestPlacement(Command):
    """A place for one run of a tenant's container; it waits for its turn if none is free."""

    cluster_id: Token
    tenant: Token
    container_id: Token
    run: Run
    cpu_milli: MilliCpu
    memory_mib: MiB
    at_ms: Millis
    gpus: Gpus = 0
    gpu_milli: Annotated[int, Meta(ge=1, le=1000)] = 1000
    gpu_models: Annotated[tuple[GpuModel, ...], Meta(max_length=16)] = ()
    priority: Priority = PRIORITY


class ReleasePlacement(Command):
    """The run has ended or is no longer wanted: frees its place, or takes it out of the queue."""

    cluster_id: Token
    container_id: Token
    run: Run
    at_ms: Millis = 0


class PassPlacement(Command):
    """The run has ended and there will be another: it gets the same place."""

    cluster_id: Token
    container_id: Token
    run: Run
    at_ms: Millis


class ClusterCreated(Event):
    cluster_id: ClusterId
    name: str
    at_ms: int
    owner: str = ""
    totals: Totals | None = None
    strict: bool = False


class NodeOffered(Event):
    cluster_id: ClusterId
    node_id: str
    cpu_milli: int
    memory_mib: int
    gpus: int = 0
    gpu_model: str = ""
    at_ms: int = 0


class NodeWithdrawn(Event):
    cluster_id: ClusterId
    node_id: str
    at_ms: int = 0


class NodeCarried(Event):
    cluster_id: ClusterId
    node_id: str
    carrier: str
    at_ms: int


class QuotaSet(Event):
    cluster_id: ClusterId
    tenant: str
    at_ms: int
    cpu_milli: int | None
    memory_mib: int | None
    gpu_milli: int | None
    borrow_percent: int
    weight: int


class QuotaLifted(Event):
    cluster_id: ClusterId
    tenant: str
    at_ms: int


class PlacementQueued(Event):
    """Every request is queued first, with what held it back at that moment; '' if nothing did."""

    cluster_id: ClusterId
    tenant: str
    container_id: str
    run: int
    cpu_milli: int
    memory_mib: int
    reason: str
    at_ms: int
    gpus: int = 0
    gpu_milli: int = 1000
    gpu_models: tuple[str, ...] = ()
    priority: int = PRIORITY


class RunPlaced(Event):
    """`devices` are the GPUs it gets, by their number on the node; `policy` is the version that chose."""

    cluster_id: ClusterId
    tenant: str
    container_id: str
    run: int
    node_id: str
    devices: tuple[int, ...] = ()
    policy: str = ""
    at_ms: int = 0


class RunEvicted(Event):
    """The run has to end; its container waits for another, `run + 1`, where it waited before.

    `by` is the run that needs the place more, '' if nobody does; `victims` are all that
    had to go for it. `cost` is what decided, the smallest first: victims evicted too
    often before, their highest priority, work lost, their number, GPUs and memory left over.
    """

    cluster_id: ClusterId
    tenant: str
    container_id: str
    run: int
    node_id: str
    cause: Cause
    at_ms: int
    by: str = ""
    victims: tuple[str, ...] = ()
    cost: tuple[int, ...] = ()


class NodeReserved(Event):
    """Kept free for somebody who has waited long: of all who would not yield to it."""

    cluster_id: ClusterId
    node_id: str
    container_id: str
    run: int
    at_ms: int


class PlacementReleased(Event):
    cluster_id: ClusterId
    container_id: str
    run: int
    at_ms: int = 0


class PlacementPassed(Event):
    """From `run` to the next one of the same container."""

    cluster_id: ClusterId
    container_id: str
    run: int
    at_ms: int


class Move(Struct, frozen=True):
    container_id: str
    run: int
    from_node: str
    to_node: str


class ClusterRepacked(Event):
    """What was moved, and how much waste that saves, in milli-GPU as the placement policy counts it."""

    cluster_id: ClusterId
    moves: tuple[Move, ...]
    gain: int
    policy: str
    at_ms: int


class ClusterIsUnknown(Unknown):
    """There is no such cluster."""


class ClusterExists(Rejection):
    """This cluster id is taken."""


class NodeIsNoMachine(Rejection):
    """This node stands for a cluster's totals: it can not be offered, withdrawn or cleared."""


class QuotaIsUnbounded(Invalid):
    """A quota limits at least one of cpu_milli, memory_mib and gpu_milli."""


SchedulingCommand = (
    CreateCluster
    | OfferNode
    | WithdrawNode
    | ClearNode
    | CarryNode
    | SetQuota
    | LiftQuota
    | RepackCluster
    | RequestPlacement
    | ReleasePlacement
    | PassPlacement
    | DeploymentsCommand
)
SchedulingEvent = (
    ClusterCreated
    | NodeOffered
    | NodeWithdrawn
    | NodeCarried
    | QuotaSet
    | QuotaLifted
    | PlacementQueued
    | RunPlaced
    | RunEvicted
    | NodeReserved
    | PlacementReleased
    | PlacementPassed
    | ClusterRepacked
    | DeploymentsEvent
)
