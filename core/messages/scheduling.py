"""Scheduling: a cluster's capacity, allocations and queue, in one stream.

Because one stream decides all three, capacity can not be promised twice.
"""

from __future__ import annotations

from typing import Annotated, NewType

from msgspec import Meta

from core.message import Command, Event, MiB, MilliCpu, Millis, Rejection, Token, Unknown

ClusterId = NewType("ClusterId", str)
ClusterName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
Run = Annotated[int, Meta(ge=1)]


class CreateCluster(Command):
    """Reserves the name alongside."""

    cluster_id: Token
    name: ClusterName
    at_ms: Millis


class OfferNode(Command):
    """The node may be given work, up to these totals; a second offer replaces the first."""

    cluster_id: Token
    node_id: Token
    cpu_milli: MilliCpu
    memory_mib: MiB


class WithdrawNode(Command):
    """The node gets nothing new; what it holds stays until released."""

    cluster_id: Token
    node_id: Token


class RequestPlacement(Command):
    """A place for one run of a tenant's container; queued, first come first served, if none is free."""

    cluster_id: Token
    tenant: Token
    container_id: Token
    run: Run
    cpu_milli: MilliCpu
    memory_mib: MiB
    at_ms: Millis


class ReleasePlacement(Command):
    """The run has ended or is no longer wanted: frees its place, or takes it out of the queue."""

    cluster_id: Token
    container_id: Token
    run: Run


class ClusterCreated(Event):
    cluster_id: ClusterId
    name: str
    at_ms: int


class NodeOffered(Event):
    cluster_id: ClusterId
    node_id: str
    cpu_milli: int
    memory_mib: int


class NodeWithdrawn(Event):
    cluster_id: ClusterId
    node_id: str


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


class RunPlaced(Event):
    cluster_id: ClusterId
    tenant: str
    container_id: str
    run: int
    node_id: str


class PlacementReleased(Event):
    cluster_id: ClusterId
    container_id: str
    run: int


class ClusterIsUnknown(Unknown):
    """There is no such cluster."""


class ClusterExists(Rejection):
    """This cluster id is taken."""


SchedulingCommand = CreateCluster | OfferNode | WithdrawNode | RequestPlacement | ReleasePlacement
SchedulingEvent = (
    ClusterCreated | NodeOffered | NodeWithdrawn | PlacementQueued | RunPlaced | PlacementReleased
)
