"""A clean engine for each test, and one run of the web app as an example."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.services.docker import PrivateDocker
from handlers.agents.engine import Engine, Wanted
from tests.docker import app_archive, app_binary, app_image, dockerd, remove_all

__all__ = ["app_archive", "app_binary", "app_image", "dockerd"]

NODE, PLATFORM = "node-test", "5eed5eed"


@pytest.fixture
async def engine(dockerd: PrivateDocker) -> AsyncIterator[Engine]:
    engine = Engine(dockerd.url, NODE, PLATFORM)
    yield engine
    await engine.close()
    await remove_all(dockerd)


@pytest.fixture
def absent(tmp_path: Path) -> str:
    """Where no engine answers."""
    return f"unix://{tmp_path}/nothing.sock"


@pytest.fixture
def web(app_image: str) -> Wanted:
    return Wanted(
        container_id="ctr_1",
        run=1,
        tenant="org_7",
        image_id="img_web",
        ref=app_image,
        port=8080,
        cpu_milli=250,
        memory_mib=32,
    )
