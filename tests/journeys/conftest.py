"""A whole platform: every process real, on free ports, in a temporary folder, gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from gateway.cli.demo.stage import Stage


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="stratus-test-") as folder:
        one = Stage(Path(folder))
        try:
            await one.start()
            await one.sign_in("example@gmail.com", "example123")
            yield one
        finally:
            await one.clear()
