"""What is owed, at the door: intervals added up as they are shown, so that every sum can be checked."""

from __future__ import annotations

from itertools import groupby

from aiohttp import web
from msgspec import Struct

from gateway.caller import Caller
from gateway.database import LEDGER, caught_up
from gateway.exchange import now_ms
from projections.billing import Interval, cents, dollars, intervals


class Line(Struct, frozen=True):
    """One run of one container. While it lives, `end_ms` is null and the rest is what it comes to by now."""

    ordinal: int
    container_id: str
    container_name: str
    run: int
    start_ms: int
    end_ms: int | None
    minutes: int
    minute_nanos: int
    cents: int


class ImageBill(Struct, frozen=True):
    """`cents` is the sum of the lines' cents, `total` the same in dollars."""

    image_id: str
    ordinal: int
    name: str
    containers: int
    active_containers: int
    minutes: int
    cents: int
    total: str
    last_activity_ms: int


class Bill(Struct, frozen=True):
    """`at_ms` is when everything that still runs was estimated."""

    at_ms: int
    minutes: int
    cents: int
    total: str
    images: list[ImageBill]


async def read(request: web.Request, caller: Caller, image_id: str | None = None) -> list[Interval]:
    """The caller's intervals, newest start first, as of everything this gateway has seen.

    Raises `Unavailable` while the database is away or behind.
    """
    async with request.app[LEDGER].reading() as database:
        await caught_up(request, database, "billing")
        return await intervals(database, caller.tenants, image_id)


def line(interval: Interval, at_ms: int) -> Line:
    return Line(
        ordinal=interval.ordinal,
        container_id=interval.container_id,
        container_name=interval.container_name,
        run=interval.run,
        start_ms=interval.start_ms,
        end_ms=interval.end_ms,
        minutes=interval.minutes(at_ms),
        minute_nanos=interval.minute_nanos,
        cents=cents(interval.amount_nanos(at_ms)),
    )


def bills(found: list[Interval], at_ms: int) -> list[ImageBill]:
    """One bill for each image, the most recent activity first."""
    by_image = groupby(sorted(found, key=lambda one: one.image_id), key=lambda one: one.image_id)
    made = [_bill(list(group), at_ms) for _, group in by_image]
    return sorted(made, key=lambda one: (one.last_activity_ms, one.ordinal), reverse=True)


def bill(found: list[Interval]) -> Bill:
    at_ms = now_ms()
    made = bills(found, at_ms)
    owed = sum(one.cents for one in made)
    return Bill(at_ms, sum(one.minutes for one in made), owed, dollars(owed), made)


def _bill(found: list[Interval], at_ms: int) -> ImageBill:
    owed = sum(cents(one.amount_nanos(at_ms)) for one in found)
    return ImageBill(
        image_id=found[0].image_id,
        ordinal=found[0].image_ordinal,
        name=found[0].image_name,
        containers=len({one.container_id for one in found}),
        active_containers=len({one.container_id for one in found if one.end_ms is None}),
        minutes=sum(one.minutes(at_ms) for one in found),
        cents=owed,
        total=dollars(owed),
        last_activity_ms=max(one.start_ms if one.end_ms is None else one.end_ms for one in found),
    )
