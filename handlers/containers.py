"""Containers decides when a container may run again, and that each of its runs ends exactly once."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from msgspec.structs import asdict, replace

from core.decider import Decider
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


class Container(Struct, frozen=True):
    """What is wanted, and how far the latest run has come; all runs before it have ended.

    Once deleted its id stays taken.
    """

    created: ContainerCreated | None = None
    wanted: bool = False
    run: int = 0
    phase: Literal["requested", "started", "ready", "ended"] = "ended"
    deletion: Literal["no", "requested", "done"] = "no"

    def is_live(self, run: int) -> bool:
        return run == self.run and self.phase != "ended"


def decide(command: ContainersCommand, container: Container) -> list[ContainersEvent]:
    container_id, at_ms = ContainerId(command.container_id), command.at_ms
    match command:
        case CreateContainer():
            created = ContainerCreated(**asdict(command))
            if container.created is None:
                return [created, RunRequested(container_id=container_id, run=1, at_ms=at_ms)]
            if replace(container.created, at_ms=at_ms) == created:
                return []
            raise ContainerExists

        case _ if container.created is None:
            raise ContainerIsUnknown

        case StartContainer() | StopContainer() | RestartContainer() if container.deletion == "done":
            raise ContainerIsUnknown

        case _ if container.deletion == "done":
            return []

        case StartContainer():
            if container.wanted:
                raise ContainerIsRunning
            if container.deletion == "requested":
                raise ContainerIsUnknown("The container is being deleted.")
            if container.phase != "ended":
                raise ContainerIsRunning("The container is still stopping; try again when it has stopped.")
            return [RunRequested(container_id=container_id, run=container.run + 1, at_ms=at_ms)]

        case RestartContainer(run=run):
            if run != container.run or container.phase != "ended" or not container.wanted:
                return []
            return [RunRequested(container_id=container_id, run=run + 1, at_ms=at_ms)]

        case StopContainer():
            if not container.wanted:
                raise ContainerIsStopped
            return [StopRequested(container_id=container_id, run=container.run, at_ms=at_ms)]

        case DeleteContainer():
            if container.phase == "ended":
                return [_deleted(container.created, at_ms)]
            if container.deletion == "requested":
                return []
            deletion = DeletionRequested(container_id=container_id, at_ms=at_ms)
            if not container.wanted:
                return [deletion]
            return [StopRequested(container_id=container_id, run=container.run, at_ms=at_ms), deletion]

        case ReportStarted(run=run):
            if not container.is_live(run) or container.phase != "requested":
                return []
            return [ContainerStarted(**asdict(command))]

        case ReportReady(run=run):
            # a run that shall stop gets no traffic any more
            if not container.is_live(run) or container.phase != "started" or not container.wanted:
                return []
            return [ContainerReady(container_id=container_id, run=run, at_ms=at_ms)]

        case ReportStopped(run=run):
            if not container.is_live(run):
                return []
            stopped = ContainerStopped(**asdict(command))
            if container.deletion == "requested":
                return [stopped, _deleted(container.created, at_ms)]
            return [stopped]


def _deleted(created: ContainerCreated, at_ms: int) -> ContainerDeleted:
    return ContainerDeleted(container_id=created.container_id, image_id=created.image_id, at_ms=at_ms)


def evolve(container: Container, event: ContainersEvent) -> Container:
    match event:
        case ContainerCreated():
            return replace(container, created=event)
        case RunRequested(run=run):
            return replace(container, wanted=True, run=run, phase="requested")
        case StopRequested():
            return replace(container, wanted=False)
        case DeletionRequested():
            return replace(container, deletion="requested")
        case ContainerStarted():
            return replace(container, phase="started")
        case ContainerReady():
            return replace(container, phase="ready")
        case ContainerStopped(ending="unstartable"):
            return replace(container, phase="ended", wanted=False)  # trying again would not help
        case ContainerStopped():
            return replace(container, phase="ended")
        case ContainerDeleted():
            return replace(container, deletion="done", wanted=False)


decider = Decider(Container(), decide, evolve)
