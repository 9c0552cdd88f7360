"""Containers: what is wanted of each, and each of its runs from start to end.

A container keeps its id over any number of runs. A run ends exactly once, with
`ContainerStopped`, whatever ended it; a run that never started ends so too.
"""

from __future__ import annotations

from typing import Annotated, Literal, NewType

from msgspec import Meta

from core.message import Command, Event, Millis, Port, Rejection, Text, Token, Unknown
from core.messages.catalog import Hostname, Name, Resources
from core.messages.deployments import Ref
from core.messages.scheduling import Run

ContainerId = NewType("ContainerId", str)
Ending = Literal["stopped", "exited", "oom", "lost", "unstartable", "evicted"]
"""Why a run ended: as asked; by itself; out of memory; vanished behind our back; never came to life;
had to make room."""


class CreateContainer(Command):
    """Creates it and asks for its first run. The place of a deployment's replica is the deployment's."""

    container_id: Token
    image_id: Token
    name: Name
    ref: Ref
    hostname: Hostname | None
    resources: Resources
    port: Port
    owner: Token
    at_ms: Millis
    deployment_id: Token | None = None


class StartContainer(Command):
    container_id: Token
    at_ms: Millis


class RestartContainer(Command):
    """Healing: another run after `run` ended unasked. Nothing, if that is not (or no longer) so."""

    container_id: Token
    run: Run
    at_ms: Millis


class StopContainer(Command):
    container_id: Token
    at_ms: Millis


class DeleteContainer(Command):
    """Stops it first if need be."""

    container_id: Token
    at_ms: Millis


class ReportStarted(Command):
    container_id: Token
    run: Run
    node_id: Token
    runtime_id: Token
    address: Text
    port: Port
    at_ms: Millis


class ReportReady(Command):
    """The run's port answered for the first time."""

    container_id: Token
    run: Run
    at_ms: Millis


class ReportStopped(Command):
    container_id: Token
    run: Run
    ending: Ending
    exit_code: Annotated[int, Meta(ge=-1, le=255)]
    detail: Text
    at_ms: Millis


class ContainerCreated(Event):
    container_id: ContainerId
    image_id: str
    name: str
    ref: str
    hostname: str | None
    resources: Resources
    port: int
    owner: str
    at_ms: int
    deployment_id: str | None = None


class RunRequested(Event):
    """A run is wanted from now on; `run` counts 1, 2, 3."""

    container_id: ContainerId
    run: int
    at_ms: int


class StopRequested(Event):
    container_id: ContainerId
    run: int
    at_ms: int


class DeletionRequested(Event):
    container_id: ContainerId
    at_ms: int


class ContainerStarted(Event):
    """The process runs: billing starts here, traffic only at `ContainerReady`."""

    container_id: ContainerId
    run: int
    node_id: str
    runtime_id: str
    address: str
    port: int
    at_ms: int


class ContainerReady(Event):
    container_id: ContainerId
    run: int
    at_ms: int


class ContainerStopped(Event):
    """The one end of a run. `exit_code` is -1 where there was none."""

    container_id: ContainerId
    run: int
    ending: Ending
    exit_code: int
    detail: str
    at_ms: int


class ContainerDeleted(Event):
    container_id: ContainerId
    image_id: str
    at_ms: int


class ContainerExists(Rejection):
    """This container id is taken."""


class ContainerIsUnknown(Unknown):
    """There is no such container."""


class ContainerIsRunning(Rejection):
    """The container is running already."""


class ContainerIsStopped(Rejection):
    """The container is stopped already."""


ContainersCommand = (
    CreateContainer
    | StartContainer
    | RestartContainer
    | StopContainer
    | DeleteContainer
    | ReportStarted
    | ReportReady
    | ReportStopped
)
ContainersEvent = (
    ContainerCreated
    | RunRequested
    | StopRequested
    | DeletionRequested
    | ContainerStarted
    | ContainerReady
    | ContainerStopped
    | ContainerDeleted
)
