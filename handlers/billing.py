"""Billing decides from when on which price counts; never for time that has passed."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict

from core.decider import Decider
from core.messages.billing import (
    BillingCommand,
    BillingEvent,
    PricesAreInThePast,
    PricesPublished,
    PublishPrices,
)


class PriceList(Struct, frozen=True):
    """The newest prices; earlier ones are history that no decision needs."""

    last: PricesPublished | None = None


def decide(command: BillingCommand, prices: PriceList) -> list[BillingEvent]:
    match command:
        case PublishPrices(minute_nanos=minute_nanos, from_ms=from_ms, at_ms=at_ms):
            last = prices.last
            if last and (last.minute_nanos, last.from_ms) == (minute_nanos, from_ms):
                return []
            if from_ms < at_ms or (last and from_ms < last.from_ms):
                raise PricesAreInThePast
            return [PricesPublished(**asdict(command))]


def evolve(prices: PriceList, event: BillingEvent) -> PriceList:
    match event:
        case PricesPublished():
            return PriceList(event)


decider = Decider(PriceList(), decide, evolve)
