"""What the queue promises to whoever asks: an answer, once, whatever gets lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from core.bus import Bus
from core.commands import CommandQueue, Declined
from core.contexts import Stream
from core.dead import listed, park, redrive
from core.jetstream import JetStreamLog
from core.leases import Lease, Leases
from core.log import Unavailable, events_of
from core.messages.fleet import CordonNode, RegisterNode
from core.messages.names import NameId, ReserveName
from handlers.deciders import DECIDERS, STATES
from handlers.partitions import PARTITION_NAMES, Partition, put_aside
from handlers.runtime import Runtime
from tests.broker import Broker

register = RegisterNode("node-a", "default", "127.0.0.1", "docker", 2000, 4096, 1)


class Worker:
    """The write side of one handler process."""

    def __init__(self, bus: Bus) -> None:
        self.partitions: dict[str, Partition] = {}

        async def lead(name: str, lease: Lease) -> None:
            runtime = Runtime(JetStreamLog(bus), DECIDERS, STATES, lambda r, why: put_aside(bus, r, why))
            self.partitions[name] = Partition(name, bus, runtime, self.leases, lease)
            await self.partitions[name].start()

        async def lose(name: str) -> None:
            await self.partitions.pop(name).stop(1.0)

        def checkpoint(name: str) -> int:
            return self.partitions[name].checkpoint if name in self.partitions else 0

        self.leases = Leases(bus, PARTITION_NAMES, lead, lose, checkpoint)


@pytest.fixture
async def worker(bus: Bus) -> AsyncIterator[Worker]:
    worker = Worker(bus)
    await worker.leases.start()
    yield worker
    await worker.leases.resign()


async def test_a_command_becomes_an_event_and_its_position_is_the_answer(bus: Bus, worker: Worker) -> None:
    position = await CommandQueue(bus, "tester").send(register, "_", correlation="req-1")
    last = await JetStreamLog(bus).last(Stream("_", "fleet", "node-a"))
    assert last is not None
    assert last.position == position
    decision = last.commit.decisions[0]
    assert (decision.actor, decision.correlation) == ("tester", "req-1")


async def test_a_rejection_comes_back_by_its_name_and_kind(bus: Bus, worker: Worker) -> None:
    with pytest.raises(Declined) as no:
        await CommandQueue(bus, "tester").send(CordonNode("node-x", 1), "_")
    assert (no.value.rejection, no.value.kind) == ("NodeIsUnknown", "unknown")


async def test_the_same_command_id_takes_effect_once(bus: Bus, worker: Worker) -> None:
    queue = CommandQueue(bus, "tester")
    first = await queue.send(register, "_", command_id="same")
    assert await queue.send(register, "_", command_id="same") == first
    assert await JetStreamLog(bus).end() == 1


async def test_a_lost_answer_is_recovered_from_the_log(bus: Bus, broker: Broker) -> None:
    async with deafened(broker) as deaf:
        worker = Worker(deaf)
        await worker.leases.start()
        assert await CommandQueue(bus, "tester").send(register, "_") == 1
        await worker.leases.resign()


async def test_a_lost_refusal_is_heard_when_asked_again(bus: Bus, broker: Broker) -> None:
    async with deafened(broker) as deaf:
        worker = Worker(deaf)
        await worker.leases.start()
        sending = asyncio.ensure_future(CommandQueue(bus, "tester").send(CordonNode("node-x", 1), "_"))
        await asyncio.sleep(1.2)
        deaf.hearing = True
        with pytest.raises(Declined):
            await sending
        await worker.leases.resign()


async def test_without_handlers_the_command_waits_and_the_sender_is_told(bus: Bus) -> None:
    queue = CommandQueue(bus, "tester")
    with pytest.raises(Unavailable, match="accepted"):
        await queue.send(register, "_", timeout=0.3)
    worker = Worker(bus)
    await worker.leases.start()
    assert await queue.send(register, "_") == 1
    await worker.leases.resign()


async def test_a_key_that_is_no_subject_token_never_reaches_the_broker(bus: Bus) -> None:
    for key in ("a.b", "a b", "*", ">", "", "a\r\nb", "x" * 251):
        with pytest.raises(Declined) as no:
            await CommandQueue(bus, "tester").send(ReserveName(NameId(key), "me"), "_")
        assert no.value.kind == "invalid"


async def test_what_no_one_can_read_is_parked_and_the_rest_goes_on(bus: Bus, worker: Worker) -> None:
    await bus.js.publish("cmd._.fleet.node-a.RegisterNode", b"{not json")
    await bus.js.publish("cmd._.fleet.node-a.DrinkTea", b'{"type":"DrinkTea"}')
    await bus.js.publish("cmd._.nowhere.node-a.RegisterNode", b"{}")
    await CommandQueue(bus, "tester").send(register, "_")
    async with asyncio.timeout(5):
        while len(dead := await listed(bus)) < 3:
            await asyncio.sleep(0.02)
    assert {one.subject for one in dead} == {
        "cmd._.fleet.node-a.RegisterNode",
        "cmd._.fleet.node-a.DrinkTea",
        "cmd._.nowhere.node-a.RegisterNode",
    }
    assert all(one.reason.startswith("malformed") for one in dead)


async def test_a_body_for_another_address_than_its_subject_is_refused(bus: Bus, worker: Worker) -> None:
    body = b'{"type":"CordonNode","node_id":"node-b","at_ms":1}'
    await bus.js.publish("cmd._.fleet.node-a.CordonNode", body)
    await bus.js.publish("cmd.org_1.fleet.node-b.CordonNode", body)
    async with asyncio.timeout(5):
        while len(await listed(bus)) < 2:
            await asyncio.sleep(0.02)
    assert await JetStreamLog(bus).end() == 0


async def test_a_parked_command_can_be_sent_again(bus: Bus, worker: Worker) -> None:
    await put_aside_by_hand(bus)
    (dead,) = await listed(bus)
    await redrive(bus, dead)
    async with asyncio.timeout(5):
        while (last := await JetStreamLog(bus).last(Stream("_", "fleet", "node-a"))) is None:
            await asyncio.sleep(0.02)
    assert type(events_of(last)[0]).__name__ == "NodeRegistered"
    assert await listed(bus) == []


async def put_aside_by_hand(bus: Bus) -> None:
    await park(
        bus,
        "cmd._.fleet.node-a.RegisterNode",
        msgspec.json.encode(register),
        sequence=7,
        command_id="c7",
        actor="tester",
        correlation="r7",
        reason="a bug",
    )


class Deaf(Bus):
    """A connection that loses every answer to a command until it is `hearing`."""

    hearing = False

    def send(self, subject: bytes, payload: bytes, reply: bytes = b"", headers: bytes = b"") -> None:
        if self.hearing or not subject.startswith(b"_INBOX.") or reply:
            super().send(subject, payload, reply, headers)


@asynccontextmanager
async def deafened(broker: Broker) -> AsyncIterator[Deaf]:
    connection = await Deaf.connect(broker.url, "deaf")
    yield connection
    await connection.close()
