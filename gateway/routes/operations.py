"""/, /health, /openapi.json, /docs: how the platform is, and how to speak with it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.describe import describe
from gateway.exchange import reply
from gateway.health import Health, examine
from gateway.refusals import Refused

routes = web.RouteTableDef()

DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("document", dict)
TITLE = "Stratus"
ASSETS = frozenset({"swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"})
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Stratus API</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#api", deepLinking: true});\n'


def own_version() -> str:
    try:
        return version("stratus")
    except PackageNotFoundError:
        return "0"


@routes.get("/")
@describe("What there is.", access="public")
async def welcome(request: web.Request) -> web.Response:
    endpoints = {
        "api": "/api/v1",
        "documentation": "/docs",
        "openapi": "/openapi.json",
        "health": "/health",
        "login": "/auth/login",
        "images": "/api/images",
        "containers": "/api/containers",
        "billing": "/api/billing/images",
        "route": "/route",
    }
    return reply({"message": TITLE, "version": own_version(), "endpoints": endpoints})


@routes.get("/health")
@describe("Whether the platform works, and each of its parts.", access="public", answer=Health)
async def health(request: web.Request) -> web.Response:
    found = await examine(request.app, own_version())
    return reply(found, status=503 if found.status == "unhealthy" else 200)


@routes.get("/openapi.json")
@describe("The API, described.", access="public")
async def openapi(request: web.Request) -> web.Response:
    return reply(request.app[DOCUMENT])


@routes.get("/docs")
@describe("The API, to browse and to try.", access="public")
async def docs(request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html")


@routes.get("/docs/{asset}")
@describe("What the documentation page is made of.", access="public")
async def asset(request: web.Request) -> web.StreamResponse:
    name = request.match_info["asset"]
    if name == "start.js":
        return web.Response(text=_START, content_type="text/javascript")
    if name not in ASSETS:
        raise Refused(404, "There is nothing here.")
    return web.FileResponse(_assets() / name, headers={"Cache-Control": "public, max-age=86400"})


@cache
def _assets() -> Path:
    """Where the Swagger UI lies; found without importing the package, which would bring in much else."""
    found = find_spec("swagger_ui")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "static"
