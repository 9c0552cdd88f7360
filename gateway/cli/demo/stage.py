"""A platform of the demo's own: started, spoken to over HTTP, and taken down again."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import click

from core.services.running import Running

APP = Path(__file__).parent / "app"
START_S = 60.0


class Failed(Exception):
    """A step did not hold."""


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self._platform: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None
        self._token = ""

    @property
    def http(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        return self._http

    async def start(self) -> Running:
        """`stratus up`. Raises `Failed`."""
        arguments = ("up", "--data", str(self.folder), "--port", self.url.rpartition(":")[2])
        self._platform = await asyncio.create_subprocess_exec(
            *stratus(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"STRATUS_DEVELOPMENT": "1"},
            start_new_session=True,  # Ctrl-C is for the demo, which then ends it in order
        )
        said = []
        assert self._platform.stdout is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                async for line in self._platform.stdout:
                    said.append(line.decode())
                    if said[-1].startswith("Ready"):
                        running = Running.read(self.folder)
                        assert running is not None
                        return running
        raise Failed("the platform did not start:\n" + "".join(said[-15:]))

    async def sign_in(self, login: str, password: str) -> None:
        body = {"login": login, "password": password}
        self._token = (await self.ask("POST", "/api/v1/auth/sign-in", json=body))["access_token"]

    async def ask(self, method: str, path: str, *, idempotency_key: str = "", **body: Any) -> Any:
        """The answer's JSON. Raises `Failed` with the platform's own words."""
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        async with self.http.request(method, self.url + path, headers=headers, **body) as answer:
            if answer.status >= 400:
                raise Failed(f"{method} {path}: {answer.status} {await answer.text()}")
            return await answer.json(content_type=None)

    async def visit(self, hostname: str) -> tuple[int, str]:
        """One request through the proxy, as a browser would make it."""
        async with self.http.get(self.url, headers={"Host": hostname}) as answer:
            return answer.status, await answer.text()

    async def kill_behind_its_back(self, docker_url: str, runtime_id: str) -> None:
        connector = aiohttp.UnixConnector(docker_url.removeprefix("unix://"))
        async with (
            aiohttp.ClientSession(connector=connector) as engine,
            engine.post(f"http://docker/containers/{runtime_id}/kill") as answer,
        ):
            if answer.status != 204:
                raise Failed(f"the engine would not kill {runtime_id[:12]}: {await answer.text()}")

    async def show_logs(self) -> None:
        for path in sorted(self.folder.glob("logs/*.log")):
            lines = path.read_text(errors="replace").splitlines()
            errors = [line for line in lines if '"error"' in line or '"critical"' in line][-5:]
            for line in errors:
                click.echo(f"{path.stem}: {line[:400]}", err=True)

    async def clear(self) -> None:
        """Ends the platform in order, and its containers with it."""
        if self._http is not None:
            await self._http.close()
        platform = self._platform
        if platform is None or platform.returncode is not None:
            return
        assert platform.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            platform.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(30):
                await platform.stdout.read()
                await platform.wait()
        except TimeoutError:
            platform.kill()
            await platform.wait()


def stratus(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", "from gateway.cli import main; main(prog_name='stratus')", *arguments)


async def packed_app() -> bytes:
    """The app's folder with its server compiled, as the tar a person would upload. Raises `Failed`."""
    packed = io.BytesIO()
    binary = await _compiled(APP / "server.c")
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(APP / "Dockerfile", "Dockerfile")
        entry = tarfile.TarInfo("server")
        entry.size, entry.mode = len(binary), 0o755
        archive.addfile(entry, io.BytesIO(binary))
    return packed.getvalue()


async def _compiled(source: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "server"
        arguments = ("gcc", "-O2", "-static", "-pthread", "-s", "-o", str(binary), str(source))
        try:
            gcc = await asyncio.create_subprocess_exec(*arguments, stderr=subprocess.PIPE)
        except FileNotFoundError:
            raise Failed("gcc is not installed: `apt-get install gcc libc6-dev`") from None
        _, complaint = await gcc.communicate()
        if gcc.returncode:
            raise Failed(f"gcc can not compile the app: {complaint.decode()}")
        return binary.read_bytes()
