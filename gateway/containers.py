"""Containers at the door: finding, starting, stopping, deleting, and seeing it happen. For every surface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from core.log import Unavailable
from core.messages.containers import DeleteContainer, StartContainer, StopContainer
from gateway.caller import Caller
from gateway.exchange import now_ms, send
from gateway.policy import POLICY
from gateway.readers import BUS, VIEWS
from gateway.refusals import Refused
from projections.containers import Container

T = TypeVar("T")


class Logs(Struct, frozen=True):
    """The end of what a container has written."""

    lines: list[str]


class _Told(Struct, frozen=True):
    lines: list[str] = []
    error: str = ""


def container_of(request: web.Request, caller: Caller, container_id: str) -> Container:
    """The caller's container; 404 for anybody else's as for none."""
    return own(caller, request.app[VIEWS].containers.container(container_id))


def own(caller: Caller, container: Container | None) -> Container:
    if container is None or container.tenant not in caller.tenants:
        raise Refused(404, "There is no such container.")
    return container


def containers_of(request: web.Request, caller: Caller) -> list[Container]:
    """In the order they were created."""
    found = request.app[VIEWS].containers.of(caller.tenants)
    return sorted(found, key=lambda container: container.ordinal)


async def start(request: web.Request, container: Container) -> None:
    command = StartContainer(container_id=container.container_id, at_ms=now_ms())
    await send(request, command, container.tenant)


async def stop(request: web.Request, container: Container) -> None:
    command = StopContainer(container_id=container.container_id, at_ms=now_ms())
    await send(request, command, container.tenant)


async def delete(request: web.Request, container: Container) -> None:
    deployment = request.app[VIEWS].deployments.of_container(container.container_id)
    if deployment is not None and deployment.outcome is None:
        raise Refused(
            409, f"It is a replica of {deployment.deployment_id}: scale that down, or cancel it, instead."
        )
    command = DeleteContainer(container_id=container.container_id, at_ms=now_ms())
    await send(request, command, container.tenant)


async def logs(request: web.Request, container: Container, tail: int) -> Logs:
    """The last lines of its latest run, asked of its node. Raises `Unavailable` when the node is away."""
    if container.node_id is None:
        return Logs([])
    question = {"container_id": container.container_id, "run": container.run, "tail": tail}
    _, data = await request.app[BUS].request(
        f"agent.{container.node_id}.logs", msgspec.json.encode(question), timeout=5.0
    )
    told = msgspec.json.decode(data, type=_Told)
    if told.error:
        raise Unavailable(f"the node can not tell: {told.error}")
    return Logs(told.lines)


async def created(request: web.Request, ids: list[str]) -> list[Container]:
    """The containers as soon as all of them exist, in whatever state."""
    pool = request.app[VIEWS].containers
    await until(request, lambda: all(pool.container(one) for one in ids) or None)
    return [container for one in ids if (container := pool.container(one))]


async def settled(request: web.Request, ids: list[str]) -> list[Container]:
    """The containers once each serves, has failed or was asked to stop; as they are when time is up."""
    pool = request.app[VIEWS].containers

    def outcome() -> list[Container] | None:
        found = [pool.container(one) for one in ids]
        return [c for c in found if c] if all(c and has_come_up(c) for c in found) else None

    return await until(request, outcome) or [c for one in ids if (c := pool.container(one))]


def has_come_up(container: Container) -> bool:
    """Whether waiting any longer would tell more."""
    return container.ready or container.status == "stopped" or not container.wanted


async def stopped(request: web.Request, container_id: str) -> Container | None:
    """The container once nothing of it runs; None if it is gone."""
    pool = request.app[VIEWS].containers
    await until(request, lambda: (c := pool.container(container_id)) is None or c.status == "stopped" or None)
    return pool.container(container_id)


async def gone(request: web.Request, container_id: str) -> None:
    pool = request.app[VIEWS].containers
    if not await until(request, lambda: pool.container(container_id) is None or None):
        raise Unavailable("the container is still stopping; it will be deleted then")


async def until(request: web.Request, outcome: Callable[[], T | None]) -> T | None:
    """What `outcome` finds, looked for after each change of the projections; None when time is up."""
    views = request.app[VIEWS]
    try:
        async with asyncio.timeout(request.app[POLICY].outcome_s):
            while (found := outcome()) is None:
                await views.change()
            return found
    except TimeoutError:
        return None
