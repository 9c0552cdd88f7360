"""Whom a tenant may evict to get what is its own: those of its priority who live on borrowed capacity."""

from __future__ import annotations

from handlers.cluster import Cluster
from handlers.preemption import Choice, victims_on
from handlers.request import Request


def reclaim(cluster: Cluster, request: Request, barred: set[str], victims_max: int) -> Choice | None:
    """The least costly victims on one node, or None.

    Those of lower priority may go as well, as for anybody. Runs are not cut: who has
    borrowed a little may lose more than that with one of them. Nobody gets it back in
    return, for what is borrowed gives no right to evict equals.
    """
    books = cluster.books
    accounts = books.accounts
    if not accounts.is_entitled(request.tenant, request.need):
        return None
    borrowers = {tenant for tenant in cluster.quotas if accounts.has_borrowed(tenant)} - {request.tenant}
    best: Choice | None = None
    for node_id, runs in books.runs.items() if borrowers else ():
        if node_id in barred:
            continue
        removable = [
            run
            for run in runs.values()
            if run.yields_to(request.priority)
            or (run.tenant in borrowers and run.yields_to(request.priority + 1) and not run.gang)
        ]
        choice = victims_on(
            books.pressure, books.gangs, node_id, request.need, removable, cluster.now_ms, victims_max
        )
        if choice is not None and (best is None or choice.key < best.key):
            best = choice
    return best
