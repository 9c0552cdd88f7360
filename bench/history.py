"""A busy platform's history: containers that are launched, placed, run, stopped and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import msgspec

from core.contexts import Stream, stream_of
from core.log import Commit, Decision
from core.messages.catalog import (
    ImageId,
    ImageRegistered,
    Instance,
    InstanceRetired,
    InstancesLaunched,
    Reference,
    Resources,
)
from core.messages.containers import (
    ContainerCreated,
    ContainerDeleted,
    ContainerId,
    ContainerReady,
    ContainerStarted,
    ContainerStopped,
    DeletionRequested,
    RunRequested,
    StopRequested,
)
from core.messages.fleet import NodeId, NodeRegistered
from core.messages.scheduling import (
    ClusterCreated,
    ClusterId,
    NodeOffered,
    PlacementQueued,
    PlacementReleased,
    RunPlaced,
)

CLUSTER = ClusterId("default")
SIZE = Resources(500, 512)
CONTAINERS_PER_IMAGE = 50
STATE = msgspec.Raw(b'{"filling":"' + b"x" * 200 + b'"}')
"""Commits carry their aggregate's state, which a replay has to get past."""


def happenings(containers: int) -> Iterator[tuple[str, list[Any]]]:
    """(tenant, events of one commit), about 14 events for each container."""
    yield "_", [ClusterCreated(CLUSTER, "default", 1)]
    yield "_", [NodeRegistered(NodeId("node-a"), "default", "10.0.0.1", "docker", 64_000, 1 << 20, 1)]
    yield "_", [NodeOffered(CLUSTER, "node-a", 64_000, 1 << 20)]
    image, tenant = ImageId(""), ""
    for number in range(containers):
        at = 1_700_000_000_000 + number * 1000
        if number % CONTAINERS_PER_IMAGE == 0:
            image, tenant = ImageId(f"img_{number:016x}"), f"org_{number % 7:016x}"
            host = f"site-{number}.example"
            yield (
                tenant,
                [
                    ImageRegistered(
                        image, "web", "1", Reference("web:1"), "usr_1", at, host, SIZE, 1, 99, 8080
                    )
                ],
            )
        one = ContainerId(f"ctr_{number:016x}")
        host = f"site-{number - number % CONTAINERS_PER_IMAGE}.example"
        yield (
            tenant,
            [InstancesLaunched(image, (Instance(one, "web"),), "web:1", host, SIZE, 8080, "usr_1", at)],
        )
        yield (
            tenant,
            [
                ContainerCreated(one, image, "web", "web:1", host, SIZE, 8080, "usr_1", at),
                RunRequested(one, 1, at),
            ],
        )
        yield (
            "_",
            [
                PlacementQueued(CLUSTER, tenant, one, 1, 500, 512, "", at),
                RunPlaced(CLUSTER, tenant, one, 1, "node-a"),
            ],
        )
        yield tenant, [ContainerStarted(one, 1, "node-a", f"docker{number}", "172.17.0.2", 8080, at + 300)]
        yield tenant, [ContainerReady(one, 1, at + 400)]
        yield tenant, [StopRequested(one, 1, at + 90_000), DeletionRequested(one, at + 90_000)]
        yield (
            tenant,
            [
                ContainerStopped(one, 1, "stopped", 0, "", at + 90_100),
                ContainerDeleted(one, image, at + 90_100),
            ],
        )
        yield "_", [PlacementReleased(CLUSTER, one, 1)]
        yield tenant, [InstanceRetired(image, one)]


def commits(containers: int) -> Iterator[tuple[Stream, Commit]]:
    sequence = count(1)
    for tenant, events in happenings(containers):
        number = next(sequence)
        decision = Decision(f"command-{number}", number, "bench", f"request-{number}", events)
        yield stream_of(events[0], tenant), Commit(number, number, [decision], STATE)
