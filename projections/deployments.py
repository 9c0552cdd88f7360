"""The deployments people have submitted, how far each has come, and what became of those that ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from core.messages.deployments import (
    DeploymentEnded,
    DeploymentId,
    DeploymentScaled,
    DeploymentsEvent,
    DeploymentSubmitted,
    Outcome,
    Restart,
    Share,
)


class Deployment(Struct, frozen=True):
    """As it was submitted. `containers` are those of its replicas, in the order in which they came.

    `outcome` is None while it lives.
    """

    deployment_id: DeploymentId
    ordinal: int
    cluster_id: str
    tenant: str
    name: str
    ref: str
    image_id: str | None
    hostname: str | None
    port: int
    owner: str
    share: Share
    replicas: int
    priority: int
    preemptible: bool
    gang: bool
    unique: bool
    duration_ms: int
    containers: tuple[str, ...]
    at_ms: int
    restart: Restart = "always"
    outcome: Outcome | None = None
    ended_ms: int | None = None


class Deployments:
    """One that has ended stays, so that people can look it up."""

    def __init__(self) -> None:
        self._deployments: dict[str, Deployment] = {}
        self._numbered: dict[int, str] = {}
        self._owned: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._named: dict[tuple[str, str], str] = {}
        self._of_container: dict[str, str] = {}
        self._made_of: defaultdict[str, list[str]] = defaultdict(list)

    def deployment(self, deployment_id: str) -> Deployment | None:
        return self._deployments.get(deployment_id)

    def numbered(self, ordinal: int) -> Deployment | None:
        return self._deployments.get(self._numbered.get(ordinal, ""))

    def named(self, tenant: str, name: str) -> Deployment | None:
        """The latest of that name."""
        return self._deployments.get(self._named.get((tenant, name), ""))

    def of_container(self, container_id: str) -> Deployment | None:
        """Whose replica it is, or was."""
        return self._deployments.get(self._of_container.get(container_id, ""))

    def of_image(self, image_id: str) -> list[Deployment]:
        """Those that live."""
        found = (self._deployments[id] for id in self._made_of.get(image_id, ()))
        return [deployment for deployment in found if deployment.outcome is None]

    def of(self, tenants: Collection[str]) -> list[Deployment]:
        """One tenant after the other, each in the order of submission."""
        owned = (id for tenant in dict.fromkeys(tenants) for id in self._owned.get(tenant, ()))
        return [self._deployments[id] for id in owned]

    def state(self) -> Any:
        return self._deployments

    def apply(self, tenant: str, position: int, event: DeploymentsEvent) -> None:
        match event:
            case DeploymentSubmitted():
                self._submit(event)
            case DeploymentScaled(deployment_id=id, replicas=replicas, added=added, removed=removed):
                if known := self._deployments.get(id):
                    kept = tuple(name for name in known.containers if name not in removed)
                    self._of_container |= dict.fromkeys(added, id)
                    self._deployments[id] = replace(known, replicas=replicas, containers=(*kept, *added))
            case DeploymentEnded(deployment_id=id, outcome=outcome, at_ms=at_ms):
                if known := self._deployments.get(id):
                    self._deployments[id] = replace(known, outcome=outcome, ended_ms=at_ms)

    def _submit(self, event: DeploymentSubmitted) -> None:
        id, ordinal = event.deployment_id, len(self._deployments) + 1
        containers = tuple(f"{id}-{number}" for number in range(1, event.replicas + 1))
        self._numbered[ordinal] = id
        self._owned[event.tenant][id] = None
        self._named[event.tenant, event.name] = id
        self._of_container |= dict.fromkeys(containers, id)
        if event.image_id is not None:
            self._made_of[event.image_id].append(id)
        self._deployments[id] = Deployment(
            deployment_id=id,
            ordinal=ordinal,
            cluster_id=event.cluster_id,
            tenant=event.tenant,
            name=event.name,
            ref=event.ref,
            image_id=event.image_id,
            hostname=event.hostname,
            port=event.port,
            owner=event.owner,
            share=event.share,
            replicas=event.replicas,
            priority=event.priority,
            preemptible=event.preemptible,
            gang=event.gang,
            unique=event.unique,
            duration_ms=event.duration_ms,
            containers=containers,
            at_ms=event.at_ms,
            restart=event.restart,
        )
