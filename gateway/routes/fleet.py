"""/nodes: the machines, and whether they take new work."""

from __future__ import annotations

from aiohttp import web

from core.contexts import PLATFORM
from gateway.describe import PAGING, describe
from gateway.exchange import Page, caller_of, now_ms, page, reply, send
from gateway.fleet import Verb, wishes
from gateway.plans import Plan, is_plan, plan
from gateway.readers import VIEWS
from gateway.refusals import Refused
from projections.fleet import Node

routes = web.RouteTableDef()


@routes.get("/api/v1/nodes")
@describe("The machines.", answer=Page[Node], query=PAGING)
async def index(request: web.Request) -> web.Response:
    return reply(page(request, request.app[VIEWS].fleet.nodes(), lambda node: node.ordinal))


@routes.get("/api/v1/nodes/{node_id}")
@describe("One machine.", answer=Node, errors=(404,))
async def show(request: web.Request) -> web.Response:
    return reply(_node(request))


@routes.post("/api/v1/nodes/{node_id}/cordon")
@describe("Give the machine nothing new.", access="operator", answer=Node, errors=(404,), plan=Plan)
async def cordon(request: web.Request) -> web.Response:
    return await _turn(request, "cordon")


@routes.post("/api/v1/nodes/{node_id}/drain")
@describe(
    "Give the machine nothing new, and move what it runs elsewhere.",
    access="operator",
    answer=Node,
    errors=(404,),
    plan=Plan,
)
async def drain(request: web.Request) -> web.Response:
    return await _turn(request, "drain")


@routes.post("/api/v1/nodes/{node_id}/uncordon")
@describe("Give the machine work again.", access="operator", answer=Node, errors=(404,), plan=Plan)
async def uncordon(request: web.Request) -> web.Response:
    return await _turn(request, "uncordon")


async def _turn(request: web.Request, verb: Verb) -> web.Response:
    """What is wished, or what its consequence for the cluster would be."""
    wish, consequence = wishes(verb, _node(request), now_ms())
    if is_plan(request):
        return reply(await plan(request, caller_of(request), consequence))
    await send(request, wish, PLATFORM)
    return reply(_node(request))


def _node(request: web.Request) -> Node:
    node = request.app[VIEWS].fleet.node(request.match_info["node_id"])
    if node is None:
        raise Refused(404, "There is no such node.")
    return node
