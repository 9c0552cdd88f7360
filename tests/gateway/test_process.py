"""The gateway as a process: ready when it knows everything, gone when asked, on a real broker."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from core.bus import Bus
from tests.broker import Broker, free_port


def environment(tmp_path: Path, broker: Broker, port: int, **more: str) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("STRATUS_")},
        "STRATUS_DATA_DIR": str(tmp_path / "data"),
        "STRATUS_NATS_URL": broker.url,
        "STRATUS_PORT": str(port),
        "STRATUS_HOST": "127.0.0.1",
        **more,
    }


@asynccontextmanager
async def running(module: str, environ: Mapping[str, str]) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, env=environ, stdout=PIPE)
    try:
        await said(process, "ready")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: Process, event: str) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while line := await process.stdout.readline():
            told: dict[str, Any] = msgspec.json.decode(line)
            if told["event"] == event:
                return told
    raise AssertionError(f"ended without saying {event}")


async def test_a_gateway_serves_lets_its_watchers_go_and_ends(
    tmp_path: Path, broker: Broker, bus: Bus
) -> None:
    port = free_port()
    environ = environment(tmp_path, broker, port, STRATUS_DEVELOPMENT="true")
    root = f"http://127.0.0.1:{port}"
    async with (
        running("handlers", environ),
        running("gateway", environ) as gateway,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        pair = {"email": "example@gmail.com", "password": "example123"}
        signed = await (await http.post(f"{root}/auth/login", json=pair)).json()
        about = {"Authorization": f"Bearer {signed['access_token']}"}
        image = {"name": "web", "tag": "1", "website_url": "web.example"}
        made = await http.post(f"{root}/api/images", json=image, headers=about)
        assert made.status == 200, await made.text()
        assert (await (await http.get(f"{root}/api/images", headers=about)).json())[0]["id"] == 1
        stream = await http.get(f"{root}/api/v1/events/stream", headers=about)
        gateway.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert [line async for line in stream.content][-1]
            assert await gateway.wait() == 0
    async with running("gateway", environ) as again, aiohttp.ClientSession() as http:
        images = await (await http.get(f"{root}/api/images", headers=about)).json()
        assert [one["website_url"] for one in images] == ["web.example"]
        again.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(again.wait(), 10) == 0


async def test_outside_of_development_nobody_knows_a_user(tmp_path: Path, broker: Broker, bus: Bus) -> None:
    port = free_port()
    environ = environment(tmp_path, broker, port)
    async with running("handlers", environ), running("gateway", environ), aiohttp.ClientSession() as http:
        pair = {"email": "example@gmail.com", "password": "example123"}
        answer = await http.post(f"http://127.0.0.1:{port}/auth/login", json=pair)
        assert answer.status == 401
