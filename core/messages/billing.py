"""Billing: what a container-minute costs, from when on.

What is owed is no message at all: it is what the prices and the containers'
own starts and ends add up to, and is computed from them (`projections.billing`).
"""

from __future__ import annotations

from typing import Annotated, NewType

from msgspec import Meta

from core.message import Command, Event, Millis, Rejection, Token

PriceListId = NewType("PriceListId", str)
Nanos = Annotated[int, Meta(ge=0, le=10**18)]
"""Billionths of a dollar."""


class PublishPrices(Command):
    """Only for what has not begun yet: `from_ms` is not before `at_ms`, nor before the last list's."""

    price_list_id: Token
    minute_nanos: Nanos
    from_ms: Millis
    at_ms: Millis


class PricesPublished(Event):
    price_list_id: PriceListId
    minute_nanos: int
    from_ms: int
    at_ms: int


class PricesAreInThePast(Rejection):
    """Prices can not be changed for time that has passed."""


BillingCommand = PublishPrices
BillingEvent = PricesPublished
