"""The way to the sites: a visitor's request goes to a ready instance, its answer comes back as it is.

All of the data plane is behind `Proxy.relay`. Where a request may go is said by
the routing table alone, never by anything in the request but the site's name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import lru_cache
from typing import Protocol

import aiohttp
import structlog
from aiohttp import ClientSession, ClientTimeout, ClientWebSocketResponse, DummyCookieJar, TCPConnector, web
from aiohttp.abc import AbstractCookieJar
from multidict import CIMultiDict
from yarl import URL

from core.hostname import normalise
from gateway.describe import Handler
from gateway.edge import RELAYED
from gateway.exchange import CORRELATION
from gateway.forwarding import from_tenant, to_tenant
from projections.routing import Backend, Route

log = structlog.get_logger(__name__)

CONNECT_S = 2.0
IDLE_S = 3600.0
KEEPALIVE_S = 4.0  # below what common servers keep, so that we rarely write into a closing connection
CONNECTIONS_MAX = 2000
FRAME_BYTES_MAX = 16 << 20
ENTRANCE = "/route"
"""The former gateways' door to a site's front page, chosen by Host alone."""

REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})


class Table(Protocol):
    """`projections.routing.RoutingTable`, as far as the proxy needs it."""

    def route(self, host: str) -> Route | None: ...

    def backends(self, host: str) -> tuple[Backend, ...]: ...

    def choose(self, host: str) -> Backend | None: ...


class Unreachable(Exception):
    """The instance did not take the request; nothing of it has been used up."""


class Proxy:
    def __init__(self, table: Table, head_s: float) -> None:
        self._table, self._head_s = table, head_s
        jar: AbstractCookieJar = DummyCookieJar()
        self._session = ClientSession(
            connector=TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEPALIVE_S),
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=IDLE_S),
            auto_decompress=False,
            cookie_jar=jar,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        await self._session.close()

    def serves(self, host: str) -> bool:
        """Whether a Host header, as it came, is that of a site."""
        try:
            return self._table.route(_normalised(host)) is not None
        except ValueError:
            return False

    async def relay(
        self, request: web.Request, host: str, target: str, *, prefix: str = ""
    ) -> web.StreamResponse:
        """Answer with what a ready instance of the site says to `target` (path and query, as written).

        404 for a site nobody has, 503 with Retry-After while none of its
        instances is ready, 502 and 504 when one fails or is silent.
        """
        request[RELAYED] = True
        try:
            route = self._table.route(_normalised(host))
        except ValueError as no:
            return _say(400, f"Bad host: {no}.")
        if route is None:
            return _say(404, "Not found: there is no site of this name.")
        first = self._table.choose(route.hostname)
        if first is None:
            return _say(503, "No containers of this site are ready.", retry=True)
        headers = to_tenant(
            request.headers,
            host=route.hostname,
            remote=request.remote or "",
            scheme=request.scheme,
            correlation=request[CORRELATION],
            prefix=prefix,
        )
        others = [b for b in self._table.backends(route.hostname) if b != first]
        for backend in (first, *others[:1]):
            url = URL(f"http://{_authority(backend)}{target}", encoded=True)
            try:
                if _wants_websocket(request):
                    return await self._talk(request, url, headers)
                return await self._fetch(request, url, headers, boxed=bool(prefix))
            except Unreachable as no:
                log.warning("instance unreachable", container=backend.container_id, error=str(no))
            except TimeoutError:
                return _say(504, "The site did not answer in time.")
            except aiohttp.ClientError as no:
                log.warning("instance failed", container=backend.container_id, error=type(no).__name__)
                return _say(502, "The site broke off its answer.")
        return _say(503, "The site's containers can not be reached.", retry=True)

    async def _fetch(
        self, request: web.Request, url: URL, headers: CIMultiDict[str], *, boxed: bool
    ) -> web.StreamResponse:
        upstream = await self._answer(request, url, headers)
        try:
            response = web.StreamResponse(
                status=upstream.status,
                reason=upstream.reason,
                headers=from_tenant(upstream.headers, boxed=boxed),
            )
            try:
                await response.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (aiohttp.ClientError, TimeoutError, ConnectionError):  # of either side
                if request.transport is not None:
                    request.transport.abort()  # half an answer must not look like a whole one
            return response
        finally:
            upstream.release() if upstream.content.at_eof() else upstream.close()

    async def _answer(
        self, request: web.Request, url: URL, headers: CIMultiDict[str]
    ) -> aiohttp.ClientResponse:
        """The head of the answer. The clock starts anew with each piece of the visitor's body."""
        loop, has_body = asyncio.get_running_loop(), request.can_read_body

        async def body() -> AsyncIterator[bytes]:
            async for chunk in request.content.iter_any():
                if not deadline.expired() and upstream is None:
                    deadline.reschedule(loop.time() + self._head_s)
                yield chunk

        upstream: aiohttp.ClientResponse | None = None
        try:
            async with asyncio.timeout(self._head_s) as deadline:
                upstream = await self._session.request(
                    request.method,
                    url,
                    headers=headers,
                    data=body() if has_body else None,
                    allow_redirects=False,
                )
                return upstream
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as no:
            raise Unreachable(str(no)) from no
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as no:
            if request.method in REPEATABLE and not has_body:
                raise Unreachable(str(no)) from no
            raise

    async def _talk(self, request: web.Request, url: URL, headers: CIMultiDict[str]) -> web.StreamResponse:
        """A WebSocket: two of them, and everything said in one is said in the other."""
        wanted = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
        try:
            async with asyncio.timeout(self._head_s):
                upstream = await self._session.ws_connect(
                    url,
                    headers=headers,
                    protocols=[name for part in wanted.split(",") if (name := part.strip())],
                    autoping=False,
                    max_msg_size=FRAME_BYTES_MAX,
                )
        except aiohttp.WSServerHandshakeError as no:
            return _say(no.status if no.status >= 400 else 502, "The site takes no WebSocket here.")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as no:
            raise Unreachable(str(no)) from no
        chosen = (upstream.protocol,) if upstream.protocol else ()
        visitor = web.WebSocketResponse(
            protocols=chosen, autoping=False, compress=False, max_msg_size=FRAME_BYTES_MAX
        )
        try:
            await visitor.prepare(request)
            ways = [
                asyncio.create_task(_pass_on(visitor, upstream)),
                asyncio.create_task(_pass_on(upstream, visitor)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                with suppress(aiohttp.ClientError, ConnectionError):  # then that side has gone already
                    await upstream.close(code=_sendable(visitor.close_code))
                    await visitor.close(code=_sendable(upstream.close_code))
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            await upstream.close()
        return visitor


PROXY = web.AppKey("proxy", Proxy)


@web.middleware
async def sites(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A Host that is a site's gets the site, whatever the path; the API answers on all others."""
    hosts, proxy = request.headers.getall("Host", []), request.app[PROXY]
    if len(hosts) > 1:
        return _say(400, "One Host only.")
    if not hosts or not proxy.serves(hosts[0]):
        return await handler(request)
    path, question, query = request.raw_path.partition("?")
    return await proxy.relay(request, hosts[0], ("/" if path == ENTRANCE else path) + question + query)


def below(raw_path: str) -> tuple[str, str]:
    """`/apps/<host>/<rest>?<query>` as the prefix `/apps/<host>` and the target `/<rest>?<query>`."""
    path, question, query = raw_path.partition("?")
    _, apps, host, *rest = path.split("/", 3)
    return f"/{apps}/{host}", f"/{''.join(rest)}{question}{query}"


async def _pass_on(
    source: web.WebSocketResponse | ClientWebSocketResponse,
    sink: web.WebSocketResponse | ClientWebSocketResponse,
) -> None:
    async for message in source:
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                await sink.send_str(message.data)
            case aiohttp.WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            case aiohttp.WSMsgType.PING:
                await sink.ping(message.data)
            case aiohttp.WSMsgType.PONG:
                await sink.pong(message.data)
            case _:
                return


def _sendable(code: int | None) -> int:
    """The close code to pass on; 1005 and 1006 only ever exist on one side."""
    return 1000 if code in (None, 1005) else 1011 if code == 1006 else code


def _wants_websocket(request: web.Request) -> bool:
    return request.method == "GET" and request.headers.get("Upgrade", "").lower() == "websocket"


def _authority(backend: Backend) -> str:
    address = f"[{backend.address}]" if ":" in backend.address else backend.address
    return f"{address}:{backend.port}"


def _say(status: int, text: str, *, retry: bool = False) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers={"Retry-After": "1"} if retry else None)


_normalised = lru_cache(maxsize=4096)(normalise)
