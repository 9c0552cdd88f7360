from collections.abc import AsyncIterator

import pytest

from tests.gateway.house import Client, House
from tests.projections.conftest import empty_database, pool, postgres

__all__ = ["empty_database", "pool", "postgres"]


@pytest.fixture
async def house() -> House:
    return House()


@pytest.fixture
async def http(house: House) -> AsyncIterator[Client]:
    async with house.open() as client:
        yield client


@pytest.fixture
async def anna(http: Client) -> dict[str, str]:
    """Headers that speak for a user; the first one, so the operator."""
    return await signed_in(http, "anna")


@pytest.fixture
async def bert(http: Client, anna: dict[str, str]) -> dict[str, str]:
    return await signed_in(http, "bert")


async def signed_in(http: Client, name: str) -> dict[str, str]:
    person = {"username": name, "email": f"{name}@example.com", "password": f"{name}s password"}
    assert (await http.post("/api/v1/auth/sign-up", json=person)).status == 201
    pair = {"login": name, "password": f"{name}s password"}
    answer = await http.post("/api/v1/auth/sign-in", json=pair)
    assert answer.status == 200, await answer.text()
    token = (await answer.json())["access_token"]
    http.session.cookie_jar.clear()  # tests speak for many; each says for whom
    return {"Authorization": f"Bearer {token}"}
