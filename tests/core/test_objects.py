"""What the object store promises, on a real broker."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from core.bus import Bus
from core.objects import PIECE_BYTES, ObjectIsDamaged, ObjectIsUnknown, Objects, TooLarge

LIMIT = 16 << 20


async def pieces(body: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


async def read(objects: Objects, name: str) -> bytes:
    return b"".join([piece async for piece in objects.get(name)])


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 30 * PIECE_BYTES + 7])
async def test_an_object_reads_back_as_it_was_stored(bus: Bus, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    body = body[:size]
    stored = await Objects(bus).put("img_1", pieces(body), LIMIT)
    assert (stored.bytes, stored.sha256) == (size, hashlib.sha256(body).hexdigest())
    assert await read(Objects(bus), "img_1") == body


async def test_two_objects_do_not_mix(bus: Bus) -> None:
    objects = Objects(bus)
    await asyncio.gather(
        objects.put("one", pieces(b"1" * 300_000), LIMIT), objects.put("two", pieces(b"2" * 300_000), LIMIT)
    )
    assert await read(objects, "one") == b"1" * 300_000
    assert await read(objects, "two") == b"2" * 300_000


async def test_what_was_never_stored_is_unknown(bus: Bus) -> None:
    with pytest.raises(ObjectIsUnknown):
        await read(Objects(bus), "nothing")


async def test_too_large_an_object_is_refused_and_leaves_nothing(bus: Bus) -> None:
    objects = Objects(bus)
    with pytest.raises(TooLarge, match="larger than 500000 bytes"):
        await objects.put("big", pieces(bytes(500_001)), 500_000)
    with pytest.raises(ObjectIsUnknown):
        await read(objects, "big")
    assert (await bus.js.stream_info("OBJECTS")).state.messages == 0


async def test_an_upload_that_breaks_off_leaves_nothing(bus: Bus) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(400_000)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await Objects(bus).put("half", broken(), LIMIT)
    assert (await bus.js.stream_info("OBJECTS")).state.messages == 0


async def test_a_deleted_object_is_unknown_and_can_be_deleted_again(bus: Bus) -> None:
    objects = Objects(bus)
    await objects.put("img_1", pieces(b"hello"), LIMIT)
    await objects.delete("img_1")
    await objects.delete("img_1")
    with pytest.raises(ObjectIsUnknown):
        await read(objects, "img_1")


async def test_an_object_that_was_tampered_with_is_not_taken_for_the_one_stored(bus: Bus) -> None:
    objects = Objects(bus)
    await objects.put("img_1", pieces(b"hello"), LIMIT)
    await bus.js.publish("obj.img_1.0", b"jello")
    with pytest.raises(ObjectIsDamaged, match="have changed"):
        await read(objects, "img_1")


async def test_a_reader_may_stop_half_way(bus: Bus) -> None:
    objects = Objects(bus)
    await objects.put("img_1", pieces(bytes(3_000_000)), LIMIT)
    async for _ in objects.get("img_1"):
        break
    assert len(await read(objects, "img_1")) == 3_000_000
