"""Fleet: the machines, what each can carry, and whether it takes new work."""

from __future__ import annotations

from typing import Annotated, NewType

from msgspec import Meta

from core.message import AnyGpuModel, Command, Event, MiB, MilliCpu, Millis, Text, Token, Unknown

NodeId = NewType("NodeId", str)


class RegisterNode(Command):
    """A node says what it is, at every start of its agent; only what changed becomes an event.

    One that was lost has returned by that.
    """

    node_id: Token
    cluster_id: Token
    address: Text
    engine: Text
    cpu_milli: MilliCpu
    memory_mib: MiB
    at_ms: Millis
    gpus: Annotated[int, Meta(ge=0, le=10_000)] = 0
    gpu_model: AnyGpuModel = ""


class CordonNode(Command):
    node_id: Token
    at_ms: Millis


class DrainNode(Command):
    """A cordon, and what the node runs goes elsewhere."""

    node_id: Token
    at_ms: Millis


class UncordonNode(Command):
    """Ends a drain, too."""

    node_id: Token
    at_ms: Millis


class LoseNode(Command):
    """Nothing has been heard of its agent for too long."""

    node_id: Token
    at_ms: Millis


class NodeRegistered(Event):
    node_id: NodeId
    cluster_id: str
    address: str
    engine: str
    cpu_milli: int
    memory_mib: int
    at_ms: int
    gpus: int = 0
    gpu_model: str = ""


class NodeCordoned(Event):
    """The node keeps what it runs and takes nothing new."""

    node_id: NodeId
    at_ms: int


class NodeDrained(Event):
    """The node is cordoned, and what it runs goes elsewhere."""

    node_id: NodeId
    at_ms: int


class NodeUncordoned(Event):
    node_id: NodeId
    at_ms: int


class NodeLost(Event):
    """What it ran is run elsewhere, until it is registered again."""

    node_id: NodeId
    at_ms: int


class NodeIsUnknown(Unknown):
    """No node has been registered under this name."""


FleetCommand = RegisterNode | CordonNode | DrainNode | UncordonNode | LoseNode
FleetEvent = NodeRegistered | NodeCordoned | NodeDrained | NodeUncordoned | NodeLost
