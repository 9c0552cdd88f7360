"""What holds for every request: a correlation id, an honest path, protective headers, where to read at."""

from __future__ import annotations

import re
import time
from urllib.parse import unquote
from uuid import uuid4

import structlog
from aiohttp import web

from gateway.describe import Handler
from gateway.exchange import CORRELATION, POSITION, reached
from gateway.policy import POLICY
from gateway.refusals import Refused, invalid, refuse

log = structlog.get_logger(__name__)

RELAYED = web.RequestKey("relayed", bool)
"""Set where the answer is a tenant's: its headers are left as they are."""

QUIET = "stratus"
"""Who answers, where somebody has to be named."""

_CORRELATION = re.compile(r"[\x21-\x7e]{1,128}")
_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_EXPOSED = "Stratus-Position, X-Correlation-ID, Retry-After"


@web.middleware
async def correlated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Outermost: names the request, so that every log line and event it leads to can be found by it."""
    given = request.headers.get("X-Correlation-ID", "")
    request[CORRELATION] = given if _CORRELATION.fullmatch(given) else uuid4().hex
    with structlog.contextvars.bound_contextvars(correlation_id=request[CORRELATION]):
        if is_crooked(request.raw_path):
            return refuse(Refused(400, "This path is not allowed: no .. segments, NUL or absolute form."))
        began = time.perf_counter()
        response = await handler(request)
        tell = log.debug if request.get(RELAYED) else log.info
        took_ms = int((time.perf_counter() - began) * 1000)
        tell("request", method=request.method, path=request.path, status=response.status, took_ms=took_ms)
        return response


@web.middleware
async def preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers what browsers ask before they let a script of a listed origin call us."""
    if (
        request.method != "OPTIONS"
        or "Access-Control-Request-Method" not in request.headers
        or request.headers.get("Origin") not in request.app[POLICY].origins
    ):
        return await handler(request)
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
            "Access-Control-Allow-Headers": wanted,
            "Access-Control-Max-Age": "600",
        },
    )


@web.middleware
async def positioned(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A read that names a `Stratus-Position` sees at least everything up to there."""
    wanted = request.headers.get("Stratus-Position")
    if wanted is not None:
        if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 16):
            raise invalid("Stratus-Position", "must be a position in the log", place="header")
        await reached(request, int(wanted))
    return await handler(request)


async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """The last word on every answer's headers, streamed ones included."""
    headers = response.headers
    if headers.get("Server") == QUIET:
        del headers["Server"]
    if CORRELATION in request:
        headers["X-Correlation-ID"] = request[CORRELATION]
    if request.get(RELAYED):
        return
    if POSITION in request:
        headers["Stratus-Position"] = str(request[POSITION])
    headers["X-Content-Type-Options"] = "nosniff"
    headers["X-Frame-Options"] = "DENY"
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Cache-Control", "no-store")
    headers.add("Vary", "Origin")
    origin = request.headers.get("Origin", "")
    if origin in request.app[POLICY].origins:
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Allow-Credentials"] = "true"
        headers["Access-Control-Expose-Headers"] = _EXPOSED
    if response.content_type == "text/html":
        headers["Content-Security-Policy"] = _PAGE_POLICY


def is_crooked(raw_path: str) -> bool:
    """Whether some server behind us might read this request target as another one."""
    if not raw_path.startswith("/"):
        return raw_path != "*"
    path = unquote(raw_path.partition("?")[0], errors="replace").replace("\\", "/")
    return "\0" in path or ".." in path.split("/")
