"""All the deciders there are, by the name of their context."""

from __future__ import annotations

from typing import Any

from core.decider import Decider
from handlers import billing, catalog, cluster, containers, fleet, identity, names, scheduling

DECIDERS: dict[str, Decider[Any, Any, Any]] = {
    "identity": identity.decider,
    "names": names.decider,
    "catalog": catalog.decider,
    "fleet": fleet.decider,
    "scheduling": scheduling.decider,
    "containers": containers.decider,
    "billing": billing.decider,
}

STATES: dict[str, Any] = {
    "identity": identity.State,
    "names": names.Name,
    "catalog": catalog.Image,
    "fleet": fleet.Node,
    "scheduling": cluster.Cluster,
    "containers": containers.Container,
    "billing": billing.PriceList,
}
"""What each context's state is decoded as, after it has travelled in a commit."""
