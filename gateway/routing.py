"""Where a site's requests go, as its owner and the dialects may ask. The proxy asks the table itself."""

from __future__ import annotations

from aiohttp import web
from msgspec import Struct

from core.hostname import normalise
from gateway.caller import Caller
from gateway.catalog import images_of
from gateway.readers import VIEWS
from gateway.refusals import Refused
from projections.routing import Backend


class Site(Struct, frozen=True):
    """A hostname and the instances that may get its traffic right now."""

    ordinal: int
    hostname: str
    image_id: str
    backends: tuple[Backend, ...]


def sites_of(request: web.Request, caller: Caller) -> list[Site]:
    """The caller's sites, in the order their images were registered."""
    table = request.app[VIEWS].routing
    return [
        Site(image.ordinal, image.hostname, image.image_id, table.backends(image.hostname))
        for image in images_of(request, caller)
        if image.hostname
    ]


def resolve(request: web.Request, caller: Caller, raw: str) -> Site:
    """The caller's site of this name, however spelled. Refuses: 400 nonsense, 404 unknown or not theirs."""
    try:
        host = normalise(raw)
    except ValueError as no:
        raise Refused(400, f"website_url: {no}") from no
    route = request.app[VIEWS].routing.route(host)
    if route is None or route.tenant not in caller.tenants:
        raise Refused(404, "There is no site of this name.")
    image = request.app[VIEWS].catalog.image(route.image_id)
    ordinal = image.ordinal if image else 0
    return Site(ordinal, route.hostname, route.image_id, request.app[VIEWS].routing.backends(route.hostname))
