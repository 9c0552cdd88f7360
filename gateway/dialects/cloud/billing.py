"""/api/billing and /api/dashboard, as the cloud platform had them: amounts as numbers, exact to the cent."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from gateway import billing
from gateway.billing import ImageBill
from gateway.catalog import images_of
from gateway.containers import containers_of
from gateway.describe import describe
from gateway.dialects.cloud.words import iso, number
from gateway.exchange import caller_of, now_ms, reply
from gateway.refusals import Refused
from projections.billing import Interval

routes = web.RouteTableDef()

RECENT = 10


class SummaryJson(Struct, frozen=True):
    image_id: int
    total_containers: int
    total_minutes: int
    total_cost: float
    active_containers: int
    last_activity: str


class RecordJson(Struct, frozen=True):
    id: int
    container_id: str
    start_time: str
    end_time: str | None
    duration_minutes: int
    cost: float
    status: str


class DetailJson(Struct, frozen=True):
    image_id: int
    summary: SummaryJson
    containers: list[RecordJson]


class Activity(Struct, frozen=True):
    type: str
    message: str
    timestamp: str


class Dashboard(Struct, frozen=True):
    totalImages: int
    totalContainers: int
    runningContainers: int
    recentActivity: list[Activity]


@routes.get("/api/billing/images")
@describe("What each of your images has cost, the most recent activity first.", answer=list[SummaryJson])
async def summaries(request: web.Request) -> web.Response:
    found = await billing.read(request, caller_of(request))
    return reply([_summary(one) for one in billing.bills(found, now_ms())])


@routes.get("/api/billing/images/{image_id}")
@describe("What one image has cost, run by run, the newest first.", answer=DetailJson)
async def detail(request: web.Request) -> web.Response:
    ordinal, at_ms = number(request, "image_id"), now_ms()
    found = [one for one in await billing.read(request, caller_of(request)) if one.image_ordinal == ordinal]
    if not found:
        raise Refused(404, "No billing records found for this image")
    (one,) = billing.bills(found, at_ms)
    return reply(DetailJson(ordinal, _summary(one), [_record(interval, at_ms) for interval in found]))


@routes.get("/api/dashboard")
@describe("How much you have, and what has happened lately.", answer=Dashboard)
async def dashboard(request: web.Request) -> web.Response:
    caller = caller_of(request)
    images, containers = images_of(request, caller), containers_of(request, caller)
    happened = [(image.at_ms, "image_registered", image.name) for image in images]
    happened += [(one.started_ms, "container_started", one.name) for one in containers if one.started_ms]
    happened += [(one.stopped_ms, "container_stopped", one.name) for one in containers if one.stopped_ms]
    return reply(
        Dashboard(
            totalImages=len(images),
            totalContainers=len(containers),
            runningContainers=sum(one.status == "running" for one in containers),
            recentActivity=[
                Activity(kind, f"{name} {kind.partition('_')[2]}", iso(at_ms))
                for at_ms, kind, name in sorted(happened, reverse=True)[:RECENT]
            ],
        )
    )


def _summary(one: ImageBill) -> SummaryJson:
    return SummaryJson(
        image_id=one.ordinal,
        total_containers=one.containers,
        total_minutes=one.minutes,
        total_cost=one.cents / 100,
        active_containers=one.active_containers,
        last_activity=iso(one.last_activity_ms),
    )


def _record(interval: Interval, at_ms: int) -> RecordJson:
    line = billing.line(interval, at_ms)
    return RecordJson(
        id=line.ordinal,
        container_id=line.container_id,
        start_time=iso(line.start_ms),
        end_time=None if line.end_ms is None else iso(line.end_ms),
        duration_minutes=line.minutes,
        cost=line.cents / 100,
        status="Active" if line.end_ms is None else "Completed",
    )
