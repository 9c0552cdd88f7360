"""Fleet: the machines, what each can carry, and whether it takes new work."""

from __future__ import annotations

from typing import NewType

from core.message import Command, Event, MiB, MilliCpu, Millis, Text, Token, Unknown

NodeId = NewType("NodeId", str)


class RegisterNode(Command):
    """A node says what it is, at every start of its agent; only what changed becomes an event."""

    node_id: Token
    cluster_id: Token
    address: Text
    engine: Text
    cpu_milli: MilliCpu
    memory_mib: MiB
    at_ms: Millis


class CordonNode(Command):
    node_id: Token
    at_ms: Millis


class UncordonNode(Command):
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


class NodeCordoned(Event):
    """The node keeps what it runs and takes nothing new."""

    node_id: NodeId
    at_ms: int


class NodeUncordoned(Event):
    node_id: NodeId
    at_ms: int


class NodeIsUnknown(Unknown):
    """No node has been registered under this name."""


FleetCommand = RegisterNode | CordonNode | UncordonNode
FleetEvent = NodeRegistered | NodeCordoned | NodeUncordoned
