"""/nodes: the machines, and whether they take new work."""

from __future__ import annotations

from aiohttp import web

from core.contexts import PLATFORM
from core.messages.fleet import CordonNode, UncordonNode
from gateway.describe import PAGING, describe
from gateway.exchange import Page, now_ms, page, reply, send
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
@describe("Give the machine nothing new.", access="operator", answer=Node, errors=(404,))
async def cordon(request: web.Request) -> web.Response:
    await send(request, CordonNode(node_id=_node(request).node_id, at_ms=now_ms()), PLATFORM)
    return reply(_node(request))


@routes.post("/api/v1/nodes/{node_id}/uncordon")
@describe("Give the machine work again.", access="operator", answer=Node, errors=(404,))
async def uncordon(request: web.Request) -> web.Response:
    await send(request, UncordonNode(node_id=_node(request).node_id, at_ms=now_ms()), PLATFORM)
    return reply(_node(request))


def _node(request: web.Request) -> Node:
    node = request.app[VIEWS].fleet.node(request.match_info["node_id"])
    if node is None:
        raise Refused(404, "There is no such node.")
    return node
