"""A tenant's web app: says what it was asked, and misbehaves on request."""

from __future__ import annotations

import asyncio
import gzip

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDict


class Upstream:
    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0
        self.left = asyncio.Event()
        app = web.Application(client_max_size=64 << 20)
        app.router.add_get("/gzip", self._gzip)
        app.router.add_get("/cookies", self._cookies)
        app.router.add_get("/redirect", self._redirect)
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/cut", self._cut)
        app.router.add_get("/silent", self._silent)
        app.router.add_get("/empty", self._empty)
        app.router.add_get("/talk", self._talk)
        app.router.add_route("*", "/{path:.*}", self._echo)
        self.server = TestServer(app)

    @property
    def address(self) -> tuple[str, int]:
        assert self.server.port is not None
        return "127.0.0.1", self.server.port

    async def _echo(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(
            {
                "name": self.name,
                "method": request.method,
                "path": request.raw_path,
                "headers": [[k, v] for k, v in request.headers.items()],
                "body": (await request.read()).decode(),
            },
            headers={"Connection": "X-Hop", "X-Hop": "1", "X-Kept": "1", "Server": "tenant/1"},
        )

    async def _gzip(self, request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"packed"), headers={"Content-Encoding": "gzip"})

    async def _cookies(self, request: web.Request) -> web.Response:
        cookies = ("a=1", "b=2; Path=/", "access_token=evil", "auth-token=evil; HttpOnly")
        headers = CIMultiDict([("Set-Cookie", one) for one in cookies])
        headers["Clear-Site-Data"] = '"*"'
        return web.Response(text="ok", headers=headers)

    async def _redirect(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("http://169.254.169.254/latest/meta-data")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await response.write(b"data: one\n\n")
            await asyncio.sleep(3600)
        finally:
            self.left.set()
        return response

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _silent(self, request: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    async def _empty(self, request: web.Request) -> web.Response:
        return web.Response(status=304, headers={"ETag": '"1"'})

    async def _talk(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("chat",))
        await socket.prepare(request)
        await socket.send_str(f"{request.raw_path} {request.headers.get('Authorization', 'nobody')}")
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data == "bye":
                await socket.close(code=4001, message=b"bye")
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
            else:
                await socket.send_bytes(message.data[::-1])
        self.left.set()
        return socket
