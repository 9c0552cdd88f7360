"""How much of a cluster a tenant may have, and whose turn it is between tenants.

What a quota names is a tenant's own, and taken back from those who have borrowed it;
what lies beyond can be borrowed up to a limit. Between tenants of the same priority
the one with the smallest dominant share is served first ("Dominant Resource
Fairness", NSDI 2011), each share divided by the tenant's weight.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from handlers.room import WHOLE, Need

WEIGHT = 100
MILLIONTHS = 1_000_000


class Amounts(Struct):
    """Thousandths of CPUs, MiB, thousandths of GPUs: what somebody holds, or a cluster has."""

    cpu_milli: int = 0
    memory_mib: int = 0
    gpu_milli: int = 0

    def add(self, need: Need, times: int = 1) -> None:
        """`times=-1` takes away."""
        self.cpu_milli += times * need.cpu_milli
        self.memory_mib += times * need.memory_mib
        self.gpu_milli += times * need.gpus * need.gpu_milli


class Quota(Struct):
    """Limits; None where there is none."""

    cpu_milli: int | None = None
    memory_mib: int | None = None
    gpu_milli: int | None = None
    borrow_percent: int = 0
    weight: int = WEIGHT

    def exceeded(self, held: Amounts, need: Need | None = None, *, borrowing: bool = False) -> str:
        """What would be more than is its own, or, `borrowing`, than it may have at all; '' if nothing."""
        wants = Amounts()
        if need is not None:
            wants.add(need)
        percent = 100 + (self.borrow_percent if borrowing else 0)
        for name, limit, amount in (
            ("CPU", self.cpu_milli, held.cpu_milli + wants.cpu_milli),
            ("memory", self.memory_mib, held.memory_mib + wants.memory_mib),
            ("GPU", self.gpu_milli, held.gpu_milli + wants.gpu_milli),
        ):
            if limit is not None and amount * 100 > limit * percent:
                return name
        return ""


class Accounts:
    """What each tenant holds, kept in step by `took` and `gave_back`."""

    def __init__(self, quotas: Mapping[str, Quota]) -> None:
        self.quotas, self.total = quotas, Amounts()
        self.held: dict[str, Amounts] = {}

    def offered(self, cpu_milli: int, memory_mib: int, gpus: int, times: int = 1) -> None:
        """A node's totals; `times=-1` takes them away."""
        self.total.add(Need(cpu_milli, memory_mib, gpus, WHOLE), times)

    def took(self, tenant: str, need: Need, times: int = 1) -> None:
        held = self.held.get(tenant)
        if held is None:
            held = self.held[tenant] = Amounts()
        held.add(need, times)

    def gave_back(self, tenant: str, need: Need) -> None:
        self.took(tenant, need, times=-1)

    def of(self, tenant: str) -> Amounts:
        return self.held.get(tenant) or Amounts()

    def exceeded(self, tenant: str, need: Need) -> str:
        """What the tenant may not have that much of, not even borrowed; '' if it may."""
        quota = self.quotas.get(tenant)
        return quota.exceeded(self.of(tenant), need, borrowing=True) if quota else ""

    def is_entitled(self, tenant: str, need: Need) -> bool:
        """Whether the need is the tenant's own, and nothing borrowed."""
        quota = self.quotas.get(tenant)
        return quota is not None and not quota.exceeded(self.of(tenant), need)

    def has_borrowed(self, tenant: str) -> bool:
        quota = self.quotas.get(tenant)
        return quota is not None and bool(quota.exceeded(self.of(tenant)))

    def share(self, tenant: str) -> int:
        """Millionths of what the tenant holds most of, for a weight of 100; 0 for all without quotas."""
        if not self.quotas:
            return 0
        held, total, quota = self.of(tenant), self.total, self.quotas.get(tenant)
        dominant = max(
            amount * MILLIONTHS // max(1, of)
            for amount, of in (
                (held.cpu_milli, total.cpu_milli),
                (held.memory_mib, total.memory_mib),
                (held.gpu_milli, total.gpu_milli),
            )
        )
        return dominant * WEIGHT // (quota.weight if quota else WEIGHT)
