"""Docker for tests: an engine of the session's own, and a web app small enough to build in each.

from tests.docker import dockerd, app_binary, app_image
"""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from core.services.docker import PrivateDocker, cannot_start_one

APP = Path(__file__).parent.parent / "gateway/cli/demo/app"
APP_REF = "stratus-app:1"


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDocker]:
    """An engine that nobody else uses, empty at first."""
    if missing := cannot_start_one():
        pytest.skip(f"no Docker engine: {missing}")
    folder = tmp_path_factory.mktemp("docker")
    engine = PrivateDocker(folder)
    with asyncio.Runner() as runner:  # its process outlives the loops of the tests
        runner.run(engine.start())
        yield engine
        runner.run(engine.stop(grace_s=0))
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def app_binary(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The demo's web server, compiled."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the app with")
    binary = tmp_path_factory.mktemp("app") / "server"
    source = APP / "server.c"
    subprocess.run(["gcc", "-O2", "-static", "-pthread", "-s", "-o", binary, source], check=True)
    return binary.read_bytes()


def tar_of(**files: bytes) -> bytes:
    """`tar_of(Dockerfile=b"FROM scratch")`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture(scope="session")
def app_archive(app_binary: bytes) -> bytes:
    """What somebody would upload."""
    return tar_of(Dockerfile=(APP / "Dockerfile").read_bytes(), server=app_binary)


@pytest.fixture(scope="session")
def app_image(dockerd: PrivateDocker, app_archive: bytes) -> str:
    """The web app, known to the session's engine under this name."""
    with asyncio.Runner() as runner:
        runner.run(build(dockerd, app_archive, APP_REF))
    return APP_REF


async def build(dockerd: PrivateDocker, archive: bytes, ref: str) -> None:
    """As anybody on the machine could."""
    async with (
        docker(dockerd) as http,
        http.post("http://docker/build", params={"t": ref}, data=archive) as response,
    ):
        said = await response.text()
        assert "Successfully tagged" in said, said


def docker(dockerd: PrivateDocker) -> aiohttp.ClientSession:
    """The engine's plain API, to look and to meddle behind the platform's back."""
    connector = aiohttp.UnixConnector(dockerd.url.removeprefix("unix://"))
    return aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/x-tar"})


async def remove_all(dockerd: PrivateDocker) -> None:
    async with docker(dockerd) as http:
        async with http.get("http://docker/containers/json", params={"all": "1"}) as response:
            containers = await response.json()
        for container in containers:
            with suppress(aiohttp.ClientError):
                await http.delete(f"http://docker/containers/{container['Id']}", params={"force": "1"})
