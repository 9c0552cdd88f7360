"""/billing: what is owed, down to the interval, and what a minute costs."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from core.contexts import PLATFORM
from core.message import Millis
from core.messages.billing import Nanos, PublishPrices
from gateway import billing
from gateway.billing import Bill, ImageBill, Line
from gateway.describe import PAGING, Query, describe
from gateway.exchange import Page, body, caller_of, now_ms, page, reply, send
from gateway.readers import VIEWS
from gateway.refusals import Refused

routes = web.RouteTableDef()

PRICE_LIST = "default"
"""There is one; its stream decides that prices never change backwards."""


class Prices(Struct, frozen=True):
    """Billionths of a dollar for a container-minute that begins now."""

    minute_nanos: int
    at_ms: int


class NewPrices(Struct, frozen=True, forbid_unknown_fields=True):
    """`from_ms` is now, if not given."""

    minute_nanos: Nanos
    from_ms: Annotated[Millis | None, Meta(description="milliseconds since 1970")] = None


class ImageDetail(Struct, frozen=True):
    bill: ImageBill
    intervals: list[Line]


@routes.get("/api/v1/billing/summary")
@describe("What you owe, by image; what still runs is estimated as of now.", answer=Bill)
async def summary(request: web.Request) -> web.Response:
    return reply(billing.bill(await billing.read(request, caller_of(request))))


@routes.get("/api/v1/billing/images/{image_id}")
@describe("What you owe for one image, and the intervals that make it up.", answer=ImageDetail, errors=(404,))
async def image(request: web.Request) -> web.Response:
    found = await billing.read(request, caller_of(request), request.match_info["image_id"])
    if not found:
        raise Refused(404, "Nothing of yours has run from this image.")
    at_ms = now_ms()
    (one,) = billing.bills(found, at_ms)
    return reply(ImageDetail(one, [billing.line(interval, at_ms) for interval in found]))


@routes.get("/api/v1/billing/intervals")
@describe(
    "Your intervals, one for each run of each container.",
    answer=Page[Line],
    query=(*PAGING, Query("image_id", str, "only those of this image")),
)
async def intervals(request: web.Request) -> web.Response:
    found = await billing.read(request, caller_of(request), request.query.get("image_id"))
    at_ms = now_ms()
    lines = [billing.line(one, at_ms) for one in sorted(found, key=lambda one: one.ordinal)]
    return reply(page(request, lines, lambda line: line.ordinal))


@routes.get("/api/v1/billing/prices")
@describe("What a container-minute costs now.", answer=Prices)
async def prices(request: web.Request) -> web.Response:
    at_ms = now_ms()
    return reply(Prices(request.app[VIEWS].prices.minute_nanos(at_ms), at_ms))


@routes.post("/api/v1/billing/prices")
@describe(
    "Set the price from now or later on; what has begun keeps its price.",
    access="operator",
    body=NewPrices,
    answer=Prices,
    errors=(409,),
)
async def publish(request: web.Request) -> web.Response:
    given, at_ms = await body(request, NewPrices), now_ms()
    command = PublishPrices(
        price_list_id=PRICE_LIST,
        minute_nanos=given.minute_nanos,
        from_ms=at_ms if given.from_ms is None else given.from_ms,
        at_ms=at_ms,
    )
    await send(request, command, PLATFORM)
    return reply(Prices(request.app[VIEWS].prices.minute_nanos(command.from_ms), command.from_ms))
