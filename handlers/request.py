"""One run that wants a place, or has one."""

from __future__ import annotations

from functools import cached_property

from msgspec import Struct

from handlers.backlog import Line
from handlers.room import Need

EVICTIONS_MAX = 3
"""After so many a request is spared, by all but the most urgent."""

URGENT = 900
"""The priority from which on nobody is spared."""


class Request(Struct, dict=True, array_like=True):
    """One run of one container; `node_id` is None while it waits. All else stays as it was asked for.

    `since_ms` is since when it has its place, or waits for one, `evictions` how often it
    has lost one. `gang` is '' but for those who run together or not at all, `deployment`
    but for a deployment's replicas; `duration_ms` is 0 if nobody knows how long it runs.

    A cluster has so many of them that they travel without the names of their fields: new
    ones go to the end.
    """

    tenant: str
    container_id: str
    run: int
    cpu_milli: int
    memory_mib: int
    node_id: str | None = None
    gpus: int = 0
    gpu_milli: int = 0
    gpu_models: tuple[str, ...] = ()
    priority: int = 0
    preemptible: bool = True
    gang: str = ""
    gang_size: int = 1
    at_ms: int = 0
    sequence: int = 0
    devices: tuple[int, ...] = ()
    since_ms: int = 0
    evictions: int = 0
    deployment: str = ""
    duration_ms: int = 0

    @cached_property
    def key(self) -> str:
        return f"{self.container_id}/{self.run}"

    @cached_property
    def need(self) -> Need:
        return Need(self.cpu_milli, self.memory_mib, self.gpus, self.gpu_milli, self.gpu_models)

    @cached_property
    def line(self) -> Line:
        return Line(self.priority, self.tenant, self.gang, None if self.gang else self.need)

    @property
    def spent(self) -> bool:
        """Whether it has been evicted as often as may be asked of it."""
        return self.evictions >= EVICTIONS_MAX

    def work(self, now_ms: int) -> int:
        """What is lost with its place: its share of a GPU, times seconds, 300 of them for starting again."""
        return self.need.weight * (300 + max(0, now_ms - self.since_ms) // 1000)

    def yields_to(self, priority: int) -> bool:
        """Only to strictly more urgent work, so that no two can take each other's place by turns."""
        return self.preemptible and self.priority < priority and (not self.spent or priority >= URGENT)
