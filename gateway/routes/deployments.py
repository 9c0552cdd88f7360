"""/deployments: so many replicas of one image, with a priority; and why each is where it is."""

from __future__ import annotations

from aiohttp import web

from gateway import deployments
from gateway import why as reasons
from gateway.deployments import New, Scale, Shown
from gateway.describe import PAGING, describe
from gateway.exchange import Page, body, caller_of, page, reply
from gateway.plans import Plan
from gateway.why import Why
from projections.deployments import Deployment

routes = web.RouteTableDef()


@routes.post("/api/v1/deployments")
@describe(
    "Submit a deployment: each replica is placed now, or waits for its turn.",
    body=New,
    answer=Shown,
    status=201,
    errors=(404, 409),
    plan=Plan,
)
async def submit(request: web.Request) -> web.Response:
    given = await body(request, New)
    return _answer(request, await deployments.submit(request, caller_of(request), given), status=201)


@routes.get("/api/v1/deployments")
@describe("Your deployments, those that have ended included.", answer=Page[Shown], query=PAGING)
async def index(request: web.Request) -> web.Response:
    found = page(request, deployments.deployments_of(request, caller_of(request)), lambda one: one.ordinal)
    return reply(Page([deployments.shown(request, one) for one in found.items], found.next))


@routes.get("/api/v1/deployments/{deployment_id}")
@describe("One deployment.", answer=Shown, errors=(404,))
async def show(request: web.Request) -> web.Response:
    return reply(deployments.shown(request, _deployment(request)))


@routes.get("/api/v1/deployments/{deployment_id}/why")
@describe("Why each replica is where it is, or waits, and what would help.", answer=list[Why], errors=(404,))
async def why(request: web.Request) -> web.Response:
    return reply(await reasons.of_deployment(request, caller_of(request), _deployment(request)))


@routes.post("/api/v1/deployments/{deployment_id}/scale")
@describe("Have more or fewer replicas.", body=Scale, answer=Shown, errors=(404, 409), plan=Plan)
async def scale(request: web.Request) -> web.Response:
    deployment, given = _deployment(request), await body(request, Scale)
    return _answer(request, await deployments.scale(request, caller_of(request), deployment, given.replicas))


@routes.post("/api/v1/deployments/{deployment_id}/complete")
@describe(
    "It has done its work: its replicas stop, its places are free.",
    answer=Shown,
    errors=(404, 409),
    plan=Plan,
)
async def complete(request: web.Request) -> web.Response:
    deployment = _deployment(request)
    return _answer(request, await deployments.end(request, caller_of(request), deployment, "completed"))


@routes.delete("/api/v1/deployments/{deployment_id}")
@describe("Cancel it, running or not.", answer=Shown, errors=(404,), plan=Plan)
async def cancel(request: web.Request) -> web.Response:
    deployment = _deployment(request)
    return _answer(request, await deployments.end(request, caller_of(request), deployment, "cancelled"))


def _deployment(request: web.Request) -> Deployment:
    return deployments.deployment_of(request, caller_of(request), request.match_info["deployment_id"])


def _answer(request: web.Request, found: Deployment | Plan, *, status: int = 200) -> web.Response:
    """A plan has made nothing, so it is no 201."""
    if isinstance(found, Plan):
        return reply(found)
    return reply(deployments.shown(request, found), status=status)
