"""What a vault promises, with its keys in memory and in JetStream alike."""

import asyncio
import re

import pytest

from core.vault import JetStreamKeys, Keys, MemoryKeys, Vault

ANNA, PERSON = "usr_1", {"username": "anna", "email": "anna@example.com"}


@pytest.fixture(params=["memory", "jetstream"])
def keys(request: pytest.FixtureRequest) -> Keys:
    if request.param == "memory":
        return MemoryKeys()
    return JetStreamKeys(request.getfixturevalue("bus"))


@pytest.fixture
def vault(keys: Keys) -> Vault:
    return Vault(keys, b"pepper")


async def test_what_was_sealed_is_opened(vault: Vault) -> None:
    sealed = await vault.seal(ANNA, PERSON)
    assert await vault.open(ANNA, sealed) == PERSON
    assert "anna" not in sealed


async def test_nothing_is_sealed_twice_alike(vault: Vault) -> None:
    assert await vault.seal(ANNA, PERSON) != await vault.seal(ANNA, PERSON)


async def test_one_persons_key_opens_nobody_else(vault: Vault) -> None:
    sealed = await vault.seal(ANNA, PERSON)
    await vault.seal("usr_2", PERSON)
    assert await vault.open("usr_2", sealed) is None
    assert await vault.open("usr_3", sealed) is None


async def test_what_was_tampered_with_does_not_open(vault: Vault) -> None:
    sealed = await vault.seal(ANNA, PERSON)
    other = "A" if sealed[30] != "A" else "B"
    assert await vault.open(ANNA, sealed[:30] + other + sealed[31:]) is None


async def test_who_is_forgotten_stays_forgotten_under_a_new_key(vault: Vault) -> None:
    sealed = await vault.seal(ANNA, PERSON)
    await vault.forget(ANNA)
    await vault.forget(ANNA)
    assert await vault.open(ANNA, sealed) is None
    again = await vault.seal(ANNA, PERSON)
    assert await vault.open(ANNA, sealed) is None
    assert await vault.open(ANNA, again) == PERSON


async def test_all_who_ask_at_once_get_the_same_key(keys: Keys) -> None:
    assert len(set(await asyncio.gather(*(keys.own("usr_9") for _ in range(10))))) == 1


def test_a_blind_name_says_nothing_and_depends_on_kind_and_pepper() -> None:
    one, two = Vault(MemoryKeys(), b"one"), Vault(MemoryKeys(), b"two")
    assert re.fullmatch("[0-9a-f]{64}", one.blind("email", "anna"))
    assert len({one.blind("email", "anna"), one.blind("username", "anna"), two.blind("email", "anna")}) == 3
