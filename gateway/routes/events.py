"""/events: what has happened to your things, live, and as far back as the log goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

import msgspec
from aiohttp import web
from msgspec import Struct

from core.log import Recorded
from gateway.admission import is_still_in
from gateway.database import LEDGER, caught_up
from gateway.describe import Query, describe
from gateway.events import Line, lines
from gateway.exchange import PAGE_MAX, caller_of, reply, whole
from gateway.feed import Feed, FellBehind
from gateway.refusals import Refused, invalid
from projections.audit import Entry, search

routes = web.RouteTableDef()

FEED = web.AppKey("feed", Feed)
WATCHERS: web.AppKey[Counter[str]] = web.AppKey("watchers", Counter)
WATCHERS_MAX = 20
"""Streams open at once, for each user and gateway."""
HEARTBEAT_S = 15.0
WRITE_S = 30.0
FILTERS = ("context", "key", "event", "actor", "correlation")


class History(Struct, frozen=True):
    """`next` goes into `before` to get what came earlier; null at the beginning."""

    items: list[Entry]
    next: int | None


@routes.get("/api/v1/events/stream")
@describe(
    "Events as they happen (SSE). The id of each is its position; Last-Event-ID resumes after it.",
    answer=Line,
    media="text/event-stream",
    errors=(429,),
    query=(Query("after", int, "start after this position; from now on, if not given"),),
)
async def stream(request: web.Request) -> web.StreamResponse:
    caller, feed, watchers = caller_of(request), request.app[FEED], request.app[WATCHERS]
    after = _resume_from(request, feed)
    if watchers[caller.user_id] >= WATCHERS_MAX:
        raise Refused(429, "You have too many event streams open.", {"Retry-After": "15"})
    watchers[caller.user_id] += 1
    try:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        await _tell(request, response, feed.read(after))
        return response
    finally:
        watchers[caller.user_id] -= 1


@routes.get("/api/v1/events")
@describe(
    "What has happened to your things, the newest first.",
    answer=History,
    query=(
        Query("limit", int, "how many at most, 1 to 1000; 100 if not given"),
        Query("before", int, "the `next` of the page before"),
        *(Query(name, str, f"only with this {name}") for name in FILTERS),
    ),
)
async def history(request: web.Request) -> web.Response:
    limit = whole(request, "limit", 100, least=1, most=PAGE_MAX)
    before = whole(request, "before", 1 << 53, least=1, most=1 << 53)
    wanted = {name: request.query[name] for name in FILTERS if name in request.query}
    for name, value in wanted.items():
        if "\0" in value:
            raise invalid(name, "must not contain NUL", place="query")
    async with request.app[LEDGER].reading() as database:
        await caught_up(request, database, "audit")
        at_most = limit
        while True:
            found = await search(
                database, caller_of(request).tenants, **wanted, before=before, limit=at_most + 1
            )
            if len(found) <= at_most:
                return reply(History(found, None))
            cut = found[-1].position  # not all of this commit has come: the next page begins with it
            if whole_commits := [entry for entry in found if entry.position != cut]:
                return reply(History(whole_commits, cut + 1))
            at_most *= 10


async def _tell(
    request: web.Request, response: web.StreamResponse, batches: AsyncGenerator[list[Recorded], None]
) -> None:
    """Until the reader goes, is too slow, or may not come in any more."""
    caller = caller_of(request)
    waiting = asyncio.ensure_future(anext(batches))
    try:
        await _write(response, b": stream open\n\n")
        while is_still_in(request, caller):
            done, _ = await asyncio.wait((waiting,), timeout=HEARTBEAT_S)
            if not done:
                await _write(response, b": still here\n\n")
                continue
            told = b"".join(_frames(list(lines(one, caller.tenants))) for one in waiting.result())
            if told:
                await _write(response, told)
            waiting = asyncio.ensure_future(anext(batches))
    except StopAsyncIteration:
        return  # this gateway is going; another one will read on
    except FellBehind:
        await _write(response, b"event: behind\ndata: reconnect to read on\n\n")
    except TimeoutError:
        return  # the reader does not read; it may come back and resume
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await batches.aclose()


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_S):
        await response.write(data)


def _frames(commit: list[Line]) -> bytes:
    """Only the last event of a commit carries the id: whoever resumes has seen the commit whole."""
    told = [
        b"event: %s\ndata: %s\n" % (one.event["type"].encode(), msgspec.json.encode(one)) for one in commit
    ]
    return b"\n".join(told) + b"id: %d\n\n" % commit[-1].position if told else b""


def _resume_from(request: web.Request, feed: Feed) -> int:
    for name, place, raw in (
        ("Last-Event-ID", "header", request.headers.get("Last-Event-ID")),
        ("after", "query", request.query.get("after")),
    ):
        if raw is not None:
            if not (raw.isascii() and raw.isdigit() and len(raw) < 16):
                raise invalid(name, "must be a position in the log", place=place)
            return int(raw)
    return feed.end
