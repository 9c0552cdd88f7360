"""What tests of every layer share: a broker of their own, and a connection to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from core.bus import Bus
from core.jetstream import create_streams
from tests.broker import Broker


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "nats"
    folder.mkdir()
    server = Broker(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    """A connection to a broker that has the platform's streams."""
    connection = await Bus.connect(broker.url, "test")
    await create_streams(connection)
    yield connection
    await connection.close()
